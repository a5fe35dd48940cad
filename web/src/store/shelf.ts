/**
 * The models kept on this device: one entry per file, in the origin private file system or, where
 * that is missing, in the Cache API. An entry says which byte ranges are there; a half-written file
 * is thus never taken for a whole one. Knows nothing of networks and of who uses what.
 */

import { asked, type Backing, BlobBacking, CacheBacking, FileBacking, openHandle } from "./backing.ts";
import { type Ranges, total } from "./ranges.ts";

export const FOLDER = "tilewright-models";

/** What is known of a stored file. */
export interface Entry {
  url: string;
  name: string;
  size: number;
  etag: string | null;
  ranges: Ranges;
  /** SHA-256 of the whole file in hexadecimal: as the hub or the caller says, or as found. */
  sha256: string | null;
  /** Whether the bytes were found to have that digest. */
  verified: boolean;
  /** Bytes per block, and the start of each block's SHA-256 as it was first seen. */
  block: number;
  digests: Record<number, string>;
  /** Order of use: larger is later. A count, because clocks jump. */
  use: number;
  /** When it was used last, for people; milliseconds since 1970. */
  usedAt: number;
  pinned: boolean;
}

export function isComplete({ ranges, size }: Entry): boolean {
  return ranges.length === 1 && ranges[0]![0] === 0 && ranges[0]![1] === size;
}

export function heldBytes(entry: Entry): number {
  return total(entry.ranges);
}

/** The name under which the file of an address is kept. */
export async function storedName(url: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return hex(new Uint8Array(digest).subarray(0, 16));
}

export function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A place for entries and their bytes. */
export interface Shelf {
  list(): Promise<Entry[]>;
  get(name: string): Promise<Entry | undefined>;
  put(name: string, entry: Entry): Promise<void>;
  /** Open the bytes, to write them or, by any number of tabs, to read a whole file. */
  open(name: string, entry: Entry, write: boolean): Promise<Backing>;
  remove(name: string): Promise<void>;
  /** What was prepared for the next load of the file (`prepared.ts`); it goes with the file. */
  prepared(name: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Keep that; `undefined` forgets it. */
  prepare(name: string, bytes: Uint8Array<ArrayBuffer> | undefined): Promise<void>;
  /** The bytes of a whole file. */
  blob(name: string, entry: Entry): Promise<Blob>;
  /** How much is there now, to see whether another tab makes progress. */
  growth(name: string): Promise<number>;
}

/** Open this device's shelf; undefined where the browser keeps nothing. */
export async function openShelf(): Promise<Shelf | undefined> {
  try {
    const root = await navigator.storage.getDirectory();
    if ("createSyncAccessHandle" in FileSystemFileHandle.prototype) {
      return new FileShelf(await asked(root, (it) => it.getDirectoryHandle(FOLDER, { create: true })));
    }
  } catch {
    // A private window of some browsers; the next one may work.
  }
  try {
    return new CacheShelf(await caches.open(FOLDER));
  } catch {
    return undefined;
  }
}

/** Accept what is an entry of `url` (or of any address); undefined for anything else. */
function sound(text: string): Entry | undefined {
  try {
    const found = JSON.parse(text) as Entry;
    const good = typeof found.url === "string" && Array.isArray(found.ranges) && found.size >= 0;
    return good && found.block > 0 ? found : undefined;
  } catch {
    return undefined; // cut off, or of an older version: fetched again
  }
}

class FileShelf implements Shelf {
  readonly #folder: FileSystemDirectoryHandle;

  constructor(folder: FileSystemDirectoryHandle) {
    this.#folder = folder;
  }

