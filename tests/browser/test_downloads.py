"""Models on their way into the page: the hub, tabs, reloads, stops, breaks, and a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from model_host import ModelHost
from playwright.async_api import Browser, BrowserContext, Error, Page

NAME = "qwen3moe.Q4_0.gguf"
LOAD = """async ([model, options]) => {
  const { Tilewright } = await import("./tilewright.js");
  const { stopAt = Infinity, keep = false, ...others } = options;
  const stop = new AbortController();
  const onProgress = ({ phase, done }) => {
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
    if (keep) globalThis.engine = engine;
    else await engine.unload();
    return { ids, stored: info.stored };
  } catch (error) {
    return { name: error.name, code: error.code, message: error.message, details: error.details };
  }
}"""


@pytest.fixture
def host(oracle: Path) -> Iterator[ModelHost]:
    """A hub with one of the reference models."""
    with ModelHost(oracle / "models_and_logits" / "models") as host:
        yield host


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile; the test page's policy, which knows no other host, is not applied."""
    context = await browser.new_context(bypass_csp=True)
    yield context
    await context.close()


@pytest.fixture
async def visit(context: BrowserContext, server: str) -> Callable[[], Any]:
    """Opens one more tab of the profile."""

    async def open_tab() -> Page:
        page = await context.new_page()
        await page.goto(f"{server}/test.html")
        return page

    return open_tab


async def load(page: Page, model: str, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = await asyncio.wait_for(page.evaluate(LOAD, [model, options]), 150)
    return result


def size_of(host: ModelHost) -> int:
    return (host.folder / NAME).stat().st_size


async def test_a_hub_reference(
    context: BrowserContext, visit: Callable[[], Any], host: ModelHost, server: str
) -> None:
    """Redirected to another origin, no preflight, no byte twice, nobody else is asked."""
    hosts = set()
    context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page = await visit()
    reference = f"hf:org/repo/{NAME}"
    result = await load(page, reference, hub=host.hub)
    assert result["stored"] is True
    assert len(result["ids"]) == 4
    assert host.asked[0][1] == "bytes=0-65535"
    assert host.sent == size_of(host)
    assert host.preflights == 0
    assert hosts == {urlsplit(address).netloc for address in (server, host.hub, host.storage)}
    missing = await load(page, "hf:org/repo/missing.gguf", hub=host.hub)
    assert missing["code"] == "source_unavailable"
    assert missing["details"] == {"status": 404, "reason": "missing"}
    host.status = 401
    closed = await load(page, "hf:org/repo/closed.gguf", hub=host.hub)
    assert closed["details"] == {"status": 401, "reason": "gated"}
    assert "token" in closed["message"]
    # What is stored needs no host at all.
    assert await load(page, reference, hub=host.hub) == result


async def test_two_tabs_share_one_download(visit: Callable[[], Any], host: ModelHost) -> None:
    tabs = [await visit(), await visit()]
    host.bytes_per_second = size_of(host) / 3
    url = f"{host.storage}/{NAME}"
    first, second = await asyncio.gather(*(load(tab, url, keep=True) for tab in tabs))
    assert first == second
    assert len(first["ids"]) == 4
    assert host.sent == size_of(host)


async def test_a_reload_goes_on_where_the_download_was(
    visit: Callable[[], Any], host: ModelHost
) -> None:
    page = await visit()
    url, size = f"{host.storage}/llama.F32.gguf", (host.folder / "llama.F32.gguf").stat().st_size
    host.bytes_per_second = size / 5
    running = asyncio.ensure_future(page.evaluate(LOAD, [url, {}]))
    while host.sent < size * 0.8:
        assert not running.done(), running.result()
        await asyncio.sleep(0.05)
    await page.reload()
    with pytest.raises(Error):  # its page has gone
        await running
    host.bytes_per_second = 0
    await asyncio.sleep(0.5)
    before = host.sent
    resumed = await load(page, url)
    assert host.sent - before < 0.7 * size
    # The same answer as from a file of which nothing is stored: no half-written byte was used.
    assert await load(page, url + "?whole") == resumed


async def test_a_full_disk_is_said_and_survived(
    context: BrowserContext, visit: Callable[[], Any], host: ModelHost, server: str
) -> None:
    page = await visit()
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    session = await context.new_cdp_session(page)
    quota = {"origin": server, "quotaSize": 100_000}
    await session.send("Storage.overrideQuotaForOrigin", quota)
    result = await load(page, f"{host.storage}/{NAME}")
    assert result["stored"] is False
    assert len(result["ids"]) == 4
    assert [text for text in warnings if "not kept for the next visit" in text]


async def test_a_broken_connection_is_taken_up(visit: Callable[[], Any], host: ModelHost) -> None:
    page = await visit()
    host.break_after = 2_500_000
    result = await load(page, f"{host.storage}/llama.F32.gguf")
    assert len(result["ids"]) == 4
    # What had arrived is not asked for again.
    assert host.sent == (host.folder / "llama.F32.gguf").stat().st_size
