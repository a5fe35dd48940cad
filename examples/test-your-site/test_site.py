"""Tests of the site in ``site/``, as its owner would write them."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tilewright.testing import ChatDriver


def test_the_chat_invites_and_loads_nothing(tilewright_page: Page) -> None:
    asked: list[str] = []
    tilewright_page.on("request", lambda request: asked.append(request.url))
    tilewright_page.goto("/")
    expect(tilewright_page.get_by_text("Ask for a story.")).to_be_visible()
    assert not [url for url in asked if url.endswith(".gguf")]


def test_an_answer_comes_and_is_always_the_same(
    tilewright_page: Page, tilewright_chat: ChatDriver
) -> None:
    tilewright_page.goto("/")
    first = tilewright_chat.ask("Tell me a story about a fox.")
    assert len(first.split()) > 5
    expect(tilewright_page.locator("#count")).to_have_text("1")
    tilewright_page.get_by_role("button", name="Clear the conversation").click()
    assert tilewright_chat.messages == []
    assert tilewright_chat.ask("Tell me a story about a fox.") == first
    expect(tilewright_page.locator("#count")).to_have_text("2")
