/**
 * One file of a model: read from what is stored, fetched where it is missing, kept as it arrives,
 * and checked block by block and as a whole while it does.
 */

import { createSHA256 } from "hash-wasm";
import { SourceError, TilewrightError } from "../errors.ts";
import { type Backing, MemoryBacking } from "./backing.ts";
import type { Download } from "./download.ts";
import { addRange, dropRange, firstGap, type Ranges, runAt, total } from "./ranges.ts";
import { pack, type Prepared, unpack } from "./prepared.ts";
import { checkRange } from "./source.ts";
import { type Entry, hex } from "./shelf.ts";

/** Bytes of the file that may be written, and how long, before the entry says so. */
const NOTE_EVERY = 16 * 1024 * 1024;
const NOTE_MS = 1000;
/** Bytes held in memory where nothing can be stored, before those that were read are dropped. */
export const MEMORY_WINDOW = 64 * 1024 * 1024;
/** Hexadecimal digits kept of a block's digest. */
const DIGITS = 16;

/** How a stored file reaches the world around it. */
export interface Surroundings {
  /** Keep the entry. */
  put(entry: Entry): Promise<void>;
  /** Try to make room for so many bytes; returns whether there is. */
  makeRoom(bytes: number): Promise<boolean>;
  /** Open the whole file for reading, once it is complete. */
  reopen(entry: Entry): Promise<Backing>;
  /** What was prepared for the next load. */
  prepared(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Keep that; `undefined`: forget it. */
  prepare(bytes: Uint8Array<ArrayBuffer> | undefined): Promise<void>;
  /** Let other tabs write the file. */
  release(): void;
  /** The file is closed. */
  done(): void;
}

/** What can be told of a file on its way. */
export interface Facts {
  name: string;
  size: number;
  have: number;
  /** Whether the bytes are kept for the next visit; else why not. */
  stored: boolean;
  why: string | null;
  sha256: string | null;
  verified: boolean;
  connections: number;
}

export class StoredFile {
  readonly name: string;
  readonly size: number;
  readonly #entry: Entry;
  readonly #around: Surroundings;
  #backing: Backing;
  #download: Download | undefined;
  /** Takes what the backing has no room for. */
  #spill: MemoryBacking | undefined;
  readonly #spilled: Ranges = [];
  #why: string | null = null;
  #unnoted = 0;
  #notedAt = performance.now();
  #noting = Promise.resolve();
  #position = 0;
  #hashed = 0;
  #checking: Promise<void> | undefined;
  #closed = false;
  /** Resolved unless the backing is being exchanged. */
  #steady: Promise<void> = Promise.resolve();

  constructor(entry: Entry, backing: Backing, around: Surroundings) {
    this.name = entry.name;
    this.size = entry.size;
    this.#entry = entry;
    this.#backing = backing;
    this.#around = around;
    if (backing.kind === "memory") this.#notKept("this browser stores nothing here");
  }

  /** Where missing bytes come from; set once, before the first read. */
  set download(download: Download) {
    this.#download = download;
  }

  get facts(): Facts {
    const { name, size, ranges, sha256, verified } = this.#entry;
    return {
      name,
      size,
      have: total(ranges),
      stored: this.#why === null,
      why: this.#why,
      sha256,
      verified,
      connections: this.#download?.connections.limit ?? 0,
    };
  }

  /** Return exactly `length` bytes from `offset`. */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    this.#position = offset;
    this.#download?.reading(offset);
    await this.#download?.need(offset, offset + length, signal);
    await this.#steady;
    const data = new Uint8Array(length);
    await this.#fill(offset, data);
    this.#trim();
    return data;
  }

  /** Fill `into` from what is stored. Throws once the file is closed. */
  async readInto(offset: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#closed) throw new TilewrightError("cancelled", "Stopped.");
    await this.#steady;
    await this.#fill(offset, into);
  }

