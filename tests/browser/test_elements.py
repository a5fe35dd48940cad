"""The custom elements, in pages of another origin under a strict policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from scripted_page import MARKDOWN, scripted, shot

from conftest import Watched
from tilewright.testing import HostedSite

WAIT_MS = 120_000
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="page.css">
<script type="module" src="{runtime}/elements.js"></script>
<h1>A page of another origin</h1>
{body}</html>"""
STYLE = """:root { color-scheme: light dark; }
body { font-family: system-ui; margin: 20px auto; max-width: 44rem; padding: 0 16px; }
.red { --tilewright-accent: rgb(170, 0, 60); --tilewright-radius: 2px; }
.red::part(user-message) { font-style: italic; }
textarea { width: 100%; height: 7em; font: 17px/1.5 Georgia, serif; padding: 10px 14px; }"""


@pytest.fixture
def embed(site: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes a page on a port of its own; the engine comes from another; gives its address."""
    hosts: list[HostedSite] = []

    def make(body: str, *, strict: bool = True) -> str:
        engine = HostedSite(runtime=site)
        hosts.append(engine)
        (tmp_path / "index.html").write_text(PAGE.format(runtime=engine.runtime_url, body=body))
        (tmp_path / "page.css").write_text(STYLE)
        policy = (
            f"default-src 'none'; script-src {engine.url} 'wasm-unsafe-eval'; "
            f"worker-src blob: {engine.url}; connect-src {engine.url}; "
            "style-src 'self'; img-src data:"
        )
        headers = {"Content-Security-Policy": policy} if strict else {}
        host = HostedSite(tmp_path, headers=headers)
        hosts.append(host)
        return host.url

    yield make
    for host in hosts:
        host.close()


async def heard(watched: Watched, plan: dict[str, Any]) -> Page:
    """Return a page with a scripted engine whose events are kept."""
    await scripted(watched.page.context, plan)
    await watched.page.add_init_script(LISTEN)
    return watched.page


async def events(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate("() => globalThis.seen")
    return found


LISTEN = """globalThis.seen = [];
for (const name of ["ready", "progress", "message", "error", "suggestion", "accept"]) {
  addEventListener(`tilewright-${name}`, ({ target, detail }) => {
    seen.push({ name, id: target.id, detail });
  });
}"""


async def test_one_script_tag_from_another_origin_is_enough(
    watched: Watched, embed: Callable[..., str], site: Path
) -> None:
    """With the bundled model, a real worker, and a policy that allows nothing by default."""
    if not (site / "models" / "tilewright-tiny.gguf").is_file():
        pytest.skip("the bundled model is not in dist/models")
    settings = 'max-tokens="60" temperature="0.7" seed="1"'
    address = embed(f'<tilewright-chat id="chat" {settings}></tilewright-chat>')
    page = watched.page
    await page.add_init_script(LISTEN)
    await page.goto(address)
    field = page.get_by_role("textbox", name="Message")
    await expect(field).to_be_visible()
    assert not [url for url in watched.requests if "runtime/" in url], "it loads before its use"
    await field.fill("Tell me a story about a fox.")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("progressbar")).to_be_visible()
    answer = page.get_by_role("article", name="Answer")
    await expect(answer).to_contain_text(re.compile(r"(\S+\s+){20}"), timeout=WAIT_MS)
    await expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=WAIT_MS)
    await shot(page, "element-other-origin")
    names = [event["name"] for event in await events(page)]
    assert names[0] == "progress"
    assert [name for name in names if name != "progress"] == ["message", "ready", "message"]
    last = (await events(page))[-1]["detail"]
    assert last["content"]
    assert last["usage"]["completion_tokens"] <= 60
    assert watched.complaints == []


async def test_several_on_one_page_share_one_engine(
    watched: Watched, embed: Callable[..., str]
) -> None:
    await scripted(watched.page.context, {"answers": {"first": "one", "second": "two"}})
    page = watched.page
    workers: list[str] = []
    page.on("worker", lambda worker: workers.append(worker.url))
    body = "".join(f'<tilewright-chat id="{name}"></tilewright-chat>' for name in "ab")
    await page.add_init_script(LISTEN)
    await page.goto(embed(body))
    both = await page.evaluate(
        """() => Promise.all([
             document.querySelector("#a").send("the first"),
             document.querySelector("#b").send("the second"),
           ])"""
    )
    assert both == ["one", "two"]
    assert len(workers) == 1
    ready = {event["id"] for event in await events(page) if event["name"] == "ready"}
    assert ready == {"a", "b"}
    assert watched.complaints == []


async def test_a_page_gives_it_looks_and_words(watched: Watched, embed: Callable[..., str]) -> None:
    """Custom properties, parts, slots, light and dark, Markdown that stays inert."""
    attack = "<img src=x onerror='globalThis.hacked=1'> [x](javascript:globalThis.hacked=1)"
    await scripted(watched.page.context, {"answers": {"tiles": MARKDOWN, "attack": attack}})
    page = watched.page
    await page.goto(
        embed(
            '<tilewright-chat class="red" heading="Ask the tiler" placeholder="Your question">'
            '<p slot="empty">Ask me. <button data-send="about tiles">Tiles?</button></p>'
            "</tilewright-chat>"
        )
    )
    await expect(page.get_by_text("Ask the tiler")).to_be_visible()
    await expect(page.get_by_role("textbox")).to_have_attribute("placeholder", "Your question")
    await page.get_by_role("button", name="Tiles?").click()
    answer = page.get_by_role("article", name="Answer")
    await expect(answer.get_by_role("table")).to_be_visible()
    await expect(page.get_by_role("button", name="Tiles?")).to_be_hidden()
    await expect(page.get_by_role("status")).to_contain_text("Answer: ## Laying tiles")
    own = page.get_by_role("article", name="You")
    assert await own.evaluate("element => getComputedStyle(element).fontStyle") == "italic"
    send = page.get_by_role("button", name="Send")
    await page.get_by_role("textbox").fill("attack")
    colour = "element => getComputedStyle(element).backgroundColor"
    assert await send.evaluate(colour) == "rgb(170, 0, 60)"
    await shot(page, "element-light")
    await page.emulate_media(color_scheme="dark")
    await shot(page, "element-dark")
    await page.keyboard.press("Enter")
    await expect(answer).to_have_count(2)
    await expect(send).to_be_visible()
    assert await answer.last.locator("img, script, a").count() == 0
    assert await page.evaluate("() => globalThis.hacked") is None
    assert watched.complaints == []


async def test_keyboard_stop_and_clear(watched: Watched, embed: Callable[..., str]) -> None:
    page = await heard(watched, {"tokenMs": 30, "answers": {"long": "word " * 400}})
    await page.goto(embed('<tilewright-chat id="chat"></tilewright-chat>'))
    field = page.get_by_role("textbox", name="Message")
    await field.press_sequentially("a long")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("one")
    assert await field.input_value() == "a long\none"
    await page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Answer")
    await expect(answer).to_contain_text("word word")
    await page.keyboard.press("Escape")
    await expect(answer).to_contain_text("Stopped.")
    await expect(field).to_be_focused()
    last = (await events(page))[-1]
    assert last["name"] == "message"
    assert last["detail"]["finish_reason"] == "stopped"
    assert [message["role"] for message in await page.evaluate("() => chat.messages")] == [
        "user",
        "assistant",
    ]
    await page.get_by_role("button", name="Clear the conversation").click()
    await expect(page.get_by_role("article")).to_have_count(0)
    await expect(field).to_be_focused()
    assert await page.evaluate("() => chat.messages") == []
    # Cleared in the midst of an answer: nothing of it comes back.
    await page.evaluate("() => { chat.send('long again'); }")
    await expect(answer).to_contain_text("word")
    await page.evaluate("() => chat.clear()")
    await expect(page.get_by_role("button", name="Stop the answer")).to_have_count(0)
    await expect(page.get_by_role("article")).to_have_count(0)
    assert await page.evaluate("() => chat.messages") == []
    assert watched.complaints == []


async def test_failures_are_told_and_can_be_mended(
    watched: Watched, embed: Callable[..., str]
) -> None:
    page = await heard(watched, {"answers": {"again": "mended"}})
    await page.goto(embed('<tilewright-chat id="chat"></tilewright-chat>'))
    field = page.get_by_role("textbox", name="Message")
    await field.fill("crash")
    await page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("The graphics device was lost")
    failed = [event["detail"] for event in await events(page) if event["name"] == "error"]
    assert [error["code"] for error in failed] == ["device_lost"]
    await field.fill("again")  # the engine is dead: another is loaded
    await page.keyboard.press("Enter")
    await expect(
        page.get_by_role("article", name="Answer").locator(":scope > .markdown")
    ).to_have_text("mended")
    await expect(alert).to_have_count(0)
    assert watched.complaints == []


async def test_suggestions_are_accepted_dismissed_and_overtaken(
    watched: Watched, embed: Callable[..., str]
) -> None:
    plan = {"answers": {"Once upon": " a time there was a fox", "The end": "."}, "firstMs": 60}
    page = await heard(watched, plan)
    await page.goto(
        embed(
            '<tilewright-complete id="it" delay="50">'
            '<textarea aria-label="Story"></textarea></tilewright-complete>'
        )
    )
    field = page.get_by_role("textbox", name="Story")
    suggestion = "() => it.suggestion"
    await field.press_sequentially("Once upon")
    await expect(page.locator(".ghost")).to_have_text(" a time there was a fox")
    await expect(page.get_by_role("status")).to_contain_text("Tab accepts it")
    await shot(page, "element-complete")
    await page.keyboard.type(" a t")  # into it
    assert await page.evaluate(suggestion) == "ime there was a fox"
    await page.keyboard.press("Tab")
    assert await field.input_value() == "Once upon a time there was a fox"
    await expect(field).to_be_focused()
    assert [e["detail"]["text"] for e in await events(page) if e["name"] == "accept"] == [
        "ime there was a fox"
    ]
    await field.fill("")
    await field.press_sequentially("The end")
    await expect(page.locator(".ghost")).to_have_text(".")
    await page.keyboard.press("Escape")
    await expect(page.locator(".ghost")).to_have_count(0)
    await page.keyboard.press("Tab")  # nothing to accept: it moves the focus as ever
    await expect(field).not_to_be_focused()
    assert await field.input_value() == "The end"
    assert not [event for event in await events(page) if event["name"] == "error"]
    assert watched.complaints == []
