/**
 * Where the bytes of one file are kept while and after they are fetched: the origin private file
 * system, the Cache API, or memory. Knows nothing of networks, digests and tabs.
 */

import { SourceError } from "../errors.ts";

/** Random access to the bytes of one file. What was not written must not be read. */
export interface Backing {
  readonly kind: "file" | "cache" | "memory";
  /** Keep bytes. Throws when there is no room. */
  write(at: number, bytes: Uint8Array): void | Promise<void>;
  /** Fill `into` from byte `at`. */
  read(at: number, into: Uint8Array<ArrayBuffer>): void | Promise<void>;
  /** Make sure that what was written survives the tab. */
  flush(): void | Promise<void>;
  /** Bytes that can be forgotten, if need be. */
  forget?(from: number, to: number): void;
  close(): void;
}

/** What a synchronous access handle offers; the DOM library of TypeScript has it for workers only. */
export interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

const held = new Set<{ handle: FileSystemHandle }>();

/**
 * Ask a handle for something, and hold it until the answer is there: Chromium drops what a handle
 * was asked when the handle is collected as garbage first, and the promise never settles.
 */
export async function asked<H extends FileSystemHandle, T>(
  handle: H,
  question: (handle: H) => Promise<T>,
): Promise<T> {
  const hold = { handle }; // one each: a handle may be asked several things at once
  held.add(hold);
  try {
    return await question(handle);
  } finally {
    held.delete(hold);
  }
}

/** Open a synchronous access handle; only workers have them. */
export async function openHandle(
  folder: FileSystemDirectoryHandle,
  name: string,
  mode: "readwrite" | "read-only",
): Promise<SyncHandle> {
  const handle = await asked(folder, (it) => it.getFileHandle(name, { create: mode === "readwrite" }));
  const withSync = handle as FileSystemFileHandle & {
    createSyncAccessHandle(options: { mode: string }): Promise<SyncHandle>;
  };
  return asked(withSync, (file) => file.createSyncAccessHandle({ mode }));
}

/** A file of the origin private file system. */
export class FileBacking implements Backing {
  readonly kind = "file";
  readonly #handle: SyncHandle;

  constructor(handle: SyncHandle) {
    this.#handle = handle;
  }

  write(at: number, bytes: Uint8Array): void {
    if (this.#handle.write(bytes, { at }) !== bytes.length) throw new Error("no more room");
  }

  read(at: number, into: Uint8Array<ArrayBuffer>): void {
    if (this.#handle.read(into, { at }) !== into.length) {
      throw new SourceError("The stored copy is shorter than it says: load it again.", {
        reason: "corrupt",
      });
    }
  }

  flush(): void {
    this.#handle.flush();
  }

  close(): void {
    this.#handle.close();
  }
}

/** A whole file read through a Blob, where the only handle is another tab's. */
export class BlobBacking implements Backing {
  readonly kind = "file";
  readonly #blob: Blob;

  constructor(blob: Blob) {
    this.#blob = blob;
  }

  write(): void {
    throw new Error("a Blob cannot be written");
  }

  async read(at: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    const part = this.#blob.slice(at, at + into.length);
    const data = await part.arrayBuffer().catch(() => new ArrayBuffer(0));
    if (data.byteLength !== into.length) {
      throw new SourceError("The stored copy was removed while it was read: load it again.", {
        reason: "corrupt",
      });
    }
    into.set(new Uint8Array(data));
  }

  flush(): void {}
  close(): void {}
}

/** Blocks of a file as Blobs in memory; the browser may move them to its disk. */
export class MemoryBacking implements Backing {
  readonly kind: "memory" | "cache" = "memory";
  readonly block: number;
  readonly size: number;
  /** Blocks that are not complete yet, with the number of bytes they have. */
  readonly #open = new Map<number, { data: Uint8Array<ArrayBuffer>; have: number }>();
  readonly #whole = new Map<number, Blob>();

  constructor(size: number, block: number) {
    this.size = size;
    this.block = block;
  }

  async write(at: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const number = Math.floor((at + done) / this.block);
      const start = number * this.block;
      const length = Math.min(this.block, this.size - start);
      let open = this.#open.get(number);
      if (!open) this.#open.set(number, (open = { data: new Uint8Array(length), have: 0 }));
      const part = bytes.subarray(done, done + start + length - at - done);
      open.data.set(part, at + done - start);
      open.have += part.length;
      done += part.length;
      if (open.have < length) continue;
      await this.keep(number, new Blob([open.data]));
      this.#open.delete(number);
    }
  }

  async read(at: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const number = Math.floor((at + done) / this.block);
      const inside = at + done - number * this.block;
      const most = Math.min(into.length - done, this.block - inside);
      const open = this.#open.get(number);
      if (open) into.set(open.data.subarray(inside, inside + most), done);
      else {
        const blob = await this.get(number);
        if (!blob) throw new SourceError("The stored copy was removed while it was read: load it again.");
        into.set(new Uint8Array(await blob.slice(inside, inside + most).arrayBuffer()), done);
      }
      done += most;
    }
  }

  forget(from: number, to: number): void {
    for (let at = from; at < to; at += this.block) {
      this.#open.delete(at / this.block);
      this.#whole.delete(at / this.block);
    }
  }

  protected async keep(number: number, blob: Blob): Promise<void> {
    this.#whole.set(number, blob);
  }

  protected async get(number: number): Promise<Blob | undefined> {
    return this.#whole.get(number);
  }

  flush(): void {}

  close(): void {
    this.#open.clear();
    this.#whole.clear();
  }
}

/** Blocks of a file in the Cache API, for browsers without a private file system. */
export class CacheBacking extends MemoryBacking {
  override readonly kind = "cache";
  readonly #cache: Cache;
  readonly #name: string;

  constructor(cache: Cache, name: string, size: number, block: number) {
    super(size, block);
    this.#cache = cache;
    this.#name = name;
  }

  static address(name: string, number: number): string {
    return `https://tilewright.invalid/${name}/${number}`;
  }

  protected override async keep(number: number, blob: Blob): Promise<void> {
    await this.#cache.put(CacheBacking.address(this.#name, number), new Response(blob));
  }

  protected override async get(number: number): Promise<Blob | undefined> {
    const found = await this.#cache.match(CacheBacking.address(this.#name, number));
    return found?.blob();
  }

  override forget(from: number, to: number): void {
    for (let at = from; at < to; at += this.block) {
      void this.#cache.delete(CacheBacking.address(this.#name, at / this.block));
    }
  }
}
