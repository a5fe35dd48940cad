"""The built site served on this machine, and a headless Chromium that has its test page open."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Page, Playwright, async_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "py_core"))

from tilewright.serve.http import create_app  # noqa: E402
from tilewright.testing import launch_options  # noqa: E402


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Run an ASGI application on a free port of this machine; gives its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def served(models: Path) -> AbstractAsyncContextManager[str]:
    """Serve ``dist/`` with a folder of models at ``/models/``; gives its address."""
    return serving(create_app(ROOT / "dist", models))


def without_policy(app: Any) -> Any:
    """Return ``app`` without its Content-Security-Policy: rivals run scripts it would not allow."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async def passing(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [p for p in message["headers"] if p[0] != b"content-security-policy"]
                message = {**message, "headers": kept}
            await send(message)

        await app(scope, receive, passing)

    return serve


@asynccontextmanager
async def visitor(
    playwright: Playwright, flags: Sequence[str] | None = None
) -> AsyncIterator[Page]:
    """Open a page in a Chromium as visitors have it, with a fresh profile on disk.

    Without one, a page's files lie in another process and are read back ten times slower.
    """
    options = launch_options()
    if flags is not None:
        options["args"] = list(flags)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        launch = playwright.chromium.launch_persistent_context
        context = await launch(profile, bypass_csp=True, **options)
        try:
            page = await context.new_page()
            page.set_default_timeout(0)
            yield page
        finally:
            await context.close()


@asynccontextmanager
async def open_page(models: Path) -> AsyncIterator[tuple[Page, str]]:
    """Open the test page of the served site; gives the page and the site's address."""
    async with (
        served(models) as address,
        async_playwright() as playwright,
        visitor(playwright) as page,
    ):
        await page.goto(f"{address}/test.html")
        yield page, address
