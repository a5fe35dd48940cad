"""Adapters, inspection and quantizing while loading, through the client of a page."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.adapters import adapter_gguf, draw_pairs, merged
from tests.reference.dequantize import dequantize
from tests.reference.encode import encode
from tests.reference.golden_models import LoadedModel, load_model
from tests.reference.interpreter import Interpreter

from conftest import Watched
from tilewright.formats.requantized import requantize

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]
ADAPTERS = """async ([url, adapter, ids, backend]) => {
  const { Tilewright } = await import("./tilewright.js");
  const file = new File([Uint8Array.from(atob(adapter), (c) => c.charCodeAt(0))], "a.gguf");
  const options = { context_length: 64, kv: "f32", backend };
  const engine = await Tilewright.load(url, options);
  const answer = async (more) => {
    const sampling = { temperature: 0, max_tokens: 1, ignore_eos: true, logprobs: 1, ...more };
    for await (const { tokens } of engine.complete({ ids, sampling })) return tokens[0];
  };
  const made = [await answer({})];
  await engine.addAdapter("mine", file);
  made.push(await answer({ adapter: "mine" }), await answer({}));
  const asked = { prompt: ids, max_tokens: 1, temperature: 0, ignore_eos: true, logprobs: 0 };
  const reply = await engine.completions.create({ ...asked, adapter: "mine" });
  await engine.removeAdapter("mine");
  const gone = await answer({ adapter: "mine" }).then(() => "answered", (error) => error.code);
  made.push(await answer({}));
  await engine.unload();
  return { made, gone, logprob: reply.choices[0].logprobs.token_logprobs[0] };
}"""
QUANTIZED = """async ([url, ids]) => {
  const { Tilewright } = await import("./tilewright.js");
  const options = { context_length: 64, kv: "f32", backend: "webgpu", quantize: "Q8_0" };
  const found = await Tilewright.inspect(url, options);
  const engine = await Tilewright.load(url, options);
  const sampling = { temperature: 0, max_tokens: 1, ignore_eos: true, logprobs: 1 };
  let token;
  for await (const { tokens } of engine.complete({ ids, sampling })) token ??= tokens[0];
  await engine.unload();
  return { found, token, info: engine.info };
}"""


@pytest.fixture
async def model(oracle: Path) -> LoadedModel:
    return await load_model(oracle / "models_and_logits" / "models" / "qwen3.F16.gguf")


async def evaluate(watched: Watched, script: str, *arguments: object) -> Any:
    return await asyncio.wait_for(watched.page.evaluate(script, list(arguments)), 150)


def best(model: LoadedModel, tensors: Mapping[str, NDArray[Any]]) -> tuple[int, float]:
    """The likeliest next token and its logprob, in f64."""
    found = Interpreter(model.graph, tensors).run(IDS, outputs=[len(IDS) - 1]).logits
    assert found is not None
    logits = found.astype(np.float64).reshape(-1)
    token = int(logits.argmax())
    return token, float(-np.log(np.exp(logits - logits[token]).sum()))


@pytest.mark.parametrize("backend", [pytest.param("webgpu", marks=pytest.mark.webgpu), "wasm"])
async def test_an_adapter_beside_a_model(
    watched: Watched, server: str, model: LoadedModel, backend: str
) -> None:
    pairs = draw_pairs(model.model_file, ("attn_q", "attn_v", "ffn_down"), 4, seed=1)
    data = base64.b64encode(adapter_gguf("qwen3", pairs, 8.0)).decode()
    await watched.page.goto(f"{server}/test.html")
    url = f"{server}/models/qwen3.F16.gguf"
    result = await evaluate(watched, ADAPTERS, url, data, IDS, backend)
    plain = best(model, model.tensors)
    adapted = best(model, merged(model.tensors, pairs, 2.0))
    assert abs(plain[1] - adapted[1]) > 0.01, "the adapter must matter"
    for made, (token, logprob) in zip(result["made"], (plain, adapted, plain, plain), strict=True):
        assert made["id"] == token
        assert made["logprob"] == pytest.approx(logprob, abs=1e-3)
    assert result["logprob"] == pytest.approx(adapted[1], abs=1e-3)
    assert result["gone"] == "invalid_request"
    assert watched.complaints == []


@pytest.mark.webgpu
async def test_quantized_while_loading(watched: Watched, server: str, model: LoadedModel) -> None:
    async def unused(*_: object) -> bytes:
        raise AssertionError

    await watched.page.goto(f"{server}/test.html")
    result = await evaluate(watched, QUANTIZED, f"{server}/models/qwen3.F16.gguf", IDS)
    shown = requantize(model.model_file, "Q8_0", unused)
    twins = {
        name: dequantize(shown.tensor(name).quant, encode("Q8_0", values), *values.shape)
        if shown.tensor(name).quant.name == "Q8_0"
        else values
        for name, values in model.tensors.items()
    }
    token, logprob = best(model, twins)
    assert result["token"]["id"] == token
    assert result["token"]["logprob"] == pytest.approx(logprob, abs=1e-3)
    assert result["info"]["formats"][0] == "Q8_0"
    found = result["found"]
    assert found["architecture"] == "qwen3"
    assert found["bytes"] == sum(tensor.nbytes for tensor in shown.items())
    assert found["parameters"] == sum(t.rows * t.columns for t in shown.items())
    assert found["fit"]["fits"]
    assert watched.complaints == []
