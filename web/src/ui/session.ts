/**
 * The model of the page: loading, loaded, or failed. One at a time.
 *
 * Views listen to `change`; whoever needs the engine awaits `whenReady`. Knows nothing of elements.
 */

import { type EngineOptions, type Progress, Tilewright } from "../client.ts";
import type { ModelInfo } from "../protocol.ts";
import { codeOf, isStop } from "./advice.ts";
import { askedBackend } from "./support.ts";
import { Speedometer } from "./format.ts";
import { askToPersist } from "./kept_models.ts";
import { type ModelSource, rememberModel } from "./models.ts";

export type SessionState =
  | { kind: "none" }
  | { kind: "loading"; source: ModelSource; progress: Progress; speed: number | null; left: number | null }
  | { kind: "ready"; source: ModelSource; info: ModelInfo; engine: Tilewright; seconds: number }
  | { kind: "failed"; source: ModelSource; error: { code: string; message: string; details?: Record<string, unknown> } }
  | { kind: "cancelled"; source: ModelSource };

export class ModelSession extends EventTarget {
  #state: SessionState = { kind: "none" };
  #stop: AbortController | undefined;

  get state(): SessionState {
    return this.#state;
  }

  /** Load a model, after freeing the present one. Never throws: the outcome is the state. */
  async load(source: ModelSource, options: EngineOptions = {}): Promise<void> {
    this.#stop?.abort();
    const stop = new AbortController();
    this.#stop = stop;
    const before = this.#state.kind === "ready" ? this.#state.engine : undefined;
    const speedometer = new Speedometer();
    const begun = performance.now();
    const show = (progress: Progress) => {
      if (this.#stop !== stop) return;
      if (progress.total > 0) speedometer.note(progress.done, performance.now() / 1000);
      const { speed } = speedometer;
      this.#set({ kind: "loading", source, progress, speed, left: speedometer.left(progress.total) });
    };
    show({ phase: "runtime", done: 0, total: 0, seconds: 0 });
    try {
      await before?.unload().catch(() => undefined);
      if (stop.signal.aborted) return;
      const model = source.kind === "file" ? source.files : source.reference;
      const backend = askedBackend();
      const asked = backend ? { ...options, backend } : options;
      const engine = await Tilewright.load(model, { ...asked, onProgress: show, signal: stop.signal });
      if (this.#stop !== stop) {
        await engine.unload().catch(() => undefined);
        return;
      }
      rememberModel(source, engine.info.bytes);
      if (source.kind !== "bundled" && engine.info.stored) void askToPersist();
      const seconds = (performance.now() - begun) / 1000;
      this.#set({ kind: "ready", source, info: engine.info, engine, seconds });
    } catch (error) {
      if (this.#stop !== stop) return;
      this.#set(isStop(error) ? { kind: "cancelled", source } : { kind: "failed", source, error: codeOf(error) });
    }
  }

  /** Stop a load. */
  cancel(): void {
    if (this.#state.kind !== "loading") return;
    this.#stop?.abort();
    this.#stop = undefined;
    this.#set({ kind: "cancelled", source: this.#state.source });
  }

  /** Note that the engine itself died, so that the views offer to load it again. */
  drop(): void {
    if (this.#state.kind !== "ready") return;
    const { engine, source } = this.#state;
    engine.unload().catch(() => undefined);
    this.#set({ kind: "cancelled", source });
  }

  /** Resolve with the engine as soon as there is one; reject when `signal` fires. */
  whenReady(signal: AbortSignal): Promise<{ engine: Tilewright; info: ModelInfo }> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.removeEventListener("change", look);
        signal.removeEventListener("abort", stopped);
      };
      const stopped = () => (done(), reject(signal.reason));
      const look = () => {
        if (this.#state.kind !== "ready") return;
        done();
        resolve(this.#state);
      };
      if (signal.aborted) return reject(signal.reason);
      this.addEventListener("change", look);
      signal.addEventListener("abort", stopped, { once: true });
      look();
    });
  }

  #set(state: SessionState): void {
    this.#state = state;
    this.dispatchEvent(new Event("change"));
  }
}
