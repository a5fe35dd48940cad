"""One headless Chromium with software WebGPU, the built site on our server, and plain hosts.

``TILEWRIGHT_TEST_BACKEND=wasm``: a Chromium without WebGPU, so that everything runs on the CPU
path. ``TILEWRIGHT_TEST_ISOLATED=0``: a server without the headers that let threads share memory.
"""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tilewright.errors import SourceError
from tilewright.serve.http import create_app
from tilewright.testing import FLAGS as FLAGS
from tilewright.testing import chromium as chromium
from tilewright.testing import find_runtime, launch_options

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
BACKEND = os.environ.get("TILEWRIGHT_TEST_BACKEND", "webgpu")
"""Where models run in tests that name a backend."""
ISOLATED = os.environ.get("TILEWRIGHT_TEST_ISOLATED", "1") != "0"
"""Whether our server sends the headers that let threads share memory."""
SNAPSHOT_KEPT = """(async () => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("tilewright-start", { create: true });
  for (let wait = 0; wait < 600; wait++) {
    for await (const handle of folder.values()) {
      const file = await handle.getFile().catch(() => new Blob());
      const head = new Uint8Array(
        await file.slice(0, 4).arrayBuffer().catch(() => new ArrayBuffer(0)), // written just now
      );
      if (head.some((byte) => byte > 0)) return true;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
})"""
"""A function of a page: waits until what later visits start Python from is kept; whether it is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the environment asks to do without."""
    without = {"webgpu": BACKEND != "webgpu", "isolated": not ISOLATED}
    for item in items:
        for name, missing in without.items():
            if missing and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(f"needs {name}, left out by the environment"))


@pytest.fixture(scope="session")
def site() -> Path:
    """The built runtime folder."""
    try:
        return find_runtime()
    except SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests."""
    found = chromium()
    async with async_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip(
                "no Chromium here: apt-get install chromium, or playwright install chromium"
            )
        options = launch_options()
        options["args"] = [*options["args"], "--js-flags=--expose-gc"]
        if BACKEND == "wasm":
            kept = [flag for flag in options["args"] if "webgpu" not in flag]
            options["args"] = [*kept, "--disable-gpu", "--disable-features=WebGPU"]
        browser = await playwright.chromium.launch(**options)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def backend() -> str:
    """The backend to ask for: WebGPU (in software), or the CPU path where it is forced."""
    return BACKEND


@pytest.fixture(scope="session")
async def server(site: Path, oracle: Path) -> AsyncIterator[str]:
    """Our own server with the site and the oracle's models; gives its address."""
    app: Any = create_app(site, oracle / "models_and_logits" / "models")
    if not ISOLATED:
        app = without_isolation(app)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    running = uvicorn.Server(config)
    task = asyncio.ensure_future(running.serve())
    while not running.started:
        await asyncio.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    await task


@pytest.fixture(scope="session")
def manifest(oracle: Path) -> dict[str, Any]:
    """The reference outputs by file name."""
    entries = json.loads((oracle / "models_and_logits" / "manifest.json").read_text())
    listed = entries["models"] if isinstance(entries, dict) else entries
    return {Path(entry["file"]).name: entry for entry in listed}


def without_isolation(app: Any) -> Any:
    """Return a server's application without its cross-origin headers."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async def passing(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [h for h in message["headers"] if not h[0].startswith(b"cross-origin-")]
                message = {**message, "headers": kept}
            await send(message)

        await app(scope, receive, passing)

    return serve


@pytest.fixture
def plain_host() -> Iterator[Callable[[Path], str]]:
    """Serves a folder as Python's http.server does: no isolation headers, no negotiation."""
    servers: list[http.server.ThreadingHTTPServer] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    def host(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield host
    for server in servers:
        server.shutdown()
        server.server_close()


class Watched:
    """A page, what it complained about, and whom it asked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile: empty caches, empty storage."""
    context = await browser.new_context()
    yield context
    await context.close()


@pytest.fixture
async def watched(context: BrowserContext) -> Watched:
    """A page of a fresh profile."""
    watched = Watched(await context.new_page())
    context.on("request", lambda request: watched.requests.append(request.url))
    return watched


@pytest.fixture
async def python(watched: Watched, server: str) -> AsyncIterator[Callable[..., Any]]:
    """Runs Python code in a worker of the test page; the last expression is the result."""
    await watched.page.goto(f"{server}/test.html")
    await watched.page.evaluate("() => { globalThis.worker = new PythonWorker(); }")
    await watched.page.evaluate("() => worker.ready")

    async def run(code: str, data: object = None) -> Any:
        result = watched.page.evaluate("([code, data]) => worker.run(code, data)", [code, data])
        return await asyncio.wait_for(result, 60)

    yield run
    await watched.page.evaluate("() => worker.terminate()")
