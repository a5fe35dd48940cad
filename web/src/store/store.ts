/**
 * The store of models: opens files by their address (stored bytes first, the network for others),
 * and lists, pins, checks, removes and hands out what is kept. Runs in a worker of its own.
 */

import { SourceError, throwIfStopped } from "../errors.ts";
import { type Backing, MemoryBacking } from "./backing.ts";
import { Download } from "./download.ts";
import { type Asking, fileName, type Pace } from "./http.ts";
import { type Looking, resolve, type Resolved } from "./hub.ts";
import { dropRange } from "./ranges.ts";
import { probe, type Remote } from "./remote.ts";
import { makeRoom, nextUse, quota, takeReading, takeWriting, whileUnused, writerDone } from "./room.ts";
import { type Entry, heldBytes, isComplete, openShelf, type Shelf, storedName } from "./shelf.ts";
import { damagedBlocks, MEMORY_WINDOW, StoredFile, type Surroundings } from "./stored_file.ts";

/** Bytes of one request, and of one digest. */
const BLOCK = 4 * 1024 * 1024;

/** What to open. */
export interface OpenRequest {
  url: string;
  headers?: Record<string, string>;
  /** Of the whole file, in hexadecimal. */
  sha256?: string | null;
  /** As a list of files says; a file of another length is refused. */
  size?: number;
  /** For tests. */
  pace?: Pace;
  block?: number;
}

/** A stored file, for people. */
export interface Kept {
  url: string;
  name: string;
  size: number;
  have: number;
  complete: boolean;
  verified: boolean;
  pinned: boolean;
  usedAt: number;
  use: number;
}

const nothing = () => undefined;

export class Store {
  readonly #shelf: Promise<Shelf | undefined>;

  constructor(shelf: Promise<Shelf | undefined> = openShelf()) {
    this.#shelf = shelf;
  }

  /** Find the files of an `hf:` reference; what was found once is known without network, too. */
  async resolve(reference: string, looking: Looking): Promise<Resolved> {
    const key = `${looking.hub ?? ""} ${reference}`;
    const known = await recall(key);
    try {
      const found = await resolve(reference, looking);
      await remember(key, found);
      return found;
    } catch (error) {
      throwIfStopped(looking.signal);
      if (!known || !(error instanceof SourceError) || !(await this.#isKept(known))) throw error;
      console.warn(`${reference} is taken from this device: ${error.message}`);
      return known;
    }
  }

  /** Open a file by its address. Raises SourceError. */
  async open(request: OpenRequest, signal?: AbortSignal): Promise<StoredFile> {
    const shelf = await this.#shelf;
    if (!shelf) return this.#unstored(request, signal);
    const name = await storedName(request.url);
    for (;;) {
      const known = await this.#known(shelf, name, request);
      if (known && isComplete(known)) {
        const file = await this.#openWhole(shelf, name, known);
        if (file) return file;
      }
      const unlock = await takeWriting(name);
      if (unlock) return this.#openPartial(shelf, name, unlock, request, signal);
      // Another tab is fetching this file: one download serves both, as long as it moves.
      if (!(await writerDone(shelf, name, signal))) return this.#unstored(request, signal);
    }
  }

  /** What is kept, the latest used first. */
  async list(): Promise<{ files: Kept[]; quota: { usage: number; quota: number } | null }> {
    const entries = (await (await this.#shelf)?.list()) ?? [];
    entries.sort((a, b) => b.use - a.use);
    return { files: entries.map(kept), quota: await quota() };
  }

  /** Keep a file from being removed when room is short, or no longer. */
  async pin(url: string, pinned: boolean): Promise<void> {
    await this.#change(url, (entry) => (entry.pinned = pinned));
  }

  /** Remove a file that no tab uses; returns whether it is gone. */
  async remove(url: string): Promise<boolean> {
    const shelf = await this.#shelf;
    if (!shelf) return false;
    const name = await storedName(url);
    return whileUnused(name, () => shelf.remove(name));
  }

  /** Compare a file with its digests; damaged blocks are dropped, and fetched at the next load. */
  async verify(url: string): Promise<{ blocks: number; damaged: number }> {
    const shelf = await this.#shelf;
    const name = await storedName(url);
    const entry = await shelf?.get(name);
    if (!shelf || !entry) throw new SourceError(`${fileName(url)} is not stored.`, { reason: "missing" });
    const backing = await shelf.open(name, entry, false);
    const bad = await damagedBlocks(entry, backing).finally(() => backing.close());
    if (bad.length > 0) {
      await this.#change(url, (found) => {
        found.verified = false;
        for (const number of bad) {
          dropRange(found.ranges, number * found.block, Math.min((number + 1) * found.block, found.size));
          delete found.digests[number];
        }
      });
    }
    return { blocks: Math.ceil(entry.size / entry.block), damaged: bad.length };
  }

  /** The bytes of a whole file, to save it elsewhere. */
  async blob(url: string): Promise<Blob> {
    const shelf = await this.#shelf;
    const name = await storedName(url);
    const entry = await shelf?.get(name);
    if (!shelf || !entry || !isComplete(entry)) {
      throw new SourceError(`${fileName(url)} is not stored as a whole: load it first.`, { reason: "missing" });
    }
    return shelf.blob(name, entry);
  }

  async #change(url: string, change: (entry: Entry) => void): Promise<void> {
    const shelf = await this.#shelf;
    const name = await storedName(url);
    const entry = await shelf?.get(name);
    if (!shelf || !entry) return;
    change(entry);
    await shelf.put(name, entry);
  }

  async #isKept(resolved: Resolved): Promise<boolean> {
    const shelf = await this.#shelf;
    const entry = await shelf?.get(await storedName(resolved.base + resolved.main.path));
    return entry !== undefined && isComplete(entry);
  }

