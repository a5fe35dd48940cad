/**
 * Keeps model files in the origin private file system, byte range by byte range as they arrive.
 *
 * A stored file has a sidecar that lists the ranges it holds; a later load reads those locally and
 * fetches the rest, so an interrupted download goes on where it was. One tab writes a file, others
 * wait for it; where the file system is missing or full, bytes come from the network alone.
 */

import { throwIfStopped } from "./errors.ts";
import {
  BlobSource,
  type ByteSource,
  checkRange,
  collect,
  HandleSource,
  type SyncHandle,
  UrlSource,
} from "./sources.ts";

const FOLDER = "tilewright-models";

/** What is known of a stored file. `ranges` are sorted, disjoint [from, to) pairs. */
export interface StoredFile {
  url: string;
  size: number;
  etag: string | null;
  ranges: [number, number][];
}

/** Add a range to a sorted list of disjoint ones, joining neighbours. */
export function addRange(ranges: [number, number][], from: number, to: number): void {
  const kept = ranges.filter(([start, end]) => end < from || start > to);
  for (const [start, end] of ranges) {
    if (end >= from && start <= to) {
      from = Math.min(from, start);
      to = Math.max(to, end);
    }
  }
  kept.push([from, to]);
  kept.sort((a, b) => a[0] - b[0]);
  ranges.splice(0, ranges.length, ...kept);
}

/** Return how far from `offset` on the bytes are present (`true`) or missing (`false`). */
export function runAt(
  ranges: readonly [number, number][],
  offset: number,
  end: number,
): [present: boolean, to: number] {
  for (const [from, to] of ranges) {
    if (offset >= from && offset < to) return [true, Math.min(to, end)];
    if (from > offset) return [false, Math.min(from, end)];
  }
  return [false, end];
}

/** Open a model by its address: stored bytes first, the network for the others. */
export async function openStored(
  url: string,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<ByteSource> {
  let folder: FileSystemDirectoryHandle;
  let name: string;
  try {
    const root = await navigator.storage.getDirectory();
    folder = await root.getDirectoryHandle(FOLDER, { create: true });
    name = await storedName(url);
  } catch (error) {
    notKept(url, error);
    return UrlSource.open(url, headers, signal);
  }
  for (;;) {
    const known = await readSidecar(folder, name, url);
    if (known && isComplete(known)) return openComplete(folder, name, known);
    const unlock = await tryLock(name);
    if (unlock) return openPartial(folder, name, unlock, known, url, headers, signal);
    // Another tab is fetching this file: one download serves both, as long as it moves.
    if (!(await unlocked(folder, name, signal))) return UrlSource.open(url, headers, signal);
  }
}

function notKept(url: string, error: unknown): void {
  console.warn(`${fileName(url)} is not kept for the next visit: ${String(error)}`);
}

function isComplete({ ranges, size }: StoredFile): boolean {
  return ranges.length === 1 && ranges[0]![0] === 0 && ranges[0]![1] === size;
}

/** Open a whole file for reading; any number of tabs may. */
async function openComplete(
  folder: FileSystemDirectoryHandle,
  name: string,
  { url, size }: StoredFile,
): Promise<ByteSource> {
  try {
    const handle = await openHandle(folder, name, "read-only");
    return new HandleSource(handle, fileName(url), size);
  } catch {
    // A browser without shared handles, and another tab has the only one.
    const file = await (await folder.getFileHandle(name)).getFile();
    return new BlobSource(file, fileName(url), true);
  }
}

async function openPartial(
  folder: FileSystemDirectoryHandle,
  name: string,
  unlock: () => void,
  known: StoredFile | undefined,
  url: string,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<ByteSource> {
  let data: SyncHandle | undefined;
  try {
    const network = await UrlSource.open(url, headers, signal);
    const etag = network instanceof UrlSource ? network.etag : null;
    const same = known && known.size === network.size && known.etag === etag;
    const stored = same ? known : { url, size: network.size, etag, ranges: [] };
    try {
      data = await openHandle(folder, name, "readwrite");
      const sidecar = await openHandle(folder, `${name}.json`, "readwrite");
      const reopen = () => openComplete(folder, name, stored);
      return new StoringSource(network, data, sidecar, stored, unlock, reopen);
    } catch (error) {
      data?.close();
      unlock();
      notKept(url, error);
      return network;
    }
  } catch (error) {
    unlock();
    throw error;
  }
}

/** Take the right to write a file; undefined when another tab (or an older worker) has it. */
function tryLock(name: string): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    const held = (lock: Lock | null) => {
      if (!lock) return resolve(undefined);
      return new Promise<void>((release) => resolve(release));
    };
    navigator.locks.request(`${FOLDER}/${name}`, { ifAvailable: true }, held).catch(reject);
  });
}

/** Wait until the file's writer is done (`true`), or has written nothing for `STALL_MS`. */
async function unlocked(
  folder: FileSystemDirectoryHandle,
  name: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const length = async () => {
    try {
      return (await (await folder.getFileHandle(name)).getFile()).size;
    } catch {
      return 0; // not made yet
    }
  };
  let size = await length();
  for (let silent = 0; silent < STALL_MS; silent += WATCH_MS) {
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    throwIfStopped(signal);
    const unlock = await tryLock(name);
    if (unlock) {
      unlock();
      return true;
    }
    const now = await length();
    if (now !== size) silent = 0;
    size = now;
  }
  return false;
}

