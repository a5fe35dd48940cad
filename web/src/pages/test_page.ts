/** What the browser tests drive: a bare Python worker behind one function. */

import { StoreConnection } from "../store/connect.ts";
import { openModel } from "../store/open_model.ts";

declare const PYTHON_WORKER: string;

export class PythonWorker {
  readonly #worker = new Worker(new URL(PYTHON_WORKER, import.meta.url), { type: "module" });
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 1;
  /** Milliseconds from the worker's first instruction to Python being ready. */
  readonly ready: Promise<unknown>;

  constructor() {
    const started = Promise.withResolvers<unknown>();
    this.#waiting.set(0, started);
    this.ready = started.promise;
    this.#worker.onerror = (event) => {
      for (const entry of this.#waiting.values()) entry.reject(new Error(event.message));
    };
    this.#worker.onmessage = ({ data }) => {
      const entry = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) entry?.reject(new Error(data.error));
      else entry?.resolve(data.result);
    };
  }

  run(code: string, data?: unknown): Promise<unknown> {
    const entry = Promise.withResolvers<unknown>();
    const id = this.#next++;
    this.#waiting.set(id, entry);
    this.#worker.postMessage({ id, code, data });
    return entry.promise;
  }

  terminate(): void {
    this.#worker.terminate();
  }
}

Object.assign(globalThis, { PythonWorker, StoreConnection, openModel });
