/**
 * The near side of the store: calls go to `store_worker.ts`, bytes come back without being copied.
 */

import { SourceError, throwIfStopped, TilewrightError } from "../errors.ts";
import { openWorker } from "../worker_address.ts";
import type { Looking, Resolved } from "./hub.ts";
import type { Bytes, Prepared, Recipe } from "./prepared.ts";
import { type ByteSource, checkRange, PIECE } from "./source.ts";
import type { Kept, OpenRequest } from "./store.ts";
import type { Facts } from "./stored_file.ts";

declare const STORE_WORKER: string;

/** Pieces asked for ahead of the reader of a stream. */
const AHEAD = 8;

/** What the store's worker is asked. */
export type Call =
  | { method: "resolve"; reference: string; looking: Omit<Looking, "signal"> }
  | { method: "open"; request: OpenRequest; key?: string }
  | { method: "prepare"; file: number; key: string; prepared?: Prepared }
  | { method: "read"; file: number; offset: number; length: number }
  | { method: "fetchAll" | "settle" | "facts" | "filled" | "close"; file: number }
  | { method: "list" }
  | { method: "pin"; url: string; pinned: boolean }
  | { method: "remove" | "verify" | "blob"; url: string };

export interface Reply {
  id: number;
  value?: unknown;
  error?: { code: string; message: string; details: Record<string, unknown> };
}

/** A load that begins with what an earlier one left (`prepared.ts`). */
export interface Begun {
  program: Bytes;
  python: Bytes;
  /** Being filled already; where memories cannot be shared there is none. */
  memory?: WebAssembly.Memory;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A connection to a store of its own worker. */
export class StoreConnection {
  readonly #worker = openWorker(new URL(STORE_WORKER, import.meta.url));
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #dead: TilewrightError | undefined;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const { id, value, error } = data;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (!error) waiting?.resolve(value);
      else if (error.code !== "source_unavailable") {
        waiting?.reject(new TilewrightError(error.code, error.message, error.details));
      } else waiting?.reject(new SourceError(error.message, error.details));
    };
    this.#worker.onerror = (event) => {
      this.#end(`The store of models stopped (${event.message || "its script could not be loaded"}): reload the page.`);
    };
  }

  /** Ask the store; `signal` stops it there, too. */
  call<T>(call: Call, signal?: AbortSignal): Promise<T> {
    if (this.#dead) return Promise.reject(this.#dead);
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      const stop = () => this.#worker.postMessage({ id });
      const end = () => signal?.removeEventListener("abort", stop);
      this.#waiting.set(id, {
        resolve: (value) => (end(), resolve(value as T)),
        reject: (error) => (end(), reject(error)),
      });
      signal?.addEventListener("abort", stop, { once: true });
      this.#worker.postMessage({ id, call });
      if (signal?.aborted) stop();
    });
  }

  /** Find the files of an `hf:` reference. */
  resolve(reference: string, looking: Looking = {}): Promise<Resolved> {
    const { signal, ...plain } = looking;
    return this.call({ method: "resolve", reference, looking: plain }, signal);
  }

  /**
   * Open a file by its address. `find` gives the files beside it; default: none. `key` names what a
   * load may have prepared for this one.
   */
  async open(
    request: OpenRequest,
    signal?: AbortSignal,
    find?: ByteSource["find"],
    key?: string,
  ): Promise<StoredSource> {
    const own = key && `${STORE_WORKER} ${key}`;
    const call: Call = { method: "open", request, ...(own ? { key: own } : {}) };
    const opened = await this.call<Facts & { file: number; begun?: Begun }>(call, signal);
    return new StoredSource(this, opened.file, opened, find, own, opened.begun);
  }

  list(): Promise<{ files: Kept[]; quota: { usage: number; quota: number } | null }> {
    return this.call({ method: "list" });
  }

  terminate(): void {
    this.#end("The store was closed.");
  }

  #end(message: string): void {
    this.#dead ??= new TilewrightError("worker_failed", message);
    this.#worker.terminate();
    for (const waiting of this.#waiting.values()) waiting.reject(this.#dead);
    this.#waiting.clear();
  }
}

/** A file of the store as the engine reads it. */
export class StoredSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #store: StoreConnection;
  readonly #file: number;
  readonly #find: ByteSource["find"];
  readonly #key: string | undefined;
  /** What an earlier load left for this one. */
  readonly begun: Begun | undefined;
  #facts: Facts;
  #all = false;

  constructor(
    store: StoreConnection,
    file: number,
    facts: Facts,
    find: ByteSource["find"],
    key?: string,
    begun?: Begun,
  ) {
    this.#key = key;
    this.begun = begun;
    this.#store = store;
    this.#file = file;
    this.#facts = facts;
    this.#find = find;
    this.name = facts.name;
    this.size = facts.size;
  }

  get stored(): boolean {
    return this.#facts.stored;
  }

  get atHand(): boolean {
    return this.stored;
  }

  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    return this.#store.call({ method: "read", file: this.#file, offset, length }, signal);
  }

  /** Reads ahead of its caller, so that the next piece is there when the last one is used up. */
  async *stream(offset: number, length: number, signal?: AbortSignal) {
    checkRange(this, offset, length);
    this.fetchAll();
    const coming: Promise<Uint8Array<ArrayBuffer>>[] = [];
    let asked = 0;
    try {
      while (asked < length || coming.length > 0) {
        while (asked < length && coming.length < AHEAD) {
          const part = Math.min(PIECE, length - asked);
          const piece = this.read(offset + asked, part, signal);
          piece.catch(() => undefined); // told by the await below, if anybody still waits
          coming.push(piece);
          asked += part;
        }
        yield await coming.shift()!;
        throwIfStopped(signal);
      }
    } finally {
      coming.length = 0;
    }
  }

  /** How much was read into the memory of `begun`, after a moment; undefined once it is filled. */
  filled(): Promise<number | undefined> {
    return this.#store.call({ method: "filled", file: this.#file });
  }

  /**
   * Keep for the next load of this file what this one found out (no recipe: forget it); false where
   * nothing is kept.
   */
  async prepare(recipe: string, ...parts: Bytes[]): Promise<boolean> {
    const key = this.#key;
    if (!key || !this.stored) return false;
    const call: Call = { method: "prepare", file: this.#file, key };
    if (recipe) {
      const [layout, data, program, python] = parts as [Bytes, Bytes, Bytes, Bytes];
      call.prepared = { recipe: JSON.parse(recipe) as Recipe, layout, data, program, python };
    }
    await this.#store.call(call);
    return true;
  }

  /** Start fetching the whole file. */
  fetchAll(): void {
    if (this.#all) return;
    this.#all = true;
    void this.#store.call({ method: "fetchAll", file: this.#file }).catch(() => undefined);
  }

  async settle(): Promise<void> {
    this.#facts = await this.#store.call<Facts>({ method: "settle", file: this.#file });
  }

  /** What is known of the file now. */
  async facts(): Promise<Facts> {
    this.#facts = await this.#store.call<Facts>({ method: "facts", file: this.#file });
    return this.#facts;
  }

  async find(name: string): Promise<ByteSource | null> {
    return (await this.#find?.(name)) ?? null;
  }

  close(): void {
    void this.#store.call({ method: "close", file: this.#file }).catch(() => undefined);
  }
}
