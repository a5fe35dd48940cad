"""The OpenAI API in the page: the typed methods, and the official npm client over engine.fetch."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from npm_bundle import bundled
from tests.reference.chat_model import with_template

from conftest import Watched

HERE = Path(__file__).resolve().parent
STEPS = ["models", "chat", "choices", "bias", "structured", "reasoning", "tools", "completions",
         "errors", "stopping"]  # fmt: skip

TYPED = """async () => {
  const { Tilewright } = await import("./tilewright.js");
  const model = await (await fetch("./tour.gguf")).blob();
  const engine = await Tilewright.load(model, { context_length: 512 });
  globalThis.engine = engine;
  const { completions } = engine.chat;
  const messages = [{ role: "user", content: "Hi" }];
  const asked = { messages, max_tokens: 6, seed: 3 };
  const whole = await completions.create(asked);
  const collect = async (stream) => {
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
    return text;
  };
  const streamed = [
    await collect(completions.create({ ...asked, stream: true })),
    await collect(await completions.create({ ...asked, stream: true })),
    await collect((await completions.create({ ...asked, stream: true })).toReadableStream()),
  ];
  const stop = new AbortController();
  const outcome = async (promise) => promise.then(() => "made", (error) => error.name);
  const long = { messages, max_tokens: 400, ignore_eos: true };
  const stopped = outcome(completions.create({ ...long, signal: stop.signal }));
  const stoppedToo = outcome(completions.create(long, { signal: stop.signal }));
  setTimeout(() => stop.abort(), 100);
  const pending = completions.create({ ...long, stream: true });
  let taken = 0;
  for await (const chunk of pending) if (chunk && ++taken === 3) break;
  const error = await completions.create({ messages, frequency: 1 }).catch((e) => e);
  const text = await engine.completions.create({ prompt: "Once", max_tokens: 3, temperature: 0 });
  const outcomes = [await stopped, await stoppedToo];
  let running;
  for (let i = 0; i < 50 && running !== 0; i++) {
    running = (await engine.stats()).running;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    whole: whole.choices[0].message.content, streamed, outcomes, running,
    error: { code: error.code, ...error.details },
    text: text.choices[0].text.length, names: (await engine.models.list()).data.map((m) => m.id),
    missing: (await engine.fetch("/v1/nothing")).status,
  };
}"""

TOUR = """async () => {
  const { tour } = await import("./tour.js");
  const { fetch, info } = globalThis.engine;
  return tour({ baseURL: "https://engine.invalid/v1", fetch, model: info.name, most: 3 });
}"""

EMBED = """async ([url]) => {
  const { Tilewright } = await import("./tilewright.js");
  const { embeddingTour } = await import("./tour.js");
  const engine = await Tilewright.load(url);
  const { fetch } = engine;
  const made = await embeddingTour({ baseURL: "https://engine.invalid/v1", fetch, model: url });
  const typed = await engine.embeddings.create({ input: "one", dimensions: 4 });
  await engine.unload();
  return { ...made, typed: typed.data[0].embedding.length };
}"""


AI_SDK = """async () => {
  const { tour } = await import("./tour.js");
  const { Tilewright } = await import("./tilewright.js");
  const model = await (await fetch("./tour.gguf")).blob();
  const engine = await Tilewright.load(model, { context_length: 512 });
  const baseURL = "https://engine.invalid/v1";
  return tour({ baseURL, fetch: engine.fetch, model: engine.info.name });
}"""


async def page_with_tour(
    watched: Watched,
    server: str,
    oracle: Path,
    script: str = "openai_tour",
    package: str = "openai",
) -> None:
    """Open the test page with the tour's model and bundle beside it."""
    script = bundled(HERE / f"{script}.mjs", package)
    model = await with_template(oracle / "models_and_logits" / "models" / "qwen3.F16.gguf")
    await watched.page.route(
        "**/tour.js", lambda route: route.fulfill(body=script, content_type="text/javascript")
    )
    await watched.page.route("**/tour.gguf", lambda route: route.fulfill(body=model))
    await watched.page.goto(f"{server}/test.html")


async def evaluate(watched: Watched, script: str, argument: object = None) -> Any:
    return await asyncio.wait_for(watched.page.evaluate(script, argument), 170)


async def test_typed_methods_and_the_official_client(
    watched: Watched, server: str, oracle: Path
) -> None:
    await page_with_tour(watched, server, oracle)
    made = await evaluate(watched, TYPED)
    assert made["whole"]
    assert made["streamed"] == [made["whole"]] * 3
    assert made["outcomes"] == ["AbortError", "AbortError"]
    assert made["running"] == 0
    assert made["error"] == {
        "code": "invalid_request",
        "status": 400,
        "type": "invalid_request_error",
        "field": "frequency",
    }
    assert made["text"] > 0
    assert made["names"] == ["tiny random qwen3"]
    assert made["missing"] == 404
    told = await evaluate(watched, TOUR)
    assert told["failed"] == []
    assert told["passed"] == STEPS
    assert watched.complaints == []
    assert not [url for url in watched.requests if "engine.invalid" in url]
    await watched.page.evaluate("() => engine.unload()")


async def test_embeddings_by_the_official_client(
    watched: Watched, server: str, oracle: Path
) -> None:
    await page_with_tour(watched, server, oracle)
    made = await evaluate(watched, EMBED, [f"{server}/models/bert.Q8_0.gguf"])
    assert made["widths"][0] == made["widths"][1] > 8
    assert made["widths"][2] == 8
    assert made["typed"] == 4
    assert made["norms"] == pytest.approx([1, 1, 1], abs=1e-5)
    assert made["difference"] < 1e-6
    assert made["apart"] > 1e-3
    assert json.dumps(watched.complaints) == "[]"


async def test_the_vercel_ai_sdk_needs_no_provider_of_ours(
    watched: Watched, server: str, oracle: Path
) -> None:
    await page_with_tour(watched, server, oracle, "ai_sdk", "@ai-sdk/openai-compatible")
    made = await evaluate(watched, AI_SDK)
    assert made["whole"]
    assert made["whole"] == made["streamed"]
    assert (made["tokens"], made["reason"]) == (6, "length")
    assert made["call"]["toolName"] == "weather"
    assert made["call"]["input"]["city"] in ("Rome", "Oslo")
    assert watched.complaints == []
