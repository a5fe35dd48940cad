/** What `engine.complete` takes: the engine's own request, below the OpenAI API. */

import type { ChatMessage } from "./openai/messages.ts";
import type { Sampling } from "./protocol.ts";

export type { ChatMessage } from "./openai/messages.ts";
export type { ChatRequest } from "./openai/types.ts";

/** Exactly one of messages, prompt and ids; sampling as the protocol has it. */
export interface GenerateRequest {
  messages?: ChatMessage[];
  prompt?: string;
  ids?: number[];
  sampling?: Sampling;
  stop?: string[];
  tools?: Record<string, unknown>[];
  /** Variables of the chat template, such as `enable_thinking`. */
  variables?: Record<string, unknown>;
  signal?: AbortSignal;
}
