/**
 * WebLLM's names over this engine, so that an existing app changes an import and a model's name:
 * `import { CreateMLCEngine } from "./webllm.js"`. New code is better off with `Tilewright`.
 *
 * A model's name is one of `appConfig.model_list` (whose `model` is a GGUF or safetensors reference)
 * or a reference itself. The worker that is passed to `CreateWebWorkerMLCEngine` stays idle: the
 * engine has a worker of its own.
 */

import { type EngineOptions, type Progress, Tilewright } from "./client.ts";
import { TilewrightError } from "./errors.ts";
import type { ChatCompletion, ChatCompletionChunk, RequestOptions } from "./openai/resources.ts";
import type { ChatRequest, CompletionRequest, EmbeddingRequest, Usage } from "./openai/types.ts";
import { merged, withExtras } from "./webllm_answers.ts";

export interface InitProgressReport {
  /** 0 to 1. */
  progress: number;
  /** Seconds. */
  timeElapsed: number;
  text: string;
}
export type InitProgressCallback = (report: InitProgressReport) => void;

export interface ModelRecord {
  model_id: string;
  /** What `Tilewright.load` takes: a URL, or `hf:organisation/repository/file.gguf`. */
  model: string;
  overrides?: ChatOptions;
  [other: string]: unknown;
}
export interface AppConfig {
  model_list: ModelRecord[];
  [other: string]: unknown;
}
/** Defaults of requests, and the length of the context. */
export interface ChatOptions {
  temperature?: number;
  top_p?: number;
  repetition_penalty?: number;
  frequency_penalty?: number;
  presence_penalty?: number;
  context_window_size?: number;
  [other: string]: unknown;
}
export interface MLCEngineConfig {
  appConfig?: AppConfig;
  initProgressCallback?: InitProgressCallback;
  logLevel?: string;
  /** Further options of `Tilewright.load`. */
  tilewright?: EngineOptions;
}

/** The models that come with the site. */
export const prebuiltAppConfig: AppConfig = {
  model_list: [
    { model_id: "tilewright-tiny", model: new URL("./models/tilewright-tiny.gguf", import.meta.url).href },
  ],
};

const DEFAULTS = ["temperature", "top_p", "repetition_penalty", "frequency_penalty", "presence_penalty"] as const;

/** WebLLM's request: ours, and its own ways to ask for a schema, a grammar or reasoning. */
export type MLCChatRequest = Omit<ChatRequest, "response_format"> & {
  response_format?:
    | ChatRequest["response_format"]
    | { type: "json_object"; schema?: string }
    | { type: "grammar"; grammar: string };
  extra_body?: { enable_thinking?: boolean | null; [other: string]: unknown };
};

export interface MLCEngineInterface {
  chat: { completions: { create: MLCChatCreate } };
}
interface MLCChatCreate {
  (request: MLCChatRequest & { stream: true }): Promise<AsyncIterable<ChatCompletionChunk>>;
  (request: MLCChatRequest & { stream?: false | null }): Promise<ChatCompletion>;
}

