/**
 * The typed methods with the names of the `openai` package: `chat.completions.create` and the others.
 *
 * Nothing is checked here: the worker refuses what it does not know, by name.
 */

import { TilewrightError } from "../errors.ts";
import type { Answered, Call } from "./call.ts";
import type { ErrorBody } from "./messages.ts";
import { PendingStream, Stream } from "./stream.ts";
import type {
  ChatRequest,
  Choice,
  Completion,
  CompletionRequest,
  EmbeddingRequest,
  Embeddings,
  Message,
  Model,
  Models,
  TextCompletion,
} from "./types.ts";

export interface RequestOptions {
  /** Stops the request at any moment. */
  signal?: AbortSignal | null;
}
/** A request may carry its signal itself, too. */
type Signalled<R> = R & RequestOptions;

/** `create` of an endpoint that streams when `stream` is true. */
export interface Create<R, Whole, Chunk> {
  (request: Signalled<R & { stream: true }>, options?: RequestOptions): PendingStream<Chunk>;
  (request: Signalled<R & { stream?: false | null }>, options?: RequestOptions): Promise<Whole>;
  (request: Signalled<R>, options?: RequestOptions): PendingStream<Chunk> | Promise<Whole>;
}

/** A whole answer. */
export type ChatCompletion = Omit<Completion, "choices"> & { choices: (Choice & { message: Message })[] };
/** One event of a stream. */
export type ChatCompletionChunk = Omit<Completion, "choices"> & {
  choices: (Choice & { delta: Message })[];
};
export type ChatCreate = Create<ChatRequest, ChatCompletion, ChatCompletionChunk>;
export type CompletionCreate = Create<CompletionRequest, TextCompletion, TextCompletion>;

/** The resources of an engine. */
export interface Resources {
  chat: { completions: { create: ChatCreate } };
  completions: { create: CompletionCreate };
  embeddings: {
    create(request: Signalled<EmbeddingRequest>, options?: RequestOptions): Promise<Embeddings>;
  };
  models: {
    list(options?: RequestOptions): Promise<Models>;
    retrieve(model: string, options?: RequestOptions): Promise<Model>;
  };
}

/** Return the resources over an engine's `call`. */
export function resourcesOver(call: Call): Resources {
  const get = async <T>(path: string, options?: RequestOptions) =>
    whole<T>(await call("GET", path, undefined, options?.signal));
  const create = (path: string) => (request: Signalled<{ stream?: boolean | null }>, options?: RequestOptions) => {
    const { signal: own, ...fields } = request;
    const signal = options?.signal ?? own;
    if (!fields.stream) return call("POST", path, JSON.stringify(fields), signal).then(whole);
    const controller = new AbortController();
    const either = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
    const opened = call("POST", path, JSON.stringify(fields), either).then(
      (answered) => new Stream(chunks(answered), controller),
    );
    return new PendingStream(opened, controller);
  };
  return {
    chat: { completions: { create: create("/v1/chat/completions") as unknown as ChatCreate } },
    completions: { create: create("/v1/completions") as unknown as CompletionCreate },
    embeddings: { create: create("/v1/embeddings") as unknown as Resources["embeddings"]["create"] },
    models: {
      list: (options) => get<Models>("/v1/models", options),
      retrieve: (model, options) => get<Model>(`/v1/models/${model}`, options),
    },
  };
}

function whole<T>(answered: Answered): T {
  if ("events" in answered) throw new TilewrightError("internal", "got a stream");
  check(answered.body, answered.status);
  return answered.body as T;
}

async function* chunks<T>(answered: Answered): AsyncGenerator<T, void, undefined> {
  if (!("events" in answered)) return void whole(answered);
  for await (const event of answered.events) {
    check(event, 500);
    yield event as T;
  }
}

/** Throw the error that a body in OpenAI's shape tells. */
function check(body: unknown, status: number): void {
  const error = (body as ErrorBody | null)?.error;
  if (!error) return;
  const details = { status, type: error.type, ...(error.param === null ? {} : { field: error.param }) };
  throw new TilewrightError(error.code ?? "internal", error.message, details);
}
