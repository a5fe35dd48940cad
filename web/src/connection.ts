/**
 * One worker and the requests that are on their way to it.
 *
 * Matches answers to requests, acknowledges deltas, turns errors into `TilewrightError` and notices
 * a worker that died. Knows the protocol, and nothing of the OpenAI names above it.
 */

import { TilewrightError } from "./errors.ts";
import type { DeltaReport, Done, Events, ProgressReport, Request, Response } from "./protocol.ts";
import { openWorker } from "./worker_address.ts";
import type { ModelPlace } from "./store/open_model.ts";

declare const WORKER: string;

/** How often the worker is asked whether it lives, and how long it may stay silent. */
const PING_MS = 5_000;
const SILENCE_MS = 120_000;

type Answer = Exclude<Response, { type: "ready" | "progress" | "delta" | "events" | "error" }>;
type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
  onProgress: ((report: ProgressReport) => void) | undefined;
  onDelta: ((report: DeltaReport) => void) | undefined;
  onEvents: ((report: Events) => void) | undefined;
}

/** What only the worker's own side needs to find the bytes of a model. */
export type Place = Omit<ModelPlace, "url" | "headers" | "signal">;

/** Listeners of one request. */
export interface Listeners {
  onProgress?: ((report: ProgressReport) => void) | undefined;
  onDelta?: ((report: DeltaReport) => void) | undefined;
  onEvents?: ((report: Events) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export class Connection {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #alive: ReturnType<typeof setInterval>;
  #heard = performance.now();
  #next = 1;
  #dead: TilewrightError | undefined;

  constructor(environment: Record<string, string> = {}) {
    this.#worker = openWorker(new URL(WORKER, import.meta.url));
    this.#worker.onmessage = ({ data }: MessageEvent<Response | { type: "pong" }>) => {
      this.#heard = performance.now();
      if (data.type !== "pong") this.#take(data);
    };
    this.#worker.onerror = (event) => {
      this.#die(`The worker stopped: ${event.message || "its script could not be loaded"}.`);
    };
    this.#worker.onmessageerror = () => this.#die("The worker sent what cannot be read.");
    this.#worker.postMessage({ type: "start", environment });
    this.#alive = setInterval(() => this.#ping(), PING_MS);
  }

  /** Send a request and resolve with its last answer. `place` says where a model's bytes are. */
  request(
    message: WithoutId<Exclude<Request, { type: "ack" | "abort" }>>,
    listeners: Listeners = {},
    place?: Place,
  ): Promise<Answer> {
    if (this.#dead) return Promise.reject(this.#dead);
    const { signal } = listeners;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.#next++;
    const stop = () => {
      this.#worker.postMessage({ type: "abort", id });
      // A load may be waiting for Python to start; whoever stops it ends the worker anyway.
      if (message.type === "load" || message.type === "inspect") this.#waiting.get(id)?.reject(signal?.reason);
    };
    const answered = new Promise<Answer>((resolve, reject) => {
      const { onProgress, onDelta, onEvents } = listeners;
      this.#waiting.set(id, { resolve, reject, onProgress, onDelta, onEvents });
    });
    signal?.addEventListener("abort", stop, { once: true });
    this.#worker.postMessage({ ...message, id, ...(place ? { place } : {}) });
    return answered
      .catch((error: unknown) => {
        throw signal?.aborted ? signal.reason : error;
      })
      .finally(() => signal?.removeEventListener("abort", stop));
  }

  /** Tell the worker that a delta or events were taken, so that it may send more. */
  acknowledge(id: number): void {
    this.#worker.postMessage({ type: "ack", id });
  }

  /** End the worker; requests on their way fail. */
  terminate(): void {
    this.#die("The engine was unloaded.", "cancelled");
  }

  #ping(): void {
    if (this.#waiting.size > 0 && performance.now() - this.#heard > SILENCE_MS) {
      return this.#die("The worker does not answer any more: reload the page.");
    }
    if (this.#waiting.size === 0) this.#heard = performance.now();
    this.#worker.postMessage({ type: "ping" });
  }

  #take(message: Response): void {
    if (message.type === "ready") return;
    if (message.type === "error" && message.id === 0) {
      return this.#die(message.message, message.code);
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting) {
      if (message.type === "delta" || message.type === "events") this.acknowledge(message.id);
    } else if (message.type === "progress") {
      waiting.onProgress?.(message);
    } else if (message.type === "delta") {
      if (waiting.onDelta) waiting.onDelta(message);
      else this.acknowledge(message.id);
    } else if (message.type === "events") {
      if (waiting.onEvents) waiting.onEvents(message);
      else this.acknowledge(message.id);
    } else {
      this.#waiting.delete(message.id);
      if (message.type !== "error") waiting.resolve(message);
      else waiting.reject(new TilewrightError(message.code, message.message, message.details));
    }
  }

  #die(message: string, code = "worker_failed"): void {
    this.#dead ??= new TilewrightError(code, message);
    clearInterval(this.#alive);
    this.#worker.terminate();
    for (const waiting of this.#waiting.values()) waiting.reject(this.#dead);
    this.#waiting.clear();
  }
}

export type { DeltaReport, Done };
