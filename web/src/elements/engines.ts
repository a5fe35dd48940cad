/**
 * The engines of a page's elements: one for each model and way of loading, however many elements ask.
 *
 * The client is imported when the first engine is wanted, from beside this script, so a page that
 * imports it, too, has the same one. An engine that nobody uses for a while is unloaded.
 */

import type { Tilewright, Progress } from "../client.ts";

/** What an element wants: equal wants share an engine. */
export interface Wanted {
  model: string;
  backend: string | null;
  contextLength: number | null;
}

/** How long an engine without users stays, in case an element only moves within the page. */
const GRACE_MS = 10_000;
/** Errors after which an engine is of no more use. */
const DEATHS = new Set(["device_lost", "worker_failed", "runtime_failed"]);

const BUNDLED = "models/tilewright-tiny.gguf";

/** The address of the model that lies beside this script. */
export function bundledModel(): string {
  return new URL(BUNDLED, import.meta.url).href;
}

type Client = typeof import("../tilewright.ts");

function importClient(): Promise<Client> {
  return import(new URL("./tilewright.js", import.meta.url).href) as Promise<Client>;
}

/** One engine, loading or loaded. */
export class SharedEngine extends EventTarget {
  readonly engine: Promise<Tilewright>;
  readonly #key: string;
  readonly #stop = new AbortController();
  #users = 0;
  #progress: Progress = { phase: "runtime", done: 0, total: 0, seconds: 0 };

  private constructor(key: string, wanted: Wanted) {
    super();
    this.#key = key;
    this.engine = this.#load(wanted);
    this.engine.catch(() => this.#forget());
  }

  /** Return the engine for a want; the caller gives it back with `release`. */
  static use(wanted: Wanted): SharedEngine {
    const key = JSON.stringify([wanted.model, wanted.backend, wanted.contextLength]);
    let shared = SHARED.get(key);
    if (!shared) {
      shared = new SharedEngine(key, wanted);
      SHARED.set(key, shared);
    }
    shared.#users++;
    return shared;
  }

  /** How far the load is; every change dispatches `progress`. */
  get progress(): Progress {
    return this.#progress;
  }

  /** Say that one user needs it no more; `now`: a load that nobody else waits for is stopped. */
  release(now = false): void {
    this.#users--;
    if (now && this.#users === 0) return this.#end();
    setTimeout(() => this.#users === 0 && this.#end(), GRACE_MS);
  }

  /** Look at an error of a request; true where the engine is dead and the user has to get another. */
  failed(error: unknown): boolean {
    const dead = DEATHS.has((error as { code?: string } | null)?.code ?? "");
    if (dead) this.#end();
    return dead;
  }

  async #load({ model, backend, contextLength }: Wanted): Promise<Tilewright> {
    const { Tilewright } = await importClient();
    return Tilewright.load(model, {
      signal: this.#stop.signal,
      onProgress: (progress) => {
        this.#progress = progress;
        this.dispatchEvent(new Event("progress"));
      },
      ...(backend ? { environment: { TILEWRIGHT_BACKEND: backend } } : {}),
      ...(contextLength ? { context_length: contextLength } : {}),
    });
  }

  #end(): void {
    this.#forget();
    this.#stop.abort();
    void this.engine.then((engine) => engine.unload()).catch(() => undefined);
  }

  #forget(): void {
    if (SHARED.get(this.#key) === this) SHARED.delete(this.#key);
  }
}

const SHARED = new Map<string, SharedEngine>();
