"""Models on their way into the page: the hub, tabs, reloads, stops, breaks, and a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from model_host import ModelHost
from playwright.async_api import BrowserContext, Error, Page
from store_page import context, models, open_tab

__all__ = ["context", "models", "open_tab"]

NAME = "qwen3moe.Q4_0.gguf"
LOAD = """async ([model, options]) => {
  const { Tilewright } = await import("./tilewright.js");
  const { stopAt = Infinity, keep = false, ...others } = options;
  const stop = new AbortController();
  const onProgress = ({ phase, done, tuned }) => {
    globalThis.tuned = tuned;
    if (phase === "weights" && done >= stopAt) stop.abort();
  };
  try {
    const engine = await Tilewright.load(model, {
      context_length: 64, ...others, onProgress, signal: stop.signal,
    });
    let ids = [];
    const sampling = { max_tokens: 4, temperature: 0, ignore_eos: true };
    for await (const part of engine.complete({ ids: [3, 4], sampling })) {
      ids.push(...part.tokens.map((token) => token.id));
    }
    const info = engine.info;
    const tuned = (await engine.stats()).early_tuned;
    if (keep) globalThis.engine = engine;
    else await engine.unload();
    return { ids, stored: info.stored, tuned };
  } catch (error) {
    return { name: error.name, code: error.code, message: error.message, details: error.details };
  }
}"""


async def load(page: Page, model: str, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = await asyncio.wait_for(page.evaluate(LOAD, [model, options]), 150)
    return result


def size_of(models: ModelHost) -> int:
    return (models.folder / NAME).stat().st_size


async def test_a_hub_reference(
    context: BrowserContext, open_tab: Callable[[], Any], models: ModelHost, server: str
) -> None:
    """Redirected to another origin, no preflight, no byte twice, nobody else is asked."""
    hosts = set()
    context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page = await open_tab()
    reference = f"hf:org/repo/{NAME}"
    result = await load(page, reference, hub=models.hub)
    assert result["stored"] is True
    assert len(result["ids"]) == 4
    assert models.asked[0][1] == "bytes=0-65535"
    assert models.sent == size_of(models)
    assert models.preflights == 0
    assert hosts == {urlsplit(address).netloc for address in (server, models.hub, models.storage)}
    missing = await load(page, "hf:org/repo/missing.gguf", hub=models.hub)
    assert missing["code"] == "source_unavailable"
    assert missing["details"] == {"status": 404, "reason": "missing"}
    models.status = 401
    closed = await load(page, "hf:org/repo/closed.gguf", hub=models.hub)
    assert closed["details"] == {"status": 401, "reason": "gated"}
    assert "token" in closed["message"]
    # What is stored needs no host at all.
    assert await load(page, reference, hub=models.hub) == result


async def test_two_tabs_share_one_download(open_tab: Callable[[], Any], models: ModelHost) -> None:
    tabs = [await open_tab(), await open_tab()]
    models.bytes_per_second = size_of(models) / 3
    url = f"{models.storage}/{NAME}"
    first, second = await asyncio.gather(*(load(tab, url, keep=True) for tab in tabs))
    assert first == second
    assert len(first["ids"]) == 4
    assert models.sent == size_of(models)


async def test_a_reload_goes_on_where_the_download_was(
    open_tab: Callable[[], Any], models: ModelHost
) -> None:
    page = await open_tab()
    url, size = (
        f"{models.storage}/llama.F32.gguf",
        (models.folder / "llama.F32.gguf").stat().st_size,
    )
    models.bytes_per_second = size / 5
    running = asyncio.ensure_future(page.evaluate(LOAD, [url, {}]))
    while models.sent < size * 0.8:
        assert not running.done(), running.result()
        await asyncio.sleep(0.05)
    await page.reload()
    with pytest.raises(Error):  # its page has gone
        await running
    models.bytes_per_second = 0
    await asyncio.sleep(0.5)
    before = models.sent
    resumed = await load(page, url)
    assert models.sent - before < 0.7 * size
    # The same answer as from a file of which nothing is stored: no half-written byte was used.
    assert await load(page, url + "?whole") == resumed


@pytest.mark.parametrize("backend", ["wasm", pytest.param("webgpu", marks=pytest.mark.webgpu)])
async def test_kernels_are_tuned_while_a_slow_network_is_waited_for(
    open_tab: Callable[[], Any], models: ModelHost, backend: str
) -> None:
    """Records exist before the last byte has been sent, and change no id."""
    page, url = await open_tab(), f"{models.storage}/llama.Q8_0.gguf"
    size = (models.folder / "llama.Q8_0.gguf").stat().st_size
    await page.evaluate("globalThis.tuned = 0")
    models.bytes_per_second = size / 100
    loading = asyncio.ensure_future(load(page, url, backend=backend))
    while not await page.evaluate("tuned"):
        assert not loading.done(), loading.result()
        assert models.sent < size
        await asyncio.sleep(0.1)
    models.bytes_per_second = 0
    early = await loading
    assert early["tuned"] > 0
    again = await load(page, url, backend=backend)
    assert again["tuned"] == 0  # a disk is not waited for
    assert early["ids"] == again["ids"]


async def test_a_full_disk_is_said_and_survived(
    context: BrowserContext, open_tab: Callable[[], Any], models: ModelHost, server: str
) -> None:
    page = await open_tab()
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    session = await context.new_cdp_session(page)
    quota = {"origin": server, "quotaSize": 100_000}
    await session.send("Storage.overrideQuotaForOrigin", quota)
    result = await load(page, f"{models.storage}/{NAME}")
    assert result["stored"] is False
    assert len(result["ids"]) == 4
    assert [text for text in warnings if "not kept for the next visit" in text]


async def test_a_broken_connection_is_taken_up(
    open_tab: Callable[[], Any], models: ModelHost
) -> None:
    page = await open_tab()
    models.break_after = 2_500_000
    result = await load(page, f"{models.storage}/llama.F32.gguf")
    assert len(result["ids"]) == 4
    # What had arrived is not asked for again.
    assert models.sent == (models.folder / "llama.F32.gguf").stat().st_size
