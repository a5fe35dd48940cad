"""The second visit's load begins with what the first one left: kept, checked, removed with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from model_host import ModelHost
from playwright.async_api import Page
from store_page import context, models, open_tab

__all__ = ["context", "models", "open_tab"]

NAME = "llama.Q4_0.gguf"
LOAD = """async ([model, options]) => {
  const { Tilewright } = await import("./tilewright.js");
  const phases = [];
  const onProgress = ({ phase, done, total }) => phases.push([phase, done === total]);
  const engine = await Tilewright.load(model, { context_length: 64, ...options, onProgress });
  const ids = [];
  const sampling = { max_tokens: 6, temperature: 0, ignore_eos: true };
  for await (const part of engine.complete({ ids: [3, 4], sampling })) {
    ids.push(...part.tokens.map((token) => token.id));
  }
  const stats = await engine.stats();
  await engine.unload();
  return { ids, restored: stats.restored, loaded: phases.at(-1), backend: engine.info.backend };
}"""
FILES = """async (change) => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("tilewright-models");
  const found = [];
  for await (const [name, handle] of folder.entries()) {
    if (!name.endsWith(".start")) continue;
    const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
    found.push(bytes.length);
    if (!change) continue;
    bytes[bytes.length >> 1] ^= 1;
    const others = { flip: bytes, cut: bytes.slice(0, bytes.length >> 1), foreign: "x" };
    const writable = await handle.createWritable();
    await writable.write(others[change]);
    await writable.close();
  }
  return found;
}"""
REMOVE = """async (url) => {
  const store = new StoreConnection();
  for (let wait = 0; wait < 50; wait++) {
    if (await store.call({ method: "remove", url })) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}"""


async def load(page: Page, model: str, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = await asyncio.wait_for(page.evaluate(LOAD, [model, options]), 90)
    return result


async def test_the_second_load_begins_with_what_the_first_left(
    open_tab: Callable[[], Any], models: ModelHost
) -> None:
    page = await open_tab()
    url = f"{models.storage}/{NAME}"
    first = await load(page, url)
    assert (first["backend"], first["restored"]) == ("wasm", 0)
    await page.reload()
    again = await load(page, url)
    assert again == {**first, "restored": 1}
    assert again["loaded"] == ["weights", True]
    # Other options are another load; what it leaves takes the other's place.
    other = await load(page, url, max_sequences=1)
    assert (other["ids"], other["restored"]) == (first["ids"], 0)
    assert (await load(page, url, max_sequences=1))["restored"] == 1
    assert len(await page.evaluate(FILES, None)) == 1
    assert await page.evaluate(REMOVE, url)
    assert await page.evaluate(FILES, None) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "foreign"])
async def test_what_is_damaged_is_made_again(
    open_tab: Callable[[], Any], models: ModelHost, damage: str
) -> None:
    page = await open_tab()
    url = f"{models.storage}/{NAME}"
    first = await load(page, url)
    (size,) = await page.evaluate(FILES, damage)
    again = await load(page, url)
    assert again == first
    assert (await page.evaluate(FILES, None)) == [size]
    assert (await load(page, url))["restored"] == 1
