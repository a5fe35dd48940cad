"""A service worker that serves /v1/* to a whole site, and an app written for WebLLM."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext
from tests.reference.chat_model import with_template

ASK = """async () => {
  const body = JSON.stringify({
    messages: [{ role: "user", content: "Hi" }], max_tokens: 12, seed: 1, stream: true,
  });
  const response = await fetch("./v1/chat/completions", { method: "POST", body });
  if (!response.ok) return { status: response.status, error: (await response.json()).error };
  const events = (await response.text()).trim().split("\\n\\n").map((line) => line.slice(6));
  const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
  const text = parsed.map((event) => event.choices[0]?.delta.content ?? "").join("");
  return { status: response.status, type: response.headers.get("Content-Type"), text,
           last: events.at(-1) };
}"""
REGISTER = """async () => {
  await navigator.serviceWorker.register("./openai_service_worker.js?wait=300");
  await navigator.serviceWorker.ready;
  if (!navigator.serviceWorker.controller) {
    const { promise, resolve } = Promise.withResolvers();
    navigator.serviceWorker.addEventListener("controllerchange", resolve);
    await promise;
  }
}"""
SERVE = """async () => {
  const { Tilewright, serveSite } = await import("./tilewright.js");
  const loading = fetch("./tour.gguf").then((r) => r.blob()).then((b) => Tilewright.load(b));
  await serveSite(loading, { script: "" }); // requests wait for the engine
  globalThis.engine = loading;
}"""
STOP = """async () => {
  const stop = new AbortController();
  const body = JSON.stringify({
    messages: [{ role: "user", content: "Hi" }], max_tokens: 3000, ignore_eos: true, stream: true,
  });
  const { signal } = stop;
  const response = await fetch("./v1/chat/completions", { method: "POST", body, signal });
  await response.body.getReader().read();
  stop.abort();
}"""
IDLE = """async () => {
  const engine = await globalThis.engine;
  let running;
  for (let i = 0; i < 100 && running !== 0; i++) {
    ({ running } = await engine.stats());
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return running;
}"""
# As an app for WebLLM is written, but for the import and the model's name.
WEBLLM = """async () => {
  const webllm = await import("./webllm.js");
  const reports = [];
  const engine = await webllm.CreateWebWorkerMLCEngine({}, "my-model", {
    initProgressCallback: (report) => reports.push(report),
    appConfig: { model_list: [{ model_id: "my-model", model: `${location.origin}/tour.gguf` }] },
    logLevel: "INFO",
  }, { temperature: 0.5, context_window_size: 512 });
  const messages = [
    { role: "system", content: "You are a helpful assistant." },
    { role: "user", content: "Hi" },
  ];
  const chunks = await engine.chat.completions.create({
    messages, stream: true, stream_options: { include_usage: true }, max_tokens: 8, seed: 1,
  });
  let reply = "", usage;
  for await (const chunk of chunks) {
    reply += chunk.choices[0]?.delta.content || "";
    if (chunk.usage) usage = chunk.usage;
  }
  const message = await engine.getMessage();
  const stats = await engine.runtimeStatsText();
  const whole = await engine.chat.completions.create({ messages, max_tokens: 8, seed: 1 });
  const schema = JSON.stringify({ type: "object", properties: { n: { enum: [1, 2] } },
    required: ["n"], additionalProperties: false });
  const json = await engine.chat.completions.create({
    messages, model: "my-model", max_tokens: 60, response_format: { type: "json_object", schema },
  });
  setTimeout(() => engine.interruptGenerate(), 300);
  const long = { messages, max_tokens: 400, ignore_eos: true };
  const interrupted = await engine.chat.completions.create(long);
  await engine.resetChat();
  const emptied = await engine.getMessage();
  await engine.unload();
  const refused = await engine.chat.completions.create(long).catch((error) => error.code);
  return { reply, message, stats, usage, whole: whole.choices[0],
           n: json.choices[0].message.content, emptied, refused,
           interrupted: interrupted.choices[0],
           progress: reports.map((r) => r.progress), text: reports.at(-1).text };
}"""


async def evaluate(page: Any, script: str) -> Any:
    return await asyncio.wait_for(page.evaluate(script), 170)


async def give_model(context: BrowserContext, oracle: Path) -> None:
    model = await with_template(oracle / "models_and_logits" / "models" / "qwen3.F16.gguf")

    async def ranged(route: Any) -> None:
        asked = (route.request.headers.get("range") or "").removeprefix("bytes=")
        if not asked:
            return await route.fulfill(body=model)
        first, _, last = asked.partition("-")
        end = min(int(last or len(model)), len(model) - 1)
        headers = {"Content-Range": f"bytes {first}-{end}/{len(model)}", "ETag": '"tour"'}
        await route.fulfill(status=206, headers=headers, body=model[int(first) : end + 1])

    await context.route("**/tour.gguf", ranged)


async def test_a_service_worker_serves_the_whole_site(
    context: BrowserContext, server: str, oracle: Path
) -> None:
    await give_model(context, oracle)
    asking, serving = await context.new_page(), await context.new_page()
    await asking.goto(f"{server}/test.html")
    await evaluate(asking, REGISTER)
    cold = await evaluate(asking, ASK)
    assert cold["status"] == 503
    assert cold["error"]["code"] == "no_engine"
    await serving.goto(f"{server}/test.html")
    await evaluate(serving, SERVE)
    warm = await evaluate(asking, ASK)
    assert warm["status"] == 200
    assert warm["type"] == "text/event-stream"
    assert warm["last"] == "[DONE]"
    assert warm["text"] == (await evaluate(serving, ASK))["text"]
    await evaluate(asking, STOP)
    assert await evaluate(serving, IDLE) == 0
    await serving.close()
    assert (await evaluate(asking, ASK))["status"] == 503


async def test_an_app_for_webllm_runs_with_another_import(
    context: BrowserContext, server: str, oracle: Path
) -> None:
    await give_model(context, oracle)
    page = await context.new_page()
    await page.goto(f"{server}/test.html")
    made = await evaluate(page, WEBLLM)
    assert made["reply"]
    assert made["reply"] == made["message"] == made["whole"]["message"]["content"]
    assert made["usage"]["extra"]["decode_tokens_per_s"] > 0
    assert "tokens/sec" in made["stats"]
    assert made["n"] in ('{"n":1}', '{"n":2}', '{"n": 1}', '{"n": 2}')
    assert made["interrupted"]["finish_reason"] == "abort"
    assert made["interrupted"]["message"]["content"]
    assert made["emptied"] == ""
    assert made["refused"] == "invalid_request"
    assert made["progress"] == sorted(made["progress"])
    assert made["progress"][-1] == 1
    assert made["text"].startswith("Finish loading")
