/**
 * Turns a conversation and the settings into an answer, message object by message object.
 *
 * The message is changed in place and `onChange` is called; storing and showing are the caller's.
 */

import type { ModelInfo, UsageReport } from "../protocol.ts";
import type { ChatMessage } from "../requests.ts";
import type { Tilewright } from "../client.ts";
import { codeOf, isStop } from "./advice.ts";
import type { Message } from "./conversations.ts";
import { type Settings, samplingOf } from "./settings.ts";

/** Return the messages of a request: system prompt, then the turns, without failed answers. */
export function requestMessages(history: readonly Message[], settings: Settings): ChatMessage[] {
  const turns = history
    .filter(({ role, content, finish }) => role === "user" || (content !== "" && finish !== "error"))
    .map(({ role, content }) => ({ role, content }));
  const system = settings.system.trim();
  return system ? [{ role: "system", content: system }, ...turns] : turns;
}

/** Remove the oldest turn (the user's message and its answer); false where only one is left. */
export function dropOldest(messages: ChatMessage[]): number {
  const first = messages.findIndex(({ role }) => role !== "system");
  const next = messages.findIndex(({ role }, index) => index > first && role === "user");
  if (first < 0 || next < 0) return 0;
  messages.splice(first, next - first);
  return next - first;
}

/** Stream the answer to `history` into `answer`. Ends without throwing: see `answer.finish`. */
export async function generate(
  engine: Tilewright,
  info: ModelInfo,
  history: readonly Message[],
  answer: Message,
  settings: Settings,
  signal: AbortSignal,
  onChange: () => void,
): Promise<void> {
  const messages = requestMessages(history, settings);
  answer.model = info.name;
  for (;;) {
    try {
      await stream(engine, info, messages, answer, settings, signal, onChange);
      return;
    } catch (error) {
      if (isStop(error) || signal.aborted) {
        answer.finish = "stopped";
        return onChange();
      }
      const { code, message } = codeOf(error);
      const dropped = code === "context_length_exceeded" && !answer.content ? dropOldest(messages) : 0;
      if (dropped > 0) {
        answer.leftOut = (answer.leftOut ?? 0) + dropped;
        continue;
      }
      answer.finish = "error";
      answer.error = { code, message };
      return onChange();
    }
  }
}

async function stream(
  engine: Tilewright,
  info: ModelInfo,
  messages: ChatMessage[],
  answer: Message,
  settings: Settings,
  signal: AbortSignal,
  onChange: () => void,
): Promise<void> {
  const chunks = info.has_chat_template
    ? engine.chat.completions.create({
        ...samplingOf(settings),
        messages,
        stream: true,
        stream_options: { include_usage: true },
        signal,
      })
    : plainChunks(engine, messages, settings, signal);
  for await (const chunk of chunks) {
    const choice = chunk.choices[0];
    if (choice?.delta.content) {
      answer.content += choice.delta.content;
      onChange();
    }
    if (choice?.finish_reason) answer.finish = choice.finish_reason === "length" ? "length" : "stop";
    if (chunk.usage) {
      const { prompt_tokens, completion_tokens, prompt_tokens_details, x_timings } = chunk.usage;
      answer.stats = {
        promptTokens: prompt_tokens,
        completionTokens: completion_tokens,
        cachedTokens: prompt_tokens_details.cached_tokens,
        contextLength: info.context_length,
        tokensPerSecond: x_timings["tokens_per_second"] ?? 0,
        timeToFirstToken: x_timings["time_to_first_token_s"] ?? 0,
      };
    }
  }
  answer.finish ??= "stop";
  onChange();
}

interface Chunk {
  choices: { delta: { content?: string }; finish_reason: string | null }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
    x_timings: Record<string, number>;
  };
}

/** A model without a chat template continues the text of the conversation itself. */
async function* plainChunks(
  engine: Tilewright,
  messages: ChatMessage[],
  settings: Settings,
  signal: AbortSignal,
): AsyncGenerator<Chunk> {
  const prompt = messages.map(({ content }) => String(content)).join("\n");
  const sampling = samplingOf(settings) as Record<string, number>;
  for await (const part of engine.complete({ prompt, sampling, signal })) {
    yield {
      choices: [{ delta: { content: part.text }, finish_reason: part.finishReason }],
      ...(part.usage ? { usage: plainUsage(part.usage) } : {}),
    };
  }
}

function plainUsage(usage: UsageReport): NonNullable<Chunk["usage"]> {
  const { prompt_tokens, completion_tokens, cached_tokens, ...x_timings } = usage;
  return { prompt_tokens, completion_tokens, prompt_tokens_details: { cached_tokens }, x_timings };
}
