/**
 * The OpenAI shapes of requests and answers, and how a request becomes a `generate` message.
 *
 * Fields that are not known here are refused by name, never ignored.
 */

import { TilewrightError } from "./errors.ts";
import type { Generate, Sampling } from "./protocol.ts";

export interface ChatMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

export interface ChatRequest {
  messages: ChatMessage[];
  model?: string;
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
  max_tokens?: number;
  max_completion_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repetition_penalty?: number;
  frequency_penalty?: number;
  presence_penalty?: number;
  logit_bias?: Record<string, number>;
  seed?: number;
  stop?: string | string[];
  tools?: Record<string, unknown>[];
  /** Further variables of the chat template, such as `enable_thinking`. */
  chat_template_kwargs?: Record<string, unknown>;
  signal?: AbortSignal;
}

/** What `engine.complete` takes: a prompt or ids, and sampling as the protocol has it. */
export interface CompletionRequest {
  prompt?: string;
  ids?: number[];
  sampling?: Sampling;
  stop?: string[];
  signal?: AbortSignal;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  x_timings: Record<string, number>;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: "assistant"; content: string };
    finish_reason: string;
  }[];
  usage?: Usage;
}

export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string };
    finish_reason: string | null;
  }[];
  usage?: Usage;
}

const SAMPLING = [
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "repetition_penalty",
  "frequency_penalty",
  "presence_penalty",
  "logit_bias",
  "seed",
] as const;

const OTHERS = [
  "messages",
  "model",
  "stream",
  "stream_options",
  "max_tokens",
  "max_completion_tokens",
  "stop",
  "tools",
  "chat_template_kwargs",
  "signal",
];

/** Turn a chat request into the worker's message; refuses unknown fields. */
export function toGenerate(request: ChatRequest): Omit<Generate, "id"> {
  const known = new Set<string>([...SAMPLING, ...OTHERS]);
  for (const field of Object.keys(request)) {
    if (!known.has(field)) {
      throw new TilewrightError("invalid_request", `There is no field ${field}.`, { field });
    }
  }
  const sampling: Record<string, unknown> = {};
  for (const field of SAMPLING) {
    if (request[field] != null) sampling[field] = request[field];
  }
  const most = request.max_completion_tokens ?? request.max_tokens;
  if (most != null) sampling["max_tokens"] = most;
  const stop = typeof request.stop === "string" ? [request.stop] : request.stop;
  return {
    type: "generate",
    messages: request.messages as Record<string, unknown>[],
    sampling: sampling as Sampling,
    ...(stop?.length ? { stop } : {}),
    ...(request.tools?.length ? { tools: request.tools } : {}),
    ...(request.chat_template_kwargs ? { variables: request.chat_template_kwargs } : {}),
  };
}
