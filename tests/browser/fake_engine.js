/**
 * Stands in for the worker when only the page is tested: speaks the protocol of web/src/protocol.ts,
 * answers from a script. Served in place of assets/worker-*.js by the tests; never shipped.
 *
 * `PLAN` comes before this text: { load: {bytes, steps, stepMs, fail, hold}, tokenMs, answers: {word: text} }.
 * A load with `hold` waits before its last step until the page posts to the channel "fake engine".
 */

/* global PLAN */
const waits = new Map();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let loaded = false;
let generated = 0;

const FALLBACK = "You said: ";

async function load({ id, url, place }) {
  const { bytes = 16e6, steps = 4, stepMs = 5, fail, hold } = PLAN.load ?? {};
  const released = new Promise((resolve) => (new BroadcastChannel("fake engine").onmessage = resolve));
  const reference = url ?? place?.files?.[0]?.name ?? "";
  for (let step = 0; step <= steps; step++) {
    if (waits.get(id)?.stopped) return error(id, "cancelled", "Stopped.");
    if (hold && step === steps) await released;
    if (fail && step === steps - 1) return error(id, fail.code, fail.message, fail.details);
    const done = Math.round((bytes * step) / steps);
    postMessage({ type: "progress", id, phase: "weights", done, total: bytes, seconds: step * stepMs * 1e-3 });
    await pause(stepMs);
  }
  loaded = true;
  const model = {
    name: reference.split("/").at(-1).replace(/\.gguf$/, ""),
    architecture: "llama",
    context_length: 2048,
    vocabulary: 32000,
    has_chat_template: true,
    bytes,
    formats: ["Q4_K", "Q6_K", "F32"],
    device: "Test device",
  };
  postMessage({ type: "loaded", id, model });
}

function answerTo(messages) {
  const said = messages.at(-1).content;
  for (const [word, text] of Object.entries(PLAN.answers ?? {})) if (said.includes(word)) return text;
  return FALLBACK + said;
}

async function generate({ id, messages, prompt, ids, sampling }) {
  if (!loaded) return error(id, "invalid_request", "No model is loaded: send a load request first.");
  const said = messages?.at(-1)?.content ?? prompt ?? "";
  if (said.includes("overflow") && messages.length > 1) {
    return error(id, "context_length_exceeded", "The prompt has 3000 tokens, but at most 2047 fit.");
  }
  if (said.includes("crash")) return error(id, "device_lost", "The GPU device was lost.");
  const text = ids ? "x ".repeat(sampling?.max_tokens ?? 8) : answerTo(messages ?? [{ content: prompt }]);
  const pieces = text.match(/\s*\S+\s*|\s+/g) ?? [];
  const begun = performance.now();
  let count = 0;
  for (const piece of pieces) {
    if (waits.get(id)?.stopped) return error(id, "cancelled", "Stopped.");
    await pause(count === 0 ? (PLAN.firstMs ?? PLAN.tokenMs ?? 1) : (PLAN.tokenMs ?? 1));
    count++;
    generated++;
    postMessage({ type: "delta", id, text: piece, tokens: [{ id: count }] });
  }
  const promptTokens = ids ? ids.length : JSON.stringify(messages ?? prompt).length >> 2;
  const completion = (performance.now() - begun) / 1000;
  const usage = {
    prompt_tokens: promptTokens,
    completion_tokens: count,
    cached_tokens: 0,
    time_to_first_token_s: 0.18 + promptTokens * 1e-4,
    completion_s: completion,
    tokens_per_second: ids ? 60 / (1 + promptTokens / 1500) : 41.7,
  };
  postMessage({ type: "done", id, finish_reason: "stop", usage });
}

/** Answers a chat of the OpenAI API from the same script. */
async function api({ id, path, body }) {
  const reply = (status, value) => postMessage({ type: "reply", id, status, body: value });
  const { messages, stream, stream_options } = JSON.parse(body ?? "{}");
  if (!loaded || path !== "/v1/chat/completions") {
    return reply(404, { error: { message: `No ${path} here.`, type: "invalid_request_error", param: null, code: "not_found" } });
  }
  const said = messages.at(-1).content;
  if (said.includes("crash")) return error(id, "device_lost", "The GPU device was lost.");
  const text = answerTo(messages);
  const pieces = text.match(/\s*\S+\s*|\s+/g) ?? [];
  const envelope = { id: `chatcmpl-${id}`, created: 0, model: "fake", object: stream ? "chat.completion.chunk" : "chat.completion" };
  const event = (choices, more = {}) => postMessage({ type: "events", id, events: [{ ...envelope, choices, ...more }] });
  const usage = { prompt_tokens: 9, completion_tokens: pieces.length, total_tokens: 9 + pieces.length };
  let first = true;
  for (const piece of pieces) {
    if (waits.get(id)?.stopped) return error(id, "cancelled", "Stopped.");
    await pause(first ? (PLAN.firstMs ?? PLAN.tokenMs ?? 1) : (PLAN.tokenMs ?? 1));
    generated++;
    const delta = first ? { role: "assistant", content: piece } : { content: piece };
    if (stream) event([{ index: 0, delta, logprobs: null, finish_reason: null }]);
    first = false;
  }
  if (!stream) {
    const message = { role: "assistant", content: text, refusal: null };
    return reply(200, { ...envelope, choices: [{ index: 0, message, logprobs: null, finish_reason: "stop" }], usage });
  }
  event([{ index: 0, delta: {}, logprobs: null, finish_reason: "stop" }]);
  if (stream_options?.include_usage) event([], { usage });
  reply(200, null);
}

