/**
 * Turns a conversation and the settings into an answer, message object by message object.
 *
 * The message is changed in place and `onChange` is called; storing and showing are the caller's.
 */

import type { ModelInfo } from "../protocol.ts";
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
  // A model without a chat template continues the text of the conversation itself.
  const prompt = messages.map(({ content }) => String(content)).join("\n");
  const asked = info.has_chat_template ? { messages } : { prompt };
  const sampling = samplingOf(settings);
  for await (const part of engine.complete({ ...asked, sampling, signal })) {
    if (part.text) {
      answer.content += part.text;
      onChange();
    }
    if (part.finishReason) answer.finish = part.finishReason === "length" ? "length" : "stop";
    if (part.usage) {
      answer.stats = {
        promptTokens: part.usage.prompt_tokens,
        completionTokens: part.usage.completion_tokens,
        cachedTokens: part.usage.cached_tokens,
        contextLength: info.context_length,
        tokensPerSecond: part.usage.tokens_per_second,
        timeToFirstToken: part.usage.time_to_first_token_s,
      };
    }
  }
  answer.finish ??= "stop";
  onChange();
}
