"""A model larger than its memory budget in a page: layers are read for every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from model_host import ModelHost
from store_page import context, models, open_tab

__all__ = ["context", "models", "open_tab"]
NAME = "gemma3.F16.gguf"
ANSWER = """async ([url, backend, file]) => {
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
      const { streamed_layers, streamed_bytes } = await engine.stats();
      await engine.unload();
      return { ids, layers: streamed_layers ?? 0, bytes: streamed_bytes ?? 0 };
    } catch (error) {
      return { code: error.code, message: error.message };
    }
  };
  const whole = await answer({});
  const { fit } = await Tilewright.inspect(model, { ...given, memory_budget: 1 });
  const streamed = await answer({ memory_budget: Math.round(fit.total - 0.2 * fit.weights) });
  const refused = file ? null : await answer({ memory_budget: 100_000 });
  return { whole, streamed, refused };
}"""


@pytest.mark.parametrize(("backend", "file"), [("webgpu", False), ("wasm", False), ("wasm", True)])
async def test_the_ids_are_those_of_the_whole_model(
    open_tab: Callable[[], Any], models: ModelHost, backend: str, file: bool
) -> None:
    page, url = await open_tab(), f"{models.storage}/{NAME}"
    found = await asyncio.wait_for(page.evaluate(ANSWER, [url, backend, file]), 150)
    whole, streamed, refused = found["whole"], found["streamed"], found["refused"]
    assert (len(whole["ids"]), whole["layers"]) == (3, 0), whole
    assert streamed["ids"] == whole["ids"], streamed
    assert 2 <= streamed["layers"] <= 7
    assert streamed["bytes"] > 0
    assert file or refused["code"] == "out_of_memory"
    # What is on the device is not fetched again.
    assert models.sent <= (models.folder / NAME).stat().st_size