/** Answers with `PLAN.inspect`, its `fit` for the budget and the choices that were given. */
function inspect({ id, options, choices }) {
  const { fail, value, fit } = PLAN.inspect ?? {};
  if (fail) return error(id, fail.code, fail.message, fail.details);
  const fits = choices.filter(({ bytes }) => bytes < options.memory_budget);
  const largest = fits.sort((a, b) => b.bytes - a.bytes)[0]?.name ?? null;
  const told = { ...fit, budget: options.memory_budget, largest_choice: largest };
  postMessage({ type: "result", id, value: { ...value, fit: told } });
}

function error(id, code, message, details = {}) {
  postMessage({ type: "error", id, code, message, details });
}

addEventListener("message", async ({ data }) => {
  const { type, id } = data;
  if (type === "ping") return postMessage({ type: "pong" });
  if (type === "start") return postMessage({ type: "ready", seconds: 0.01, version: "0.1.0" });
  if (type === "abort" && waits.has(id)) waits.get(id).stopped = true;
  waits.set(id, waits.get(id) ?? { stopped: false });
  if (type === "load") await load(data);
  if (type === "generate") await generate(data);
  if (type === "inspect") inspect(data);
  if (type === "api") await api(data);
  if (type === "unload") {
    loaded = false;
    postMessage({ type: "result", id, value: {} });
  }
  if (type === "stats") {
    const blocks = { total: 128, held: 12, cached: 40, hits: 3, queries: 9, evictions: 0 };
    const value = { prompt_tokens: 210, generated_tokens: generated, device_bytes: 31.4e6, decode_steps: generated, dispatches_per_token: 74, bytes_per_token: 15.2e6, blocks };
    postMessage({ type: "result", id, value });
  }
  if (type === "selftest") await selftest(data);
  if (type === "tune") await tune(data);
  if (type === "records") {
    const taken = data.records ? (JSON.parse(data.records).records?.length ?? 0) : 0;
    if (data.records && !taken) return error(id, "invalid_request", "This holds no tuning records of this version.");
    const document = JSON.stringify({ tilewright_tuning: 1, records: [{ key: "a" }, { key: "b" }] });
    postMessage({ type: "result", id, value: { document, taken, records: 2 } });
  }
});

const KERNELS = [
  ["decode", "wide Q4_K 1536x576 T1", 14, 1],
  ["decode", "attention 9/3x64 quad", 7, 0],
  ["prefill", "quad Q4_K 1536x576 T256", 9, 2],
];

async function tune({ id }) {
  const stopped = () => waits.get(id)?.stopped;
  const tell = (done, fields) => {
    const common = { tuning: "WideTuning(workgroup=8, rows=8, tile=1, lanes=4)", candidates: 16, rejected: 0, share: 0.4 };
    const rates = { bytes_per_s: 4e9, flops_per_s: 8e9, roofline: 0.43, known: false };
    const result = { ...common, ...rates, ...fields };
    postMessage({ type: "progress", id, phase: "tuning", done, total: KERNELS.length, seconds: 0, result });
  };
  for (const [index, [workload, kernel, candidates, rejected]] of KERNELS.entries()) {
    for (let tried = 1; tried <= candidates - rejected; tried++) {
      await pause(PLAN.tuneMs ?? 1);
      if (stopped()) return error(id, "cancelled", "Tuning was stopped.");
      const done = tried === candidates - rejected;
      const seconds = 2e-3 / (1 + tried / 5);
      const times = { seconds, default_seconds: 1.6e-3, naive_seconds: 5e-3 };
      tell(index + done, { workload, kernel, tried, candidates, rejected, done, ...times });
    }
  }
  const times = { seconds: 11e-3, default_seconds: 18e-3, naive_seconds: 0 };
  tell(KERNELS.length, { workload: "decode", kernel: "", tuning: "", tried: 0, candidates: 0, done: true, ...times });
  const ceilings = { bytes_per_s: 1e10, flops_per_s: 4e10 };
  postMessage({ type: "result", id, value: { seconds: 1, bursts: 90, records: KERNELS.length, ceilings } });
}

async function selftest({ id, cases }) {
  for (const [index, entry] of cases.entries()) {
    await pause(PLAN.tokenMs ?? 1);
    const passed = entry.name !== PLAN.failingKernel;
    const result = {
      name: entry.name,
      group: entry.group,
      status: passed ? "pass" : "fail",
      difference: passed ? 1.2e-7 * (index % 5) : 0.31,
      share: passed ? 0.03 * (index % 5) : 3100,
      tunings: 2,
      ms: 0.4 + (index % 7),
      note: passed ? "" : "LanesTuning(rows=2): differs by more than is tolerated",
    };
    postMessage({ type: "progress", id, phase: "selftest", done: index + 1, total: cases.length, seconds: 0, result });
  }
  postMessage({ type: "result", id, value: { device: "Test device" } });
}