  /** The entry, unless it describes another file than the one asked for. */
  async #known(shelf: Shelf, name: string, request: OpenRequest): Promise<Entry | undefined> {
    const found = await shelf.get(name);
    const other = request.sha256 && found?.sha256 && found.sha256 !== request.sha256;
    return found?.url === request.url && !other ? found : undefined;
  }

  async #openWhole(shelf: Shelf, name: string, entry: Entry): Promise<StoredFile | undefined> {
    const done = await takeReading(name);
    if (!done) return undefined; // it is being removed just now
    try {
      const backing = await shelf.open(name, entry, false);
      await this.#note(shelf, name, entry);
      return new StoredFile(entry, backing, {
        put: (changed) => shelf.put(name, changed),
        makeRoom: async () => false,
        reopen: () => shelf.open(name, entry, false),
        ...preparing(shelf, name),
        release: nothing,
        done,
      });
    } catch (error) {
      done();
      console.warn(`The stored copy of ${entry.name} is lost: ${String(error)}`);
      await shelf.remove(name);
      return undefined;
    }
  }

  async #note(shelf: Shelf, name: string, entry: Entry): Promise<void> {
    entry.use = await nextUse(shelf);
    entry.usedAt = Date.now();
    await shelf.put(name, entry).catch(() => undefined); // a full disk is no reason not to read
  }

  async #openPartial(
    shelf: Shelf,
    name: string,
    unlock: () => void,
    request: OpenRequest,
    signal?: AbortSignal,
  ): Promise<StoredFile> {
    let done = nothing as () => void;
    try {
      const known = await this.#known(shelf, name, request);
      const remote = await this.#probe(request, signal);
      const same = known && known.size === remote.size && known.etag === remote.etag;
      const entry = same ? known : newEntry(request, remote);
      entry.sha256 ??= request.sha256 ?? null;
      const missing = entry.size - heldBytes(entry);
      const room = (bytes: number) => makeRoom(shelf, bytes, request.url);
      const stored = await this.#writable(shelf, name, entry, await room(missing));
      if (!stored) entry.ranges.splice(0);
      done = (await takeReading(name)) ?? nothing;
      const around: Surroundings = {
        put: stored ? (changed) => shelf.put(name, changed) : async () => undefined,
        makeRoom: room,
        reopen: (changed) => shelf.open(name, changed, false),
        ...preparing(shelf, name),
        release: unlock,
        done,
      };
      const file = new StoredFile(entry, stored ?? new MemoryBacking(entry.size, entry.block), around);
      if (stored) await this.#note(shelf, name, entry);
      else unlock();
      attach(file, remote, entry, request, stored !== undefined);
      return file;
    } catch (error) {
      done();
      unlock();
      throw error;
    }
  }

  async #writable(shelf: Shelf, name: string, entry: Entry, room: boolean): Promise<Backing | undefined> {
    try {
      if (room) return await shelf.open(name, entry, true);
      console.warn(`${entry.name} is not kept for the next visit: there is no room for it`);
    } catch (error) {
      console.warn(`${entry.name} is not kept for the next visit: ${String(error)}`);
    }
    return undefined;
  }

  async #unstored(request: OpenRequest, signal?: AbortSignal): Promise<StoredFile> {
    const remote = await this.#probe(request, signal);
    const entry = newEntry(request, remote);
    const file = new StoredFile(entry, new MemoryBacking(entry.size, entry.block), {
      put: async () => undefined,
      makeRoom: async () => false,
      reopen: async () => new MemoryBacking(0, entry.block),
      prepared: async () => undefined,
      prepare: async () => undefined,
      release: nothing,
      done: nothing,
    });
    attach(file, remote, entry, request, false);
    return file;
  }

  async #probe(request: OpenRequest, signal?: AbortSignal): Promise<Remote> {
    const { url, headers = {}, pace, size } = request;
    const remote = await probe(url, { headers, signal, ...(pace ? { pace } : {}) });
    if (size === undefined || size === 0 || size === remote.size) return remote;
    await remote.first?.response.body?.cancel();
    throw new SourceError(
      `${remote.name} should have ${size} bytes, but its server has ${remote.size}: the file is ` +
        "incomplete there, or was just replaced. Try again later.",
      { reason: "changed" },
    );
  }
}

