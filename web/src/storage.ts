/**
 * Keeps model files in the origin private file system, byte range by byte range as they arrive.
 *
 * A stored file has a sidecar that lists the ranges it holds; a later load reads those locally and
 * fetches the rest, so an interrupted download goes on where it was. Where the file system is
 * missing, full, or the file is open in another tab, bytes come from the network alone.
 */

import { throwIfStopped } from "./errors.ts";
import {
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
  let files: [SyncHandle, SyncHandle] | undefined;
  try {
    files = await openFiles(url);
  } catch {
    return UrlSource.open(url, headers, signal);
  }
  const [data, sidecar] = files;
  try {
    const known = readSidecar(sidecar, url);
    const complete = known && runAt(known.ranges, 0, known.size)[1] === known.size;
    if (known && complete && known.ranges.length === 1) {
      sidecar.close();
      return new HandleSource(data, fileName(url), known.size);
    }
    const network = await UrlSource.open(url, headers, signal);
    const etag = network instanceof UrlSource ? network.etag : null;
    const same = known && known.size === network.size && known.etag === etag;
    const stored = same ? known : { url, size: network.size, etag, ranges: [] };
    return new StoringSource(network, data, sidecar, stored);
  } catch (error) {
    data.close();
    sidecar.close();
    throw error;
  }
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

async function openFiles(url: string): Promise<[SyncHandle, SyncHandle]> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(FOLDER, { create: true });
  const name = await storedName(url);
  const open = async (file: string) => {
    const handle = await folder.getFileHandle(file, { create: true });
    const withSync = handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> };
    return withSync.createSyncAccessHandle();
  };
  const data = await open(name);
  try {
    return [data, await open(`${name}.json`)];
  } catch (error) {
    data.close();
    throw error;
  }
}

function readSidecar(sidecar: SyncHandle, url: string): StoredFile | undefined {
  const bytes = new Uint8Array(sidecar.getSize());
  sidecar.read(bytes, { at: 0 });
  try {
    const found = JSON.parse(new TextDecoder().decode(bytes)) as StoredFile;
    return found.url === url ? found : undefined;
  } catch {
    return undefined; // empty, or half written when the tab was closed: fetched again
  }
}

/** Bytes of the file that may be written before the sidecar says so. */
const NOTE_EVERY = 16 * 1024 * 1024;

/** A network source whose bytes are kept as they pass. */
class StoringSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #network: ByteSource;
  readonly #data: SyncHandle;
  readonly #local: HandleSource;
  readonly #sidecar: SyncHandle;
  readonly #stored: StoredFile;
  #keeps = true;
  #unnoted = 0;

  constructor(network: ByteSource, data: SyncHandle, sidecar: SyncHandle, stored: StoredFile) {
    this.name = network.name;
    this.size = network.size;
    this.#network = network;
    this.#data = data;
    this.#local = new HandleSource(data, network.name, network.size);
    this.#sidecar = sidecar;
    this.#stored = stored;
    if (stored.ranges.length === 0) data.truncate(0);
  }

  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    return collect(this.stream(offset, length, signal), length);
  }

  async *stream(offset: number, length: number, signal?: AbortSignal) {
    checkRange(this, offset, length);
    const end = offset + length;
    for (let at = offset; at < end; ) {
      throwIfStopped(signal);
      const [present, to] = runAt(this.#stored.ranges, at, end);
      const from = present ? this.#local : this.#network;
      for await (const piece of from.stream(at, to - at, signal)) {
        if (!present) this.#keep(piece, at);
        at += piece.length;
        yield piece;
      }
    }
    this.#note();
  }

  #keep(piece: Uint8Array, at: number): void {
    if (!this.#keeps) return;
    try {
      this.#data.write(piece, { at });
    } catch {
      this.#keeps = false; // the quota is used up: go on without keeping
      return;
    }
    addRange(this.#stored.ranges, at, at + piece.length);
    this.#unnoted += piece.length;
    if (this.#unnoted >= NOTE_EVERY) this.#note();
  }

  /** The data is flushed before the sidecar claims it, so a killed tab loses, but never lies. */
  #note(): void {
    if (this.#unnoted === 0) return;
    this.#unnoted = 0;
    const text = new TextEncoder().encode(JSON.stringify(this.#stored));
    this.#data.flush();
    this.#sidecar.truncate(0);
    this.#sidecar.write(text, { at: 0 });
    this.#sidecar.flush();
  }

  close(): void {
    this.#note();
    this.#data.close();
    this.#sidecar.close();
    this.#network.close();
  }
}
