/**
 * The JavaScript half of `tilewright.wasm.browser`: memories, instances and threads of the CPU path.
 *
 * Pyodide sees this module as `tilewright_wasm_bridge`. A memory is one of its own, not Python's;
 * weights are streamed into it without passing through Python. Threads are nested workers that
 * share it (`wasm_worker.ts`). It knows nothing about models or kernels.
 */

import type { ByteSource } from "./store/source.ts";
import type { Begin } from "./wasm_worker.ts";
import { makeMemory } from "./wasm_memory.ts";
import { openWorker } from "./worker_address.ts";

/** Where the build put the script of a thread, relative to the folder of this script. */
declare const WASM_WORKER: string;

/** A Python object with the buffer protocol, as Pyodide hands it over. */
interface PyBufferOwner {
  getBuffer(type?: string): { data: Uint8Array<ArrayBuffer>; release(): void };
}

/** How many threads may compute together: one where memories cannot be shared. */
export function cores(): number {
  return globalThis.crossOriginIsolated ? Math.max(1, navigator.hardwareConcurrency || 1) : 1;
}

/** What compiles the modules: part of the key of what was measured here. */
export function engine(): string {
  return navigator.userAgent;
}

/** Whether this browser takes a module. */
export function validates(module: PyBufferOwner): boolean {
  return withBytes(module, (bytes) => WebAssembly.validate(bytes));
}

/** One linear memory, its instances and its threads. */
export class LinearMemory {
  readonly #memory: WebAssembly.Memory;
  #view: Uint8Array;
  #workers: Worker[] = [];
  /** What was compiled last: threads run the module that their host runs. */
  #compiled: { bytes: Uint8Array; module: WebAssembly.Module } | undefined;

  constructor(pages: number, shared: boolean, memory?: WebAssembly.Memory) {
    this.#memory = memory ?? makeMemory(pages, shared);
    this.#view = new Uint8Array(this.#memory.buffer);
  }

  /** Make it larger by so many pages; throws RangeError where there is no room. */
  grow(pages: number): void {
    this.#memory.grow(pages);
    this.#view = new Uint8Array(this.#memory.buffer);
  }

  write(at: number, owner: PyBufferOwner): void {
    withBytes(owner, (bytes) => this.#view.set(bytes, at));
  }

  read(at: number, length: number): Uint8Array {
    return this.#view.slice(at, at + length);
  }

  /** Stream a range of a source into the memory. */
  async fill(
    at: number,
    source: ByteSource,
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<void> {
    for await (const piece of source.stream(offset, length, signal)) {
      this.#view.set(piece, at);
      at += piece.length;
    }
  }

  /** Ask for a range at once, so that it is read while this thread computes; then put it there. */
  fetch(at: number, source: ByteSource, offset: number, length: number, signal?: AbortSignal): Promise<void> {
    const done = source.read(offset, length, signal).then((bytes) => this.#view.set(bytes, at));
    done.catch(() => undefined); // told to whoever awaits it
    return done;
  }

  /** Compile a module and return its functions. */
  instantiate(owner: PyBufferOwner): WebAssembly.Exports {
    const module = this.#compile(owner);
    return new WebAssembly.Instance(module, { env: { memory: this.#memory } }).exports;
  }

  #compile(owner: PyBufferOwner): WebAssembly.Module {
    return withBytes(owner, (bytes) => {
      const last = this.#compiled;
      if (last?.bytes.length === bytes.length && last.bytes.every((byte, at) => byte === bytes[at])) return last.module;
      const module = new WebAssembly.Module(bytes);
      this.#compiled = { bytes: bytes.slice(), module };
      return module;
    });
  }

  /** Let nested workers call the module's `work(number)`, numbers from 1. */
  start(owner: PyBufferOwner, workers: number): void {
    const module = this.#compile(owner);
    for (let number = 1; number <= workers; number++) {
      const worker = openWorker(new URL(WASM_WORKER, import.meta.url));
      worker.onerror = (event) => console.warn(`A thread of the CPU path stopped: ${event.message}`);
      worker.postMessage({ module, memory: this.#memory, number } satisfies Begin);
      this.#workers.push(worker);
    }
  }

  /** End the threads; new ones may be started. */
  stop(): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers = [];
  }

  close(): void {
    this.stop();
  }
}

function withBytes<T>(owner: PyBufferOwner, use: (bytes: Uint8Array<ArrayBuffer>) => T): T {
  const view = owner.getBuffer("u8");
  try {
    return use(view.data);
  } finally {
    view.release();
  }
}