  async list(): Promise<Entry[]> {
    const found: Entry[] = [];
    const names = (this.#folder as unknown as { keys(): AsyncIterable<string> }).keys();
    for await (const name of names) {
      const entry = name.endsWith(".json") ? await this.get(name.slice(0, -5)) : undefined;
      if (entry) found.push(entry);
    }
    return found;
  }

  async get(name: string): Promise<Entry | undefined> {
    try {
      const handle = await this.#folder.getFileHandle(`${name}.json`);
      const file = await asked(handle, (it) => it.getFile());
      return sound(await file.text());
    } catch {
      return undefined;
    }
  }

  /** One write over the old text, padded to its length: a killed tab leaves the old or the new. */
  async put(name: string, entry: Entry): Promise<void> {
    await navigator.locks.request(`${FOLDER}/${name}.json`, async () => {
      const handle = await openHandle(this.#folder, `${name}.json`, "readwrite");
      try {
        const text = new TextEncoder().encode(JSON.stringify(entry));
        const padded = new Uint8Array(Math.max(text.length, handle.getSize())).fill(32);
        padded.set(text);
        if (handle.write(padded, { at: 0 }) !== padded.length) throw new Error("no more room");
        handle.flush();
      } finally {
        handle.close();
      }
    });
  }

  async open(name: string, entry: Entry, write: boolean): Promise<Backing> {
    try {
      const handle = await openHandle(this.#folder, name, write ? "readwrite" : "read-only");
      if (write && entry.ranges.length === 0) handle.truncate(0);
      return new FileBacking(handle);
    } catch (error) {
      if (write) throw error;
      // A browser without shared handles, and another tab has the only one.
      return new BlobBacking(await this.blob(name));
    }
  }

  async remove(name: string): Promise<void> {
    for (const file of [`${name}.json`, name, `${name}.start`]) {
      await this.#folder.removeEntry(file).catch(() => undefined);
    }
  }

  async prepared(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      const handle = await this.#folder.getFileHandle(`${name}.start`);
      const file = await asked(handle, (it) => it.getFile());
      return new Uint8Array(await file.arrayBuffer());
    } catch {
      return undefined;
    }
  }

  async prepare(name: string, bytes: Uint8Array<ArrayBuffer> | undefined): Promise<void> {
    if (!bytes) return this.#folder.removeEntry(`${name}.start`).catch(() => undefined);
    const handle = await openHandle(this.#folder, `${name}.start`, "readwrite");
    try {
      handle.truncate(0);
      if (handle.write(bytes, { at: 0 }) !== bytes.length) handle.truncate(0); // no more room
    } finally {
      handle.close();
    }
  }

  async blob(name: string): Promise<Blob> {
    return asked(await this.#folder.getFileHandle(name), (handle) => handle.getFile());
  }

  async growth(name: string): Promise<number> {
    try {
      return (await this.blob(name)).size;
    } catch {
      return 0; // not made yet
    }
  }
}

/** Numbers, in the Cache API, of what is no block of the file. */
const ENTRY = -1;
const PREPARED = -2;

class CacheShelf implements Shelf {
  readonly #cache: Cache;

  constructor(cache: Cache) {
    this.#cache = cache;
  }

  #address(name: string): string {
    return CacheBacking.address(name, ENTRY);
  }

  async list(): Promise<Entry[]> {
    const found: Entry[] = [];
    for (const request of await this.#cache.keys()) {
      if (!request.url.endsWith(`/${ENTRY}`)) continue;
      const entry = sound(await (await this.#cache.match(request))!.text());
      if (entry) found.push(entry);
    }
    return found;
  }

  async get(name: string): Promise<Entry | undefined> {
    const found = await this.#cache.match(this.#address(name));
    return found && sound(await found.text());
  }

  /** Only whole blocks are in the cache; the rest of the ranges is in the memory of this tab. */
  async put(name: string, entry: Entry): Promise<void> {
    const { block, size } = entry;
    const ranges = entry.ranges.flatMap(([from, to]): Ranges => {
      const first = Math.ceil(from / block) * block;
      const end = to === size ? size : Math.floor(to / block) * block;
      return first < end ? [[first, end]] : [];
    });
    const text = JSON.stringify({ ...entry, ranges });
    await this.#cache.put(this.#address(name), new Response(text));
  }

  async open(name: string, entry: Entry): Promise<Backing> {
    return new CacheBacking(this.#cache, name, entry.size, entry.block);
  }

  async remove(name: string): Promise<void> {
    for (const request of await this.#cache.keys()) {
      if (request.url.includes(`/${name}/`)) await this.#cache.delete(request);
    }
  }

  async prepared(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const found = await this.#cache.match(CacheBacking.address(name, PREPARED));
    return found && new Uint8Array(await found.arrayBuffer());
  }

  async prepare(name: string, bytes: Uint8Array<ArrayBuffer> | undefined): Promise<void> {
    const address = CacheBacking.address(name, PREPARED);
    if (bytes) await this.#cache.put(address, new Response(bytes));
    else await this.#cache.delete(address);
  }

  async blob(name: string, { size, block }: Entry): Promise<Blob> {
    const parts: Blob[] = [];
    for (let number = 0; number * block < size; number++) {
      const found = await this.#cache.match(CacheBacking.address(name, number));
      if (!found) throw new Error(`block ${number} is gone`);
      parts.push(await found.blob());
    }
    return new Blob(parts);
  }

  async growth(name: string): Promise<number> {
    const entry = await this.get(name);
    return entry ? heldBytes(entry) : 0;
  }
}