function preparing(shelf: Shelf, name: string): Pick<Surroundings, "prepared" | "prepare"> {
  return { prepared: () => shelf.prepared(name), prepare: (bytes) => shelf.prepare(name, bytes) };
}

function attach(file: StoredFile, remote: Remote, entry: Entry, request: OpenRequest, stored: boolean) {
  const write = (at: number, bytes: Uint8Array<ArrayBuffer>) => file.write(at, bytes);
  file.download = new Download(remote, entry.ranges, write, {
    block: entry.block,
    ...(request.pace ? { pace: request.pace } : {}),
    ...(stored || !remote.ranges ? {} : { ahead: MEMORY_WINDOW / 2 }),
  });
}

function newEntry(request: OpenRequest, remote: Remote): Entry {
  return {
    url: request.url,
    name: remote.name,
    size: remote.size,
    etag: remote.etag,
    ranges: [],
    sha256: request.sha256 ?? null,
    verified: false,
    block: request.block ?? BLOCK,
    digests: {},
    use: 0,
    usedAt: Date.now(),
    pinned: false,
  };
}

function kept(entry: Entry): Kept {
  const { url, name, size, verified, pinned, usedAt, use } = entry;
  return { url, name, size, have: heldBytes(entry), complete: isComplete(entry), verified, pinned, usedAt, use };
}

/** Answers of the hub, so that a reference works without network once its files are here. */
const ANSWERS = "tilewright-references";

function address(key: string): string {
  return `https://tilewright.invalid/?${encodeURIComponent(key)}`;
}

async function recall(key: string): Promise<Resolved | undefined> {
  try {
    const found = await (await caches.open(ANSWERS)).match(address(key));
    return found && ((await found.json()) as Resolved);
  } catch {
    return undefined;
  }
}

async function remember(key: string, found: Resolved): Promise<void> {
  try {
    await (await caches.open(ANSWERS)).put(address(key), new Response(JSON.stringify(found)));
  } catch {
    // Without storage there is nothing to find again either.
  }
}

export type { Asking };
