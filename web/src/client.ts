/**
 * The client of a page: `await Tilewright.load(model)`, then `engine.chat.completions.create(...)`
 * with the OpenAI field names, or `engine.fetch` for whoever speaks HTTP. Streaming is an async iterator; every wait takes an AbortSignal.
 */

import { Connection, type Place } from "./connection.ts";
import { TilewrightError } from "./errors.ts";
import { callOver } from "./openai/call.ts";
import { Exchange } from "./openai/exchange.ts";
import { type Fetch, fetchOver } from "./openai/fetch.ts";
import { type Resources, resourcesOver } from "./openai/resources.ts";
import type {
  Choice,
  DeltaReport,
  Inspection,
  LoadOptions,
  ModelInfo,
  UsageReport,
} from "./protocol.ts";
import type { GenerateRequest } from "./requests.ts";
import {
  exchangeRecords,
  type RecordsSource,
  recordsText,
  tune,
  tuneInBackground,
  type TuneOptions,
  type TuningResult,
} from "./tuning.ts";

/** How far a load is. */
export interface Progress {
  phase: string;
  done: number;
  total: number;
  seconds: number;
  /** Kernels that were tuned while the weights came from a slow network. */
  tuned?: number;
}

export interface EngineOptions extends LoadOptions {
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
  /** Sent with every request for the model's bytes, for example an access token. */
  headers?: Record<string, string>;
  /** Where `hf:` references are looked up: the Hugging Face Hub, or a mirror of it. */
  hub?: string;
  /** Tuning records that the site ships for known devices; what was measured here counts more. */
  records?: RecordsSource;
  /** Tune in the background once the model is loaded, with these options. */
  tune?: boolean | TuneOptions;
  /** An access token of the hub, for gated and private repositories; never kept. */
  token?: string;
  /** SHA-256 of the model's file in hexadecimal: bytes that differ are refused. */
  sha256?: string;
  /** Bytes of weights that fit this device: `hf:org/repo` prefers a file that does. */
  budget?: number;
  /** Switches of the Python side, such as `TILEWRIGHT_DEBUG`. */
  environment?: Record<string, string>;
}

/** One step of a stream: text and tokens, and at the end the reason and the usage. */
export interface StreamPart {
  text: string;
  tokens: DeltaReport["tokens"];
  finishReason: string | null;
  usage: UsageReport | null;
}

/** What names a model: an address, an `hf:` reference, a File, or the files of a folder. */
export type ModelName = string | URL | Blob | readonly Blob[];

/** Split what names a model, and how to reach it, into the message and what the worker keeps. */
function placeOf(
  model: ModelName,
  { headers = {}, hub, token, sha256, budget }: EngineOptions,
): [message: { url?: string; headers?: Record<string, string> }, place: Place] {
  const place: Place = {
    ...(hub === undefined ? {} : { hub: hub.replace(/\/+$/, "") }),
    ...(sha256 === undefined ? {} : { sha256: sha256.toLowerCase() }),
    ...(budget === undefined ? {} : { budget }),
  };
  if (typeof model !== "string" && !(model instanceof URL)) {
    return [{}, { ...place, files: model instanceof Blob ? [model] : model }];
  }
  const text = String(model);
  const url = text.startsWith("hf:") ? text : new URL(text, document.baseURI).href;
  const all = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  return [{ url, ...(Object.keys(all).length > 0 ? { headers: all } : {}) }, place];
}

export class Tilewright implements Resources {
  readonly info: ModelInfo;
  readonly chat: Resources["chat"];
  readonly completions: Resources["completions"];
  readonly embeddings: Resources["embeddings"];
  readonly models: Resources["models"];
  /** Answers `/v1/...` as an OpenAI server does: `new OpenAI({ fetch: engine.fetch, ... })`. */
  readonly fetch: Fetch;
  readonly #connection: Connection;

  private constructor(connection: Connection, info: ModelInfo) {
    this.#connection = connection;
    this.info = info;
    const call = callOver(connection);
    ({
      chat: this.chat,
      completions: this.completions,
      embeddings: this.embeddings,
      models: this.models,
    } = resourcesOver(call));
    this.fetch = fetchOver(call);
  }