export class MLCEngine implements MLCEngineInterface {
  readonly chat = { completions: { create: ((request) => this.#create(request)) as MLCChatCreate } };
  readonly completions = {
    create: (request: CompletionRequest) => this.#loaded().completions.create(request, { signal: this.#signal() }),
  };
  readonly embeddings = {
    create: (request: EmbeddingRequest) => this.#loaded().embeddings.create(request, { signal: this.#signal() }),
  };
  #config: MLCEngineConfig;
  #engine: Tilewright | undefined;
  #modelId = "";
  #options: ChatOptions = {};
  #running = new AbortController();
  #message = "";
  #usage: Usage | undefined;

  constructor(config: MLCEngineConfig = {}) {
    this.#config = config;
  }

  /** The engine below; undefined before `reload`. */
  get tilewright(): Tilewright | undefined {
    return this.#engine;
  }

  setInitProgressCallback(callback: InitProgressCallback): void {
    this.#config = { ...this.#config, initProgressCallback: callback };
  }

  getInitProgressCallback(): InitProgressCallback | undefined {
    return this.#config.initProgressCallback;
  }

  setAppConfig(appConfig: AppConfig): void {
    this.#config = { ...this.#config, appConfig };
  }

  setLogLevel(_level: string): void {
    // Nothing is logged but warnings.
  }

  /** Load a model in place of the one that is loaded. One at a time: of a list, the first. */
  async reload(modelId: string | string[], chatOpts: ChatOptions | ChatOptions[] = {}): Promise<void> {
    await this.unload();
    const name = Array.isArray(modelId) ? modelId[0]! : modelId;
    const options = Array.isArray(chatOpts) ? (chatOpts[0] ?? {}) : chatOpts;
    const record = modelRecord(name, this.#config.appConfig);
    this.#options = { ...record.overrides, ...options };
    const { context_window_size } = this.#options;
    const more = this.#config.tilewright;
    this.#engine = await Tilewright.load(record.model, {
      ...(context_window_size === undefined ? {} : { context_length: context_window_size }),
      ...more,
      onProgress: (progress) => {
        more?.onProgress?.(progress);
        this.#config.initProgressCallback?.(report(progress, name));
      },
    });
    this.#modelId = name;
    const text = `Finish loading on ${this.#engine.info.device}`;
    this.#config.initProgressCallback?.({ progress: 1, timeElapsed: 0, text });
  }

  async unload(): Promise<void> {
    this.interruptGenerate();
    const engine = this.#engine;
    this.#engine = undefined;
    await engine?.unload();
  }

  /** Stop what is being generated: answers end with the reason `abort`. */
  interruptGenerate(): void {
    this.#running.abort();
    this.#running = new AbortController();
  }

  /** Forget the last answer and, unless told otherwise, its numbers. A chat has no state here. */
  async resetChat(keepStats = false, _modelId?: string): Promise<void> {
    this.interruptGenerate();
    this.#message = "";
    if (!keepStats) this.#usage = undefined;
  }

  /** The text of the last answer, as far as it is. */
  async getMessage(_modelId?: string): Promise<string> {
    return this.#message;
  }

  async runtimeStatsText(_modelId?: string): Promise<string> {
    const extra = this.#usage && withExtras(this.#usage).extra;
    const speed = (value = 0) => `${value.toFixed(4)} tokens/sec`;
    return `prefill: ${speed(extra?.prefill_tokens_per_s)}, decoding: ${speed(extra?.decode_tokens_per_s)}`;
  }

  async getMaxStorageBufferBindingSize(): Promise<number> {
    const adapter = await navigator.gpu?.requestAdapter();
    return adapter?.limits.maxStorageBufferBindingSize ?? 0;
  }

  async getGPUVendor(): Promise<string> {
    return (await navigator.gpu?.requestAdapter())?.info.vendor ?? "";
  }

  chatCompletion(request: MLCChatRequest): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    return this.#create(request);
  }

  #loaded(): Tilewright {
    if (this.#engine) return this.#engine;
    throw new TilewrightError("invalid_request", "No model is loaded: call reload(modelId) first.");
  }

  #signal(): AbortSignal {
    return this.#running.signal;
  }

  async #create(request: MLCChatRequest): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    const engine = this.#loaded();
    const own = ourRequest(request, this.#options, this.#modelId, engine.info.name);
    this.#message = "";
    const stream_options = { include_usage: true };
    const options: RequestOptions = { signal: this.#signal() };
    const stream = await engine.chat.completions.create({ ...own, stream: true, stream_options }, options);
    const chunks = this.#noted(stream, options.signal!, request);
    return request.stream ? chunks : merged(chunks);
  }

  /** Pass chunks on, keep what `getMessage` and the statistics tell, and end quietly when stopped. */
  async *#noted(
    stream: AsyncIterable<ChatCompletionChunk>,
    signal: AbortSignal,
    request: MLCChatRequest,
  ): AsyncGenerator<ChatCompletionChunk> {
    const wanted = !request.stream || request.stream_options?.include_usage;
    let last: ChatCompletionChunk | undefined;
    try {
      for await (const chunk of stream) {
        last = chunk;
        this.#message += chunk.choices.find(({ index }) => index === 0)?.delta.content ?? "";
        if (chunk.usage) this.#usage = chunk.usage;
        if (chunk.choices.length > 0) yield chunk;
        else if (wanted && chunk.usage) yield { ...chunk, usage: withExtras(chunk.usage) };
      }
    } catch (error) {
      if (!signal.aborted || !last) throw error;
      const ended = { index: 0, delta: {}, logprobs: null, finish_reason: "abort" as never };
      yield { ...last, choices: [ended] };
    }
  }
}

