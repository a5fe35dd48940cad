"""What the tests of the pages share: a page in a fresh profile, its worker ``fake_engine.js``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

HERE = Path(__file__).resolve().parent
SHOTS = HERE.parents[1] / "test-artifacts" / "pages"
FAKE = (HERE / "fake_engine.js").read_text()
MARKDOWN = """## Laying tiles

A *running bond* shifts each row by **half a tile**:

1. Start from the middle
2. Keep the grout `2 mm` wide
   - use spacers

```python
def rows(count: int) -> list[float]:
    return [0.5 * (row % 2) for row in range(count)]
```

| Tile | Price |
|:-----|------:|
| Square | 1.20 |

> Measure twice. See [the manual](https://example.org/manual).
"""
OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def chat(browser: Browser, site: Path, plain_host: Callable[[Path], str]) -> Any:
    """Opens the page in a fresh profile, on a plain static host, with a plan for the engine."""
    address = plain_host(site)
    contexts = []
    complaints: list[str] = []

    async def open_page(
        plan: dict[str, Any] | None = None,
        *,
        path: str = "index.html",
        ready: bool = True,
        without_webgpu: bool = False,
        **options: Any,
    ) -> Page:
        options = {"viewport": {"width": 1240, "height": 820}, **options}
        context = await browser.new_context(**options)
        contexts.append(context)
        script = f"const PLAN = {json.dumps(plan or {})};\n{FAKE}"
        await context.route(
            "**/assets/worker-*.js",
            lambda route: route.fulfill(content_type="text/javascript", body=script),
        )
        if without_webgpu:
            await context.add_init_script("delete Navigator.prototype.gpu")
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        await page.goto(f"{address}/{path}")
        if ready:
            await page.wait_for_selector("html[data-model=ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        await context.close()
    # Nothing may be refused by the policy; a list of models is not there on a plain host.
    assert [text for text in complaints if "404" not in text] == []


async def scripted(context: BrowserContext, plan: dict[str, Any]) -> None:
    """Let the worker of another origin answer from a plan."""
    script = f"const PLAN = {json.dumps(plan)};\n{FAKE}"
    headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
    await context.route(
        "**/assets/worker-*.js", lambda route: route.fulfill(headers=headers, body=script)
    )


async def shot(page: Page, name: str) -> None:
    """Keep a screenshot as an artefact of the test run."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.wait_for_timeout(500)  # let the tiles' transition end
    await page.screenshot(path=SHOTS / f"{name}.png")


async def say(page: Page, text: str) -> None:
    """Send a message and wait for the whole answer."""
    await page.get_by_role("textbox", name="Message", exact=True).fill(text)
    await page.keyboard.press("Enter")
    await expect(page.locator(".message.running")).to_have_count(0)


async def answers(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator(".assistant .markdown").all_inner_texts()]