  /** Start a worker and load a model: a URL, an `hf:` reference, a File, or several. */
  static async load(model: ModelName, options: EngineOptions = {}): Promise<Tilewright> {
    const { onProgress, signal, environment, records, tune: tuning } = options;
    const [message, place] = placeOf(model, options);
    const connection = new Connection(environment);
    try {
      onProgress?.({ phase: "runtime", done: 0, total: 0, seconds: 0 });
      const shipped = records === undefined ? null : await recordsText(records, signal);
      const answer = await connection.request(
        {
          type: "load",
          ...(shipped === null ? {} : { records: shipped }),
          ...message,
          ...(message.url === undefined ? {} : { reference: String(model) }),
          options: loadOptions(options),
        },
        { onProgress, signal },
        place,
      );
      if (answer.type !== "loaded") throw new TilewrightError("internal", `got ${answer.type}`);
      if (tuning) tuneInBackground(connection, tuning === true ? {} : tuning);
      return new Tilewright(connection, answer.model);
    } catch (error) {
      connection.terminate();
      throw error;
    }
  }

  /** Say what a model is and whether it would fit this device; only its header is read. */
  static async inspect(
    model: ModelName,
    options: EngineOptions & { choices?: Choice[] } = {},
  ): Promise<Inspection> {
    const { signal, environment, choices = [] } = options;
    const [message, place] = placeOf(model, options);
    const connection = new Connection(environment);
    try {
      const answer = await connection.request(
        { type: "inspect", ...message, options: loadOptions(options), choices },
        { signal },
        place,
      );
      if (answer.type !== "result") throw new TilewrightError("internal", `got ${answer.type}`);
      return answer.value as unknown as Inspection;
    } finally {
      connection.terminate();
    }
  }

  /** Complete messages, a plain prompt or token ids, part by part: text and ids as they come. */
  async *complete(request: GenerateRequest): AsyncGenerator<StreamPart, void, undefined> {
    const { signal, ...message } = request;
    const exchange = new Exchange<DeltaReport>(
      this.#connection,
      { type: "generate", ...(message as Omit<GenerateRequest, "signal" | "messages">) },
      signal,
    );
    for await (const { text, tokens } of exchange.parts()) {
      yield { text, tokens, finishReason: null, usage: null };
    }
    const done = await exchange.answer;
    if (done.type !== "done") return;
    yield { text: "", tokens: [], finishReason: done.finish_reason, usage: done.usage };
  }

  /** The model's pooled vectors of texts or of lists of token ids, in order. */
  async embed(
    inputs: { texts: string[] } | { ids: number[][] },
    options: { signal?: AbortSignal } = {},
  ): Promise<number[][]> {
    const answer = await this.#connection.request({ type: "embed", ...inputs }, options);
    return answer.type === "result" ? (answer.value["vectors"] as number[][]) : [];
  }

  /**
   * Time the kernels on this device and use the fastest; what has a record already is left alone.
   * Waits while anything is generated; the signal pauses it.
   */
  tune(options: TuneOptions = {}): Promise<TuningResult> {
    return tune(this.#connection, options);
  }

  /** The tuning records of this device, as a JSON document for a site to ship. */
  async exportRecords(): Promise<string> {
    return (await exchangeRecords(this.#connection)).document;
  }

  /** Take over records, and keep them; return how many the document held. */
  async importRecords(records: RecordsSource): Promise<number> {
    const text = await recordsText(records);
    if (text === null) throw new TilewrightError("source_unavailable", "The tuning records cannot be read.");
    return (await exchangeRecords(this.#connection, text)).taken;
  }

  /**
   * Load a LoRA adapter beside the model: a GGUF adapter, or PEFT's adapter_model.safetensors with
   * its adapter_config.json. Requests choose it by `name` (`adapter`, in `sampling` of `complete`).
   */
  async addAdapter(name: string, adapter: ModelName, options: EngineOptions = {}): Promise<void> {
    const [message, place] = placeOf(adapter, options);
    const { signal } = options;
    await this.#connection.request({ type: "adapter", name, ...message }, { signal }, place);
  }

  /** Forget a LoRA adapter; nothing may be using it. */
  async removeAdapter(name: string): Promise<void> {
    await this.#connection.request({ type: "adapter", name, remove: true });
  }

  /** The engine's counters. */
  async stats(): Promise<Record<string, unknown>> {
    const answer = await this.#connection.request({ type: "stats" });
    return answer.type === "result" ? answer.value : {};
  }

  /** Free the model and end the worker. */
  async unload(): Promise<void> {
    try {
      await this.#connection.request({ type: "unload" });
    } finally {
      this.#connection.terminate();
    }
  }
}

/** What of the options goes to Python; anything else that is given is refused there by name. */
function loadOptions(options: EngineOptions & { choices?: Choice[] }): LoadOptions {
  const { onProgress: _1, signal: _2, headers: _3, hub: _4, token: _5, ...others } = options;
  const { sha256: _6, budget: _7, environment: _8, choices: _9, ...rest } = others;
  const { records: _10, tune: _11, ...load } = rest;
  return load;
}
