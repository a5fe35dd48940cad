"""The notebook widget: its module in a page, its traits in Python, kept in step by a small host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anywidget
import pytest
import traitlets
from playwright.async_api import expect
from scripted_page import scripted

from conftest import Watched
from tilewright import ChatWidget
from tilewright.testing import HostedSite

HOST = """<!doctype html><html lang="en"><link rel="icon" href="data:,"><div id="out"></div>
<script type="module">
// What anywidget gives a module: a model with get, set, on, off, save_changes.
import widget from "./widget.js";
const state = await fromPython();
const heard = {};
const model = {
  get: (name) => state[name],
  set: (name, value) => Object.assign(state, typeof name === "string" ? { [name]: value } : name),
  save_changes: () => toPython(JSON.stringify(state)),
  on: (name, listener) => (heard[name] ??= new Set()).add(listener),
  off: (name, listener) => heard[name]?.delete(listener),
};
globalThis.push = (name, value) => {
  state[name] = value;
  for (const listener of heard[`change:${name}`] ?? []) listener();
};
globalThis.custom = (message) => {
  for (const listener of heard["msg:custom"] ?? []) listener(message);
};
globalThis.end = await widget.render({ model, el: document.getElementById("out") });
globalThis.shown = true;
</script></html>"""


async def test_traits_and_conversation_are_kept_in_step(
    watched: Watched, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scripted(watched.page.context, {"answers": {"weather": "Rain.", "again": "More rain."}})
    with HostedSite(runtime=site) as engine, HostedSite(tmp_path) as notebook:
        widget = ChatWidget(runtime=engine.runtime_url, heading="Ask me", seed=3)
        (tmp_path / "widget.js").write_text(str(widget._esm))
        (tmp_path / "index.html").write_text(HOST)
        names = [name for name in widget.keys if not name.startswith("_")]
        page = watched.page

        def to_python(text: str) -> None:
            state: dict[str, Any] = json.loads(text)
            widget.set_state({name: state[name] for name in names if name in state})

        seen: list[Any] = []
        widget.observe(lambda change: seen.append(change["new"]), "messages")
        await page.expose_function("fromPython", lambda: widget.get_state(names))
        await page.expose_function("toPython", to_python)
        await page.goto(notebook.url)
        await expect(page.get_by_text("Ask me")).to_be_visible()
        assert await page.locator("tilewright-chat").get_attribute("seed") == "3"
        assert await page.locator("tilewright-chat").get_attribute("model") is None

        # As the reader: the conversation reaches Python.
        await page.get_by_role("textbox").fill("the weather?")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("article", name="Answer")).to_contain_text("Rain.")
        both = [
            {"role": "user", "content": "the weather?"},
            {"role": "assistant", "content": "Rain."},
        ]
        for _ in range(100):
            if widget.messages == both:
                break
            await page.wait_for_timeout(20)
        assert widget.messages == both
        assert seen[0] == both[:1]
        assert widget.error == ""

        # From Python: a message, and another conversation.
        sent: list[Any] = []
        # What the notebook's connection would carry.
        monkeypatch.setattr(
            anywidget.AnyWidget, "send", lambda _, content, __: sent.append(content)
        )
        widget.send("and again?")
        await page.evaluate("message => custom(message)", sent[0])
        await expect(page.get_by_role("article", name="Answer").last).to_contain_text("More rain.")
        widget.clear()
        await page.evaluate("messages => push('messages', messages)", widget.messages)
        await expect(page.get_by_role("article")).to_have_count(0)
        await page.evaluate("() => push('heading', 'Ask her')")
        await expect(page.get_by_text("Ask her")).to_be_visible()
        await page.evaluate("() => end()")
        await expect(page.locator("tilewright-chat")).to_have_count(0)
    assert watched.complaints == []


def test_a_conversation_of_the_wrong_shape_is_refused() -> None:
    widget = ChatWidget(runtime="https://example.org/tilewright")
    with pytest.raises(traitlets.TraitError, match="system"):
        widget.messages = [{"role": "system", "content": "Be brief."}]
    with pytest.raises(traitlets.TraitError):
        widget.messages = [{"role": "user"}]
    widget.messages = [{"role": "user", "content": "Hello"}]
