"""The first visit: the page loads the model that ships with it, and it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import expect

from conftest import ROOT, Watched

ARTEFACTS = ROOT / "test-artifacts" / "pages"


async def test_the_bundled_model_answers_without_any_other_host(
    watched: Watched, site: Path, plain_host: Callable[[Path], str]
) -> None:
    """From a plain static server, without isolation headers, and a real chat template."""
    if not list((site / "models").glob("*.gguf")):
        pytest.skip("dist/models holds no model")
    host = plain_host(site)
    page = watched.page
    await page.goto(f"{host}/index.html")
    await page.get_by_role("textbox").first.fill("Tell me a story about a fox.")
    await page.keyboard.press("Enter")
    # The details of an answer (tokens per second ...) appear once it is complete.
    await expect(page.get_by_text("tokens/s").first).to_be_visible(timeout=150_000)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=ARTEFACTS / "bundled_answer.png")
    answer = await page.get_by_role("article").last.inner_text()
    assert len(answer.split()) > 20, answer
    assert {
        url for url in watched.requests if not url.startswith((host, "blob:", "data:"))
    } == set()
    assert watched.complaints == []
