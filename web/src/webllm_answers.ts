/** Answers in WebLLM's shape: chunks put together, and the numbers under its names. */

import type { ChatCompletion, ChatCompletionChunk } from "./openai/resources.ts";
import type { Choice, Message, Usage } from "./openai/types.ts";

/** WebLLM's numbers, beside ours. */
export interface UsageExtra {
  e2e_latency_s: number;
  prefill_tokens_per_s: number;
  decode_tokens_per_s: number;
  time_to_first_token_s: number;
  time_per_output_token_s: number;
}

/** Return a usage with WebLLM's `extra`. */
export function withExtras(usage: Usage): Usage & { extra: UsageExtra } {
  const { time_to_first_token_s = 0, completion_s = 0, tokens_per_second = 0 } = usage.x_tilewright ?? {};
  const computed = usage.prompt_tokens - (usage.prompt_tokens_details?.cached_tokens ?? 0);
  return {
    ...usage,
    extra: {
      e2e_latency_s: time_to_first_token_s + completion_s,
      prefill_tokens_per_s: time_to_first_token_s > 0 ? computed / time_to_first_token_s : 0,
      decode_tokens_per_s: tokens_per_second,
      time_to_first_token_s,
      time_per_output_token_s: tokens_per_second > 0 ? 1 / tokens_per_second : 0,
    },
  };
}

/** Put the chunks of a stream together: what a request without `stream` gives. */
export async function merged(chunks: AsyncIterable<ChatCompletionChunk>): Promise<ChatCompletion> {
  const choices = new Map<number, Choice & { message: Message }>();
  let last: ChatCompletionChunk | undefined;
  for await (const chunk of chunks) {
    last = { ...chunk, usage: chunk.usage ?? last?.usage ?? null };
    for (const { index, delta, logprobs, finish_reason } of chunk.choices) {
      const message: Message = { role: "assistant", content: "" };
      const choice = choices.get(index) ?? { index, message, logprobs: null, finish_reason: null };
      choices.set(index, choice);
      add(choice.message, delta);
      choice.finish_reason = finish_reason ?? choice.finish_reason;
      if (logprobs) choice.logprobs = { content: [...(choice.logprobs?.content ?? []), ...logprobs.content] };
    }
  }
  const ordered = [...choices.values()].sort((a, b) => a.index - b.index);
  return { ...last!, object: "chat.completion", choices: ordered };
}

function add(message: Message, delta: Message): void {
  message.content = (message.content ?? "") + (delta.content ?? "");
  if (delta.reasoning_content) {
    message.reasoning_content = (message.reasoning_content ?? "") + delta.reasoning_content;
  }
  if (delta.tool_calls) message.tool_calls = [...(message.tool_calls ?? []), ...delta.tool_calls];
}
