/** The Vercel AI SDK over `engine.fetch`: no provider of our own is needed. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";

export async function tour({ baseURL, fetch, model }) {
  const provider = createOpenAICompatible({ name: "tilewright", baseURL, fetch, apiKey: "-" });
  const chat = provider(model);
  const asked = { model: chat, prompt: "Hi", maxOutputTokens: 6, seed: 1, temperature: 0.5, maxRetries: 0 };
  const whole = await generateText(asked);
  const streaming = streamText(asked);
  let streamed = "";
  for await (const piece of streaming.textStream) streamed += piece;
  const parameters = { type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] };
  const weather = tool({ inputSchema: jsonSchema(parameters) });
  const called = await generateText({ ...asked, maxOutputTokens: 100, tools: { weather }, toolChoice: "required" });
  return {
    whole: whole.text,
    streamed,
    tokens: whole.usage.outputTokens,
    reason: whole.finishReason,
    call: called.toolCalls[0],
  };
}