/** Load a model; resolves when it can be asked. */
export async function CreateMLCEngine(
  modelId: string | string[],
  engineConfig: MLCEngineConfig = {},
  chatOpts: ChatOptions | ChatOptions[] = {},
): Promise<MLCEngine> {
  const engine = new MLCEngine(engineConfig);
  await engine.reload(modelId, chatOpts);
  return engine;
}

/** The same; the app's worker has nothing to do. */
export function CreateWebWorkerMLCEngine(
  _worker: unknown,
  modelId: string | string[],
  engineConfig: MLCEngineConfig = {},
  chatOpts: ChatOptions | ChatOptions[] = {},
): Promise<WebWorkerMLCEngine> {
  return CreateMLCEngine(modelId, engineConfig, chatOpts);
}

/** The same; see `serveSite` for a service worker that answers the OpenAI API. */
export const CreateServiceWorkerMLCEngine = (
  modelId: string | string[],
  engineConfig: MLCEngineConfig = {},
  chatOpts: ChatOptions | ChatOptions[] = {},
): Promise<MLCEngine> => CreateMLCEngine(modelId, engineConfig, chatOpts);

export { MLCEngine as WebWorkerMLCEngine, MLCEngine as ServiceWorkerMLCEngine };
type WebWorkerMLCEngine = MLCEngine;

/** For the app's worker script: takes the messages, and does nothing with them. */
export class WebWorkerMLCEngineHandler {
  onmessage(_event: unknown): void {
    // The engine's own worker does the work.
  }
}

function modelRecord(modelId: string, appConfig: AppConfig = prebuiltAppConfig): ModelRecord {
  const known = [...appConfig.model_list, ...prebuiltAppConfig.model_list];
  const found = known.find(({ model_id }) => model_id === modelId);
  if (found) return found;
  if (/[/:]|\.(gguf|safetensors)$/.test(modelId)) return { model_id: modelId, model: modelId };
  throw new TilewrightError(
    "invalid_request",
    `The model ${modelId} is not in model_list: add it with the address of a GGUF file, or name that.`,
    { field: "model" },
  );
}

function report({ phase, done, total, seconds }: Progress, modelId: string): InitProgressReport {
  const progress = total > 0 ? done / total : 0;
  const text = `Loading ${modelId}: ${phase}, ${Math.round(progress * 100)}% completed, ${Math.round(seconds)} secs elapsed.`;
  return { progress: Math.min(progress, 0.99), timeElapsed: seconds, text };
}

function ourRequest(request: MLCChatRequest, options: ChatOptions, modelId: string, name: string): ChatRequest {
  const { response_format, extra_body, stream: _, stream_options: __, ...rest } = request;
  const own: ChatRequest = { ...rest };
  for (const field of DEFAULTS) own[field] ??= options[field] ?? null;
  if (own.model === modelId) own.model = name;
  const { enable_thinking, ...others } = extra_body ?? {};
  Object.assign(own, others);
  if (enable_thinking != null) own.chat_template_kwargs = { ...own.chat_template_kwargs, enable_thinking };
  if (response_format?.type === "grammar") own.grammar = response_format.grammar;
  else if (response_format && "schema" in response_format && response_format.schema) {
    const schema = JSON.parse(response_format.schema) as Record<string, unknown>;
    own.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  } else if (response_format) own.response_format = response_format as NonNullable<ChatRequest["response_format"]>;
  return own;
}
