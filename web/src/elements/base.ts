/**
 * What the elements have in common: attributes as properties, events, and the way to an engine.
 */

import type { Tilewright, Progress } from "../client.ts";
import { codeOf } from "../ui/advice.ts";
import { bundledModel, SharedEngine } from "./engines.ts";

export type ElementState = "idle" | "loading" | "ready" | "answering" | "failed";

/** Attributes of every element. */
const TEXTS = ["model", "system", "backend", "heading", "placeholder", "load"] as const;
const NUMBERS = ["context-length", "max-tokens", "temperature", "seed"] as const;
/** Another of these needs another engine. */
const OF_THE_ENGINE = ["model", "backend", "context-length"];

function camel(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

export abstract class TilewrightElement extends HTMLElement {
  static readonly observedAttributes: string[] = [...TEXTS, ...NUMBERS, "disabled"];

  /** The model's address, `hf:org/repo/file.gguf`, or nothing for the one beside the script. */
  declare model: string | null;
  /** Instructions for the model, before the conversation. */
  declare system: string | null;
  /** `webgpu` or `wasm`; nothing lets the engine choose. */
  declare backend: string | null;
  declare heading: string | null;
  declare placeholder: string | null;
  /** `eager`: load at once; otherwise the load begins when the visitor begins to type. */
  declare load: string | null;
  declare contextLength: number | null;
  declare maxTokens: number | null;
  declare temperature: number | null;
  declare seed: number | null;

  #shared: SharedEngine | undefined;
  #own: Tilewright | undefined;
  #state: ElementState = "idle";
  #states: Set<string> | undefined;
  #running = 0;

  constructor() {
    super();
    try {
      this.#states = this.attachInternals().states;
    } catch {
      // A browser without custom states: the property `state` says the same.
    }
  }

  connectedCallback(): void {
    // Properties that a page has set before this class was defined.
    for (const name of ["engine", "messages", "disabled", ...TEXTS, ...NUMBERS].map(camel)) {
      if (!Object.hasOwn(this, name)) continue;
      const target = this as unknown as Record<string, unknown>;
      const value = target[name];
      delete target[name];
      target[name] = value;
    }
    if (this.load === "eager") this.prepare().catch(() => undefined);
  }

  disconnectedCallback(): void {
    this.stop();
    this.#shared?.release();
    this.#shared = undefined;
    if (!this.#own) this.setState("idle");
  }

  attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    if (before === now) return;
    if (OF_THE_ENGINE.includes(name) && this.#shared) {
      this.stop();
      this.#shared.release();
      this.#shared = undefined;
      this.setState("idle");
    }
    if (this.isConnected && this.load === "eager" && [...OF_THE_ENGINE, "load"].includes(name)) {
      this.prepare().catch(() => undefined);
    }
  }

  get disabled(): boolean {
    return this.hasAttribute("disabled");
  }
  set disabled(value: boolean) {
    this.toggleAttribute("disabled", value);
  }

  /** What the element is doing; also as CSS states, `tilewright-chat:state(loading)`. */
  get state(): ElementState {
    return this.#state;
  }

  /** An engine that the page has loaded itself, to use instead of one of the element's own. */
  get engine(): Tilewright | undefined {
    return this.#own;
  }
  set engine(engine: Tilewright | undefined) {
    this.stop();
    this.#shared?.release();
    this.#shared = undefined;
    this.#own = engine;
    this.setState(engine ? "ready" : "idle");
  }

  /** End the running answer; what is there of it stays. */
  abstract stop(): void;

  /** Show a state; the subclass draws it. */
  protected setState(state: ElementState): void {
    this.#state = state;
    this.#states?.clear();
    this.#states?.add(state);
  }

  /** Called while the model loads. */
  protected showProgress(_progress: Progress): void {}

  /** Called when loading or answering has failed. */
  protected showError(_error: { code: string; message: string }): void {}

  /** Load the model, if it is not there yet. Rejects where it cannot come. */
  async prepare(): Promise<Tilewright> {
    if (this.#own) return this.#own;
    const isFirst = !this.#shared;
    const shared = (this.#shared ??= SharedEngine.use({
      model: this.model ?? bundledModel(),
      backend: this.backend,
      contextLength: this.contextLength,
    }));
    if (!isFirst) return shared.engine;
    const tell = () => {
      if (this.#shared !== shared) return;
      this.showProgress(shared.progress);
      this.emit("progress", shared.progress);
    };
    this.setState("loading");
    shared.addEventListener("progress", tell);
    tell();
    try {
      const engine = await shared.engine;
      if (this.#shared === shared) {
        this.setState(this.#running > 0 ? "answering" : "ready");
        this.emit("ready", { model: engine.info });
      }
      return engine;
    } catch (error) {
      if (this.#shared === shared) {
        this.#shared = undefined;
        this.fail(error);
      }
      throw error;
    } finally {
      shared.removeEventListener("progress", tell);
    }
  }

  /** Stop a load that is on its way. */
  protected stopLoading(): void {
    if (this.#state !== "loading") return;
    const shared = this.#shared;
    this.#shared = undefined;
    shared?.release(true);
    this.setState("idle");
  }

  /** Run a piece of work with the engine; its errors are shown and thrown, a stop is only thrown. */
  protected async withEngine<T>(signal: AbortSignal, work: (engine: Tilewright) => Promise<T>): Promise<T> {
    this.#running++;
    if (this.#state === "ready" || this.#state === "failed") this.setState("answering");
    try {
      const stopped = new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
      const engine = await Promise.race([this.prepare(), stopped]);
      this.setState("answering");
      try {
        const result = await work(engine);
        this.setState("ready");
        return result;
      } catch (error) {
        if (signal.aborted) {
          if (this.#state === "answering") this.setState("ready");
          throw error;
        }
        if (this.#shared?.failed(error)) this.#shared = undefined;
        this.fail(error);
        throw error;
      }
    } finally {
      this.#running--;
    }
  }

  protected fail(error: unknown): void {
    const told = codeOf(error);
    this.setState("failed");
    this.showError(told);
    this.emit("error", told);
  }

  protected emit(name: string, detail: unknown): void {
    const event = new CustomEvent(`tilewright-${name}`, { detail, bubbles: true, composed: true });
    this.dispatchEvent(event);
  }

  /** The sampling fields that the attributes ask for. */
  protected sampling(): { temperature?: number; seed?: number; max_tokens?: number } {
    const { temperature, seed, maxTokens } = this;
    return {
      ...(temperature === null ? {} : { temperature }),
      ...(seed === null ? {} : { seed }),
      ...(maxTokens === null ? {} : { max_tokens: maxTokens }),
    };
  }
}

for (const name of [...TEXTS, ...NUMBERS]) {
  const isNumber = (NUMBERS as readonly string[]).includes(name);
  Object.defineProperty(TilewrightElement.prototype, camel(name), {
    configurable: true,
    enumerable: true,
    get(this: HTMLElement) {
      const text = this.getAttribute(name);
      if (text === null || !isNumber) return text;
      return text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text);
    },
    set(this: HTMLElement, value: unknown) {
      if (value === null || value === undefined) this.removeAttribute(name);
      else this.setAttribute(name, String(value));
    },
  });
}
