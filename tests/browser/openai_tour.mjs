/**
 * The official `openai` npm client on a scripted tour: `await tour({ baseURL, fetch, model })`.
 * `most` is how many chunks a stream that is stopped at the third may give: a socket holds some more.
 *
 * Runs in a page over `engine.fetch` and under Node against `tilewright serve`; the model is a tiny
 * random one whose template has tools and reasoning. Gives the names of what passed and what failed.
 */
import OpenAI from "openai";

const HI = [{ role: "user", content: "Hi" }];
const PERSON = {
  type: "object",
  properties: { name: { type: "string", maxLength: 6 }, age: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["name", "age"],
  additionalProperties: false,
};
const CITY = { type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] };
const WEATHER = { type: "function", function: { name: "weather", parameters: CITY } };

export async function tour({ model, most = 150, ...options }) {
  const client = new OpenAI({ apiKey: "key", maxRetries: 0, dangerouslyAllowBrowser: true, ...options });
  const chat = (request, more) => client.chat.completions.create({ model, messages: HI, ...request }, more);
  const passed = [];
  const failed = [];
  const check = (what, holds) => {
    if (!holds) throw new Error(`not so: ${what}`);
  };
  const fails = async (kind, call, told) => {
    try {
      await call();
    } catch (error) {
      check(`${error} is a ${kind.name}`, error instanceof kind);
      return check(`${error} tells`, told?.(error) ?? true);
    }
    check("it fails", false);
  };
  const steps = {
    async models() {
      const names = [];
      for await (const item of client.models.list()) names.push(item.id);
      check("the model is listed", names.includes(model));
      check("it can be looked up", (await client.models.retrieve(model)).owned_by === "tilewright");
    },
    async chat() {
      const asked = { max_tokens: 8, seed: 7, temperature: 0.8, top_p: 0.95, frequency_penalty: 0.1,
                      presence_penalty: 0.1, top_k: 40, min_p: 0.01, repetition_penalty: 1.05 };
      const whole = await chat(asked);
      const stream = await chat({ ...asked, stream: true, stream_options: { include_usage: true } });
      let text = "";
      let usage;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
      check("streamed and whole are the same", text === whole.choices[0].message.content);
      check("length", whole.choices[0].finish_reason === "length");
      check("usage", usage.completion_tokens === 8 && whole.usage.completion_tokens === 8);
      check("timings", whole.usage.x_tilewright.tokens_per_second > 0);
    },
    async choices() {
      const made = await chat({ n: 3, max_completion_tokens: 4, logprobs: true, top_logprobs: 3, seed: 1 });
      check("three answers", new Set(made.choices.map((c) => c.message.content)).size > 1);
      for (const { logprobs } of made.choices) {
        check("log-probabilities", logprobs.content.every((t) => t.logprob <= 0 && t.top_logprobs.length === 3));
      }
    },
    async bias() {
      const biased = { max_tokens: 4, temperature: 0, logit_bias: { 50: 100 } };
      check("bias", (await chat(biased)).choices[0].message.content === "SSSS");
      const stopped = (await chat({ ...biased, stop: ["SS"] })).choices[0];
      check("stop", stopped.message.content === "" && stopped.finish_reason === "stop");
    },
    async structured() {
      const json_schema = { name: "person", schema: PERSON, strict: true };
      const ask = (seed) => chat({ response_format: { type: "json_schema", json_schema }, seed, max_tokens: 90 });
      for (const made of await Promise.all([ask(1), ask(2), ask(3)])) {
        const person = JSON.parse(made.choices[0].message.content);
        check("keys", Object.keys(person).sort().join() === "age,name");
        check("ranges", Number.isInteger(person.age) && person.age < 10 && [...person.name].length <= 6);
      }
      const object = await chat({ response_format: { type: "json_object" }, max_tokens: 60 });
      check("an object", JSON.parse(object.choices[0].message.content).constructor === Object);
      const text = (await chat({ grammar: 'root ::= [a-c]{4} "!"' })).choices[0].message.content;
      check(`grammar: ${text}`, /^[a-c]{4}!$/.test(text));
    },
    async reasoning() {
      const made = await chat({
        chat_template_kwargs: { enable_thinking: true },
        response_format: { type: "json_schema", json_schema: { name: "c", schema: CITY } },
        max_tokens: 60,
      });
      const { reasoning_content, content } = made.choices[0].message;
      check("it thinks", reasoning_content.length > 0);
      check("then answers", ["Rome", "Oslo", undefined].includes(JSON.parse(content).city));
    },
    async tools() {
      const asked = { tools: [WEATHER], max_tokens: 100 };
      const made = (await chat({ ...asked, tool_choice: "required", parallel_tool_calls: false })).choices[0];
      const [call] = made.message.tool_calls;
      check("reason", made.finish_reason === "tool_calls");
      check("arguments", ["Rome", "Oslo"].includes(JSON.parse(call.function.arguments).city));
      const again = await client.chat.completions.create({
        model,
        messages: [...HI, made.message, { role: "tool", tool_call_id: call.id, content: "Sunny" }],
        tools: [WEATHER],
        tool_choice: "none",
        max_tokens: 3,
      });
      check("an answer after the tool's", again.choices[0].finish_reason === "length");
      const named = { type: "function", function: { name: "weather" } };
      let name = "";
      for await (const chunk of await chat({ ...asked, tool_choice: named, stream: true })) {
        for (const piece of chunk.choices[0].delta.tool_calls ?? []) name ||= piece.function.name;
      }
      check("a streamed call", name === "weather");
    },
    async completions() {
      const asked = { model, prompt: ["Once", "Twice"], max_tokens: 5, logprobs: 2, temperature: 0 };
      const made = await client.completions.create(asked);
      check("two", made.choices.length === 2 && made.choices[0].logprobs.token_logprobs.length === 5);
      let text = "";
      const once = { model, prompt: "Once", max_tokens: 5, temperature: 0, stream: true };
      for await (const chunk of await client.completions.create(once)) text += chunk.choices[0].text;
      check("streamed", text === made.choices[0].text);
    },
    async errors() {
      await fails(OpenAI.NotFoundError, () => chat({ model: "gpt-5" }), (e) => e.code === "model_not_found");
      await fails(OpenAI.BadRequestError, () => chat({ temprature: 1 }), (e) => e.param === "temprature");
      await fails(OpenAI.BadRequestError, () => chat({ temperature: -1 }), (e) => e.param === "temperature");
      await fails(OpenAI.BadRequestError, () => chat({ audio: {} }), (e) => e.param === "audio");
      const long = { model, prompt: "x ".repeat(3000), stream: true };
      await fails(OpenAI.BadRequestError, () => client.completions.create(long),
                  (e) => e.code === "context_length_exceeded");
      await fails(OpenAI.BadRequestError, () => client.embeddings.create({ model, input: "x" }));
      const impossible = { type: "array", minItems: 3, maxItems: 2 };
      await fails(OpenAI.BadRequestError, () =>
        chat({ response_format: { type: "json_schema", json_schema: { name: "x", schema: impossible } } }));
    },
    async stopping() {
      const long = { max_tokens: 300, ignore_eos: true };
      const stream = await chat({ ...long, stream: true });
      let count = 0;
      for await (const chunk of stream) {
        if (chunk && ++count === 3) stream.controller.abort();
      }
      check(`the stream ended early, after ${count}`, count <= most);
      const signal = AbortSignal.timeout(10); // well before 300 tokens are made
      await fails(OpenAI.APIUserAbortError, () => chat(long, { signal }));
      const short = await Promise.all([1, 2, 3, 4].map((seed) => chat({ seed, max_tokens: 4 })));
      check("four at once", short.every((made) => made.usage.completion_tokens <= 4));
    },
  };
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      passed.push(name);
    } catch (error) {
      failed.push(`${name}: ${error}`);
    }
  }
  return { passed, failed };
}

/** What only an encoder can do. */
export async function embeddingTour({ model, ...options }) {
  const client = new OpenAI({ apiKey: "key", maxRetries: 0, dangerouslyAllowBrowser: true, ...options });
  const packed = await client.embeddings.create({ model, input: ["one", "h п"] }); // base64 on the wire
  const plain = await client.embeddings.create({ model, input: "one", encoding_format: "float" });
  const short = await client.embeddings.create({ model, input: "one", dimensions: 8 });
  const norm = (vector) => Math.hypot(...vector);
  const [first, second] = packed.data.map((item) => item.embedding);
  return {
    widths: [first.length, second.length, short.data[0].embedding.length],
    norms: [norm(first), norm(second), norm(short.data[0].embedding)],
    difference: Math.max(...first.map((x, i) => Math.abs(x - plain.data[0].embedding[i]))),
    apart: Math.max(...first.map((x, i) => Math.abs(x - second[i]))),
  };
}
