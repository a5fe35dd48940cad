"""What the tests of the store share: a hub with one file, and tabs that have a store."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_host import ModelHost
from playwright.async_api import Browser, BrowserContext, Page

SIZE = 3_000_001
BLOCK = 262_144
NAME = "model.Q4_0.gguf"
CONTENT = random.Random(8).randbytes(SIZE)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PREPARE = """() => {
  globalThis.store = new StoreConnection();
  const digits = (byte) => byte.toString(16).padStart(2, "0");
  const hex = (data) => [...new Uint8Array(data)].map(digits).join("");
  // Read a whole file as a load does, and tell its digest and what became of it.
  globalThis.fetchFile = async ({ stopAt = Infinity, settle = true, keep = false, ...request }) => {
    request = { block: 262144, pace: { retries: 3, pauseMs: 20 }, ...request };
    const stop = new AbortController();
    let source;
    try {
      source = await store.open(request, stop.signal);
      const all = new Uint8Array(source.size);
      let at = 0;
      for await (const piece of source.stream(0, source.size, stop.signal)) {
        all.set(piece, at);
        at += piece.length;
        if (at >= stopAt) stop.abort();
      }
      if (settle) await source.settle();
      const facts = await source.facts();
      if (keep) globalThis.kept = source;
      return { sha256: hex(await crypto.subtle.digest("SHA-256", all)), ...facts };
    } catch (error) {
      return { code: error.code, message: error.message, ...error.details };
    } finally {
      if (!keep) source?.close();
    }
  };
}"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ModelHost]:
    """A hub with one file of three megabytes."""
    (tmp_path / NAME).write_bytes(CONTENT)
    with ModelHost(tmp_path) as host:
        yield host


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile; the test page's policy, which knows no other host, is not applied."""
    context = await browser.new_context(bypass_csp=True)
    yield context
    await context.close()


@pytest.fixture
def models(oracle: Path) -> Iterator[ModelHost]:
    """A hub with the reference models."""
    with ModelHost(oracle / "models_and_logits" / "models") as host:
        yield host


@pytest.fixture
async def open_tab(context: BrowserContext, server: str) -> Callable[[], Any]:
    """Opens one more tab of the profile."""

    async def opened() -> Page:
        page = await context.new_page()
        await page.goto(f"{server}/test.html")
        return page

    return opened


@pytest.fixture
async def visit(open_tab: Callable[[], Any]) -> Callable[[], Any]:
    """Opens one more tab of the profile, with a store."""

    async def opened() -> Page:
        page: Page = await open_tab()
        await page.evaluate(PREPARE)
        await page.evaluate("() => store.list()")  # its worker runs
        return page

    return opened


@pytest.fixture
async def page(visit: Callable[[], Any]) -> Page:
    """The first tab."""
    tab: Page = await visit()
    return tab


async def fetch(page: Page, url: str, **options: Any) -> dict[str, Any]:
    work = page.evaluate("(request) => fetchFile(request)", {"url": url, **options})
    result: dict[str, Any] = await asyncio.wait_for(work, 60)
    return result


async def kept(page: Page) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = (await page.evaluate("() => store.list()"))["files"]
    return files


def ranges(host: ModelHost) -> list[tuple[int, int]]:
    """What was asked for, as (first, last) bytes."""
    found = []
    for _, asked in host.asked:
        first, last = asked.removeprefix("bytes=").split("-")
        found.append((int(first), int(last)))
    return found
