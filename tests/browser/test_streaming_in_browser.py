"""A model larger than its memory budget in a page: layers are read for every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from model_host import ModelHost
from store_page import context, models, open_tab

__all__ = ["context", "models", "open_tab"]
DENSE, EXPERTS = ("gemma3.F16.gguf", 0.2), ("qwen3moe.F16.gguf", 0.05)
"""Files, and the share of their weights that there is no room for."""
ANSWER = """async ([url, backend, file, share]) => {
  const { Tilewright } = await import("./tilewright.js");
  const model = file ? new File([await (await fetch(url)).blob()], "model.gguf") : url;
  const given = { context_length: 64, max_sequences: 1, backend };
  const answer = async (memory_budget) => {
    try {
      const engine = await Tilewright.load(model, { ...given, ...memory_budget });
      const ids = [];
      const sampling = { max_tokens: 3, temperature: 0, ignore_eos: true };
      for await (const part of engine.complete({ ids: [3, 4, 5], sampling })) {
        ids.push(...part.tokens.map((token) => token.id));
      }
      const { streamed_layers, streamed_bytes, expert_rooms } = await engine.stats();
      await engine.unload();
      const rooms = expert_rooms ?? 0;
      return { ids, layers: streamed_layers ?? 0, bytes: streamed_bytes ?? 0, rooms };
    } catch (error) {
      return { code: error.code, message: error.message };
    }
  };
  const whole = await answer({});
  const { fit } = await Tilewright.inspect(model, { ...given, memory_budget: 1 });
  const streamed = await answer({ memory_budget: Math.round(fit.total - share * fit.weights) });
  const refused = file ? null : await answer({ memory_budget: 100_000 });
  return { whole, streamed, refused };
}"""


@pytest.mark.parametrize(
    ("model", "backend", "file"),
    [
        pytest.param(DENSE, "webgpu", False, marks=pytest.mark.webgpu),
        (DENSE, "wasm", False),
        (DENSE, "wasm", True),
        (EXPERTS, "wasm", False),
    ],
    ids=["webgpu", "wasm", "file", "experts"],
)
async def test_the_ids_are_those_of_the_whole_model(
    open_tab: Callable[[], Any],
    models: ModelHost,
    model: tuple[str, float],
    backend: str,
    file: bool,
) -> None:
    name, share = model
    page, url = await open_tab(), f"{models.storage}/{name}"
    found = await asyncio.wait_for(page.evaluate(ANSWER, [url, backend, file, share]), 150)
    whole, streamed, refused = found["whole"], found["streamed"], found["refused"]
    assert (len(whole["ids"]), whole["layers"]) == (3, 0), whole
    assert streamed["ids"] == whole["ids"], streamed
    assert 2 <= streamed["layers"] <= 7
    assert streamed["bytes"] > 0
    assert (streamed["rooms"] > 0) is (model is EXPERTS)
    assert file or refused["code"] == "out_of_memory"
    # What is on the device is not fetched again.
    assert models.sent <= (models.folder / name).stat().st_size