/** Forget a stored model; returns whether there was one. */
export async function removeStored(url: string): Promise<boolean> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(FOLDER, { create: true });
  const name = await storedName(url);
  try {
    await folder.removeEntry(name);
    await folder.removeEntry(`${name}.json`);
    return true;
  } catch {
    return false;
  }
}

function fileName(url: string): string {
  return decodeURIComponent(new URL(url).pathname.split("/").pop() || url);
}

async function storedName(url: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return [...new Uint8Array(digest).subarray(0, 16)]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

async function openHandle(
  folder: FileSystemDirectoryHandle,
  name: string,
  mode: "readwrite" | "read-only",
): Promise<SyncHandle> {
  const handle = await folder.getFileHandle(name, { create: mode === "readwrite" });
  const withSync = handle as unknown as {
    createSyncAccessHandle(options: { mode: string }): Promise<SyncHandle>;
  };
  return withSync.createSyncAccessHandle({ mode });
}

async function readSidecar(
  folder: FileSystemDirectoryHandle,
  name: string,
  url: string,
): Promise<StoredFile | undefined> {
  try {
    const file = await (await folder.getFileHandle(`${name}.json`)).getFile();
    const found = JSON.parse(await file.text()) as StoredFile;
    return found.url === url ? found : undefined;
  } catch {
    return undefined; // none, or half written when the tab was closed: fetched again
  }
}

/** Bytes of the file that may be written, and how long, before the sidecar says so. */
const NOTE_EVERY = 16 * 1024 * 1024;
const NOTE_MS = 1000;
/** How often a file that another tab writes is looked at, and how long it may stand still. */
const WATCH_MS = 200;
const STALL_MS = 20_000;

/** A network source whose bytes are kept as they pass. */
class StoringSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #network: ByteSource;
  readonly #data: SyncHandle;
  readonly #sidecar: SyncHandle;
  readonly #known: StoredFile;
  readonly #unlock: () => void;
  readonly #reopen: () => Promise<ByteSource>;
  /** Reads what is stored: the handle that also writes, then the complete file. */
  #local: ByteSource;
  #keeps = true;
  #writes = true;
  #unnoted = 0;
  #notedAt = performance.now();

  constructor(
    network: ByteSource,
    data: SyncHandle,
    sidecar: SyncHandle,
    known: StoredFile,
    unlock: () => void,
    reopen: () => Promise<ByteSource>,
  ) {
    this.name = network.name;
    this.size = network.size;
    this.#network = network;
    this.#data = data;
    this.#local = new HandleSource(data, network.name, network.size);
    this.#sidecar = sidecar;
    this.#known = known;
    this.#unlock = unlock;
    this.#reopen = reopen;
    if (known.ranges.length === 0) {
      sidecar.truncate(0); // it may describe another version of the file
      sidecar.flush();
      data.truncate(0);
    }
  }

  get stored(): boolean {
    return this.#keeps;
  }

  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    return collect(this.stream(offset, length, signal), length);
  }

  async *stream(offset: number, length: number, signal?: AbortSignal) {
    checkRange(this, offset, length);
    const end = offset + length;
    for (let at = offset; at < end; ) {
      throwIfStopped(signal);
      const [present, to] = runAt(this.#known.ranges, at, end);
      const from = present ? this.#local : this.#network;
      for await (const piece of from.stream(at, to - at, signal)) {
        if (!present) this.#keep(piece, at);
        at += piece.length;
        yield piece;
      }
    }
  }

  /** Fetch what no tensor needed (gaps, mostly), then let other tabs read the whole file. */
  async settle(): Promise<void> {
    if (!this.#writes) return;
    for (let at = 0; this.#keeps && at < this.size; ) {
      const [present, to] = runAt(this.#known.ranges, at, this.size);
      if (!present) for await (const _ of this.stream(at, to - at));
      at = to;
    }
    this.#note();
    if (!this.#keeps || !this.#writes) return;
    this.#release();
    this.#local = await this.#reopen();
  }

  #keep(piece: Uint8Array, at: number): void {
    if (!this.#keeps || !this.#writes) return;
    try {
      const written = this.#data.write(piece, { at });
      if (written !== piece.length) throw new Error("no more room");
      addRange(this.#known.ranges, at, at + piece.length);
      this.#unnoted += piece.length;
      const due = performance.now() - this.#notedAt >= NOTE_MS;
      if (due || this.#unnoted >= NOTE_EVERY) this.#note();
    } catch (error) {
      this.#keeps = false; // the quota is used up: go on without keeping
      notKept(this.#known.url, error);
    }
  }

  /** The data is flushed before the sidecar claims it, so a killed tab loses, but never lies. */
  #note(): void {
    if (this.#unnoted === 0 || !this.#writes) return;
    this.#unnoted = 0;
    this.#notedAt = performance.now();
    const text = new TextEncoder().encode(JSON.stringify(this.#known));
    this.#data.flush();
    this.#sidecar.truncate(0);
    this.#sidecar.write(text, { at: 0 });
    this.#sidecar.flush();
  }

  #release(): void {
    this.#writes = false;
    this.#data.close();
    this.#sidecar.close();
    this.#network.close();
    this.#unlock();
  }

  close(): void {
    if (!this.#writes) return this.#local.close();
    try {
      this.#note();
    } catch (error) {
      notKept(this.#known.url, error);
    }
    this.#release();
  }
}