  /** What was prepared for loading these very bytes, under this key. */
  async prepared(key: string): Promise<Prepared | undefined> {
    const whole = this.#wholeKey(key);
    const bytes = whole && (await this.#around.prepared());
    return bytes ? unpack(whole, bytes) : undefined;
  }

  /** Keep that for the next visit, where the bytes are kept and were checked; or forget it. */
  async prepare(key: string, prepared?: Prepared): Promise<void> {
    const whole = this.#wholeKey(key);
    if (!whole || this.#why !== null) return;
    await this.#around.prepare(prepared && (await pack(whole, prepared)));
  }

  #wholeKey(key: string): string {
    const { verified, sha256 } = this.#entry;
    return verified && sha256 ? `${sha256} ${key}` : "";
  }

  /** From now on the whole file is wanted: fetch it, and check it as it comes. */
  fetchAll(): void {
    this.#download?.run();
    this.#check().catch(() => undefined); // told by settle
  }

  /** Resolve when all is there, and as it should be. */
  async settle(): Promise<void> {
    this.#download?.run();
    await this.#check();
  }

  /** Take bytes from the network. */
  async write(at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.#spill) {
      try {
        await this.#keep(at, bytes);
        return;
      } catch (error) {
        this.#notKept(error instanceof Error ? error.message : String(error));
        this.#spill ??= new MemoryBacking(this.size, this.#entry.block); // several writes may fail at once
      }
    }
    await this.#spill.write(at, bytes);
    addRange(this.#spilled, at, at + bytes.length);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#download?.close();
    const last = this.#checked() ? this.#noting : this.#note(true);
    void last.finally(async () => {
      await this.#steady; // a backing that is being exchanged would be left open
      this.#backing.close();
      this.#around.release();
      this.#around.done();
    });
  }

  #checked(): boolean {
    return this.#entry.verified;
  }

  async #keep(at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.#backing.write(at, bytes);
    } catch (error) {
      const missing = this.size - total(this.#entry.ranges);
      if (!(await this.#around.makeRoom(missing))) throw error;
      await this.#backing.write(at, bytes);
    }
    this.#unnoted += bytes.length;
    const due = performance.now() - this.#notedAt >= NOTE_MS;
    if (due || this.#unnoted >= NOTE_EVERY) void this.#note();
  }

  #notKept(why: string): void {
    if (this.#why === null) console.warn(`${this.name} is not kept for the next visit: ${why}`);
    this.#why ??= why;
  }

  /** The data is flushed before the entry claims it, so a killed tab loses, but never lies. */
  #note(last = false): Promise<void> {
    if (this.#closed && !last) return this.#noting;
    this.#unnoted = 0;
    this.#notedAt = performance.now();
    this.#noting = this.#noting.then(async () => {
      try {
        await this.#backing.flush();
        const entry = structuredClone(this.#entry);
        for (const [from, to] of this.#spilled) dropRange(entry.ranges, from, to);
        await this.#around.put(entry);
      } catch (error) {
        this.#notKept(error instanceof Error ? error.message : String(error));
      }
    });
    return this.#noting;
  }

  async #fill(offset: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let at = 0; at < into.length; ) {
      const end = offset + into.length;
      const [spilled, to] = runAt(this.#spilled, offset + at, end);
      const part = into.subarray(at, to - offset);
      await (spilled ? this.#spill! : this.#backing).read(offset + at, part);
      at = to - offset;
    }
  }

  /** Drop from memory what was read and checked, where it could be fetched again. */
  #trim(): void {
    const memory = this.#spill ?? (this.#backing.kind === "memory" ? this.#backing : undefined);
    const held = this.#spill ? this.#spilled : this.#entry.ranges;
    if (!memory?.forget || !this.#download?.canRefetch || total(held) <= MEMORY_WINDOW) return;
    const { block } = this.#entry;
    const hashed = this.#entry.verified || !this.#checking ? Infinity : this.#hashed;
    const end = Math.floor(Math.min(this.#position, hashed) / block) * block;
    for (const [from, to] of [...held]) {
      const stop = Math.min(to, end);
      const start = Math.ceil(from / block) * block;
      if (start >= stop) continue;
      memory.forget(start, stop);
      dropRange(this.#spilled, start, stop);
      this.#download.forget(start, stop);
    }
  }

  #check(): Promise<void> {
    if (this.#entry.verified) return this.#checking ?? Promise.resolve();
    this.#checking ??= this.#checkAll();
    return this.#checking;
  }

  /** Walk over the file as it arrives: digests of blocks, then the digest of the whole. */
  async #checkAll(): Promise<void> {
    const entry = this.#entry;
    const whole = await createSHA256();
    whole.init();
    for (let number = 0; number * entry.block < this.size; number++) {
      whole.update(await this.#soundBlock(number));
      this.#hashed = Math.min((number + 1) * entry.block, this.size);
    }
    const found = whole.digest();
    if (entry.sha256 !== null && entry.sha256 !== found) {
      entry.digests = {};
      entry.ranges.splice(0);
      await this.#note();
      throw new SourceError(
        `${this.name} arrived damaged (its SHA-256 is not what it should be): load it again.`,
        { reason: "corrupt", expected: entry.sha256, found },
      );
    }
    if (this.#closed) return;
    entry.sha256 = found;
    entry.verified = true;
    if (this.#why !== null) return;
    await this.#note();
    if (this.#why !== null || this.#closed) return;
    const exchanged = this.#becomeWhole();
    this.#steady = exchanged.catch(() => undefined);
    await exchanged;
  }

  /** Let other tabs read what is complete now. */
  async #becomeWhole(): Promise<void> {
    this.#download?.close();
    this.#download = undefined;
    const writing = this.#backing;
    writing.close();
    try {
      this.#backing = await this.#around.reopen(this.#entry);
    } catch (error) {
      throw new SourceError(`${this.name} cannot be read back (${String(error)}): load it again.`);
    } finally {
      this.#around.release();
    }
  }

  /** Return a block whose digest is what it was when the block was first seen. */
  async #soundBlock(number: number): Promise<Uint8Array<ArrayBuffer>> {
    const { block, digests } = this.#entry;
    const from = number * block;
    const to = Math.min(from + block, this.size);
    for (let attempt = 0; ; attempt++) {
      await this.#download?.need(from, to);
      if (this.#closed) throw new TilewrightError("cancelled", "Stopped.");
      const data = new Uint8Array(to - from);
      await this.#fill(from, data);
      const digest = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", data))).slice(0, DIGITS);
      const known = digests[number];
      if (known === undefined || known === digest) {
        digests[number] = digest;
        return data;
      }
      // What is on the disk is not what came: only this block is fetched again.
      delete digests[number];
      if (!this.#download || attempt > 0) {
        throw new SourceError(`The stored copy of ${this.name} is damaged: load it again.`, {
          reason: "corrupt",
        });
      }
      this.#download.forget(from, to);
    }
  }
}

/** Check a whole stored file; returns the blocks that are not what they were. */
export async function damagedBlocks(entry: Entry, backing: Backing): Promise<number[]> {
  const bad: number[] = [];
  const whole = await createSHA256();
  whole.init();
  for (let number = 0; number * entry.block < entry.size; number++) {
    const from = number * entry.block;
    const to = Math.min(from + entry.block, entry.size);
    if (firstGap(entry.ranges, from, to)) continue;
    const data = new Uint8Array(to - from);
    try {
      await backing.read(from, data);
    } catch {
      bad.push(number);
      continue;
    }
    whole.update(data);
    const digest = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", data))).slice(0, DIGITS);
    if ((entry.digests[number] ?? digest) !== digest) bad.push(number);
  }
  const complete = !firstGap(entry.ranges, 0, entry.size);
  if (complete && bad.length === 0 && entry.sha256 !== null && whole.digest() !== entry.sha256) {
    return Array.from({ length: Math.ceil(entry.size / entry.block) }, (_, index) => index);
  }
  return bad;
}
