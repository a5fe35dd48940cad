"""The chat page, driven as a visitor does; the worker behind it is ``fake_engine.js``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.async_api import expect
from scripted_page import FAKE, MARKDOWN, OpenPage, answers, chat, say, shot

__all__ = ["chat"]


async def test_answers_and_shows_markdown(chat: OpenPage) -> None:
    page = await chat({"answers": {"tiles": MARKDOWN}})
    await shot(page, "empty")
    await say(page, "Something on tiles")
    answer = page.locator(".assistant .markdown")
    await expect(answer.locator("ol > li")).to_have_count(2)
    await expect(answer.locator("li li")).to_have_text("use spacers")
    await expect(answer.locator("td").last).to_have_text("1.20")
    await expect(answer.locator("strong")).to_have_text("half a tile")
    link = answer.get_by_role("link", name="the manual")
    assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    await expect(page.locator(".details-line")).to_contain_text("tokens/s")
    await shot(page, "done")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await answer.get_by_role("button", name="Copy").click()
    copied = await page.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith("def rows(count: int)")
    assert copied.rstrip().endswith("range(count)]")


async def test_a_message_sent_while_loading_is_answered_once_ready(chat: OpenPage) -> None:
    plan = {"load": {"bytes": 4.2e9, "steps": 20, "stepMs": 60, "hold": True}}
    page = await chat(plan, ready=False)
    await page.get_by_role("textbox", name="Message", exact=True).fill("early bird")
    await page.keyboard.press("Enter")
    bar = page.get_by_role("progressbar", name="Loading the model")
    await expect(bar).to_be_visible()
    await expect(page.locator(".strip-facts")).to_contain_text(
        re.compile(r"of 4\.20 GB · .+/s · .+ left")
    )
    await shot(page, "loading")
    await page.evaluate("() => new BroadcastChannel('fake engine').postMessage('go on')")
    await expect(page.locator(".assistant .markdown")).to_have_text("You said: early bird")
    await expect(page.locator("#strip")).to_be_hidden()


async def test_cancel_and_load_again(chat: OpenPage) -> None:
    page = await chat({"load": {"steps": 50, "stepMs": 50}}, ready=False)
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#strip")).to_contain_text("is not loaded")
    await page.get_by_role("button", name="Load it").click()
    await expect(page.get_by_role("progressbar")).to_be_visible()


async def test_a_failed_load_says_what_to_do_and_can_be_retried(chat: OpenPage) -> None:
    failure = {"code": "source_unavailable", "message": "models/x.gguf: 404 Not Found."}
    page = await chat({"load": {"fail": failure}}, ready=False)
    alert = page.get_by_role("alert").filter(has_text="404 Not Found")
    await expect(alert).to_contain_text("The model could not be read")
    await expect(alert).to_contain_text("source_unavailable")
    await shot(page, "error")
    await page.context.unroute_all()
    script = f"const PLAN = {{}};\n{FAKE}"
    await page.context.route(
        "**/assets/worker-*.js",
        lambda route: route.fulfill(content_type="text/javascript", body=script),
    )
    await alert.get_by_role("button", name="Try again").click()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    await say(page, "better")
    assert await answers(page) == ["You said: better"]


async def test_an_error_while_answering_stays_in_the_conversation(chat: OpenPage) -> None:
    page = await chat()
    await say(page, "crash")
    card = page.locator(".message .error-card")
    await expect(card).to_contain_text("The graphics device was lost")
    await expect(card).to_contain_text("device_lost")
    await expect(card.get_by_role("button", name="Try again")).to_be_visible()
    await say(page, "and now?")  # loads the model again
    assert (await answers(page))[-1] == "You said: and now?"


async def test_stop_keeps_what_was_said(chat: OpenPage) -> None:
    page = await chat({"tokenMs": 40, "answers": {"long": "word " * 300}})
    box = page.get_by_role("textbox", name="Message", exact=True)
    await box.fill("a long one")
    await page.keyboard.press("Enter")
    await expect(page.locator(".assistant .markdown")).to_contain_text("word word")
    await shot(page, "streaming")
    await page.keyboard.press("Escape")
    await expect(page.locator(".message.running")).to_have_count(0)
    await expect(page.locator(".details-line")).to_contain_text("stopped")
    kept = await answers(page)
    assert 2 <= len(kept[0].split()) < 300
    await expect(page.get_by_role("button", name="Send message")).to_be_visible()


async def test_edit_regenerate_delete_and_undo(chat: OpenPage) -> None:
    page = await chat()
    for text in ("one", "two", "three"):
        await say(page, text)
    first = page.locator(".message.user").first
    await first.hover()
    await first.get_by_role("button", name="Edit message").click()
    await page.get_by_role("textbox", name="Edit your message").fill("uno")
    await page.keyboard.press("Enter")
    await expect(page.locator(".assistant .markdown")).to_have_text(["You said: uno"])
    await page.get_by_role("button", name="Undo").click()
    said = ["You said: one", "You said: two", "You said: three"]
    await expect(page.locator(".assistant .markdown")).to_have_text(said)
    await page.get_by_role("button", name="Answer again").last.click()
    await expect(page.locator(".message.running")).to_have_count(0)
    assert await answers(page) == said
    await page.get_by_role("button", name="Delete answer").last.click()
    await expect(page.locator(".assistant")).to_have_count(2)


async def test_the_oldest_messages_give_way_when_the_context_is_full(chat: OpenPage) -> None:
    page = await chat()
    await say(page, "old news")
    await say(page, "overflow")
    await expect(page.locator(".aside-note")).to_contain_text("2 oldest messages")
    assert (await answers(page))[-1] == "You said: overflow"


async def test_conversations_survive_a_reload(chat: OpenPage) -> None:
    page = await chat()
    await say(page, "first topic")
    await page.get_by_role("button", name="New chat").click()
    await say(page, "second topic")
    listed = page.get_by_role("navigation", name="Your conversations")
    await page.locator(".conversation").first.hover()
    await listed.get_by_role("button", name="Rename second topic").click()
    await page.get_by_role("textbox", name="Title of the conversation").fill("My title")
    await page.keyboard.press("Enter")
    await shot(page, "conversations")
    await page.reload()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    await expect(page.locator(".conversation-title")).to_have_text(["My title", "first topic"])
    assert await answers(page) == ["You said: second topic"]  # the open one is open again
    await listed.get_by_role("button", name="first topic", exact=False).first.click()
    await expect(page.locator(".assistant .markdown")).to_have_text(["You said: first topic"])
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Export").click()
    exported = json.loads(Path(await (await saving.value).path()).read_text())
    assert [entry["title"] for entry in exported["conversations"]] == ["My title", "first topic"]


async def test_delete_and_import_a_conversation(chat: OpenPage, tmp_path: Path) -> None:
    page = await chat()
    await say(page, "keep me")
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Export").click()
    saved = tmp_path / "export.json"
    await (await saving.value).save_as(saved)
    await page.get_by_role("button", name="Delete keep me").click()
    await expect(page.locator(".conversation")).to_have_count(0)
    await page.set_input_files("#import-file", saved)
    await expect(page.locator(".conversation-title")).to_have_text(["keep me"])
    bad = tmp_path / "bad.json"
    bad.write_text("{ not json")
    await page.set_input_files("#import-file", bad)
    await expect(page.locator("#toast")).to_contain_text("could not be imported")


async def test_another_tab_sees_new_conversations(chat: OpenPage) -> None:
    page = await chat()
    other = await page.context.new_page()
    await other.goto(page.url.split("#")[0])
    await say(page, "seen elsewhere")
    await expect(other.locator(".conversation-title")).to_have_text(["seen elsewhere"])


async def test_settings_are_kept_and_used(chat: OpenPage) -> None:
    page = await chat()
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_label("System prompt").fill("Be brief.")
    await page.get_by_label("Temperature").fill("0.25")
    await page.get_by_label("Seed").fill("7")
    await page.get_by_label("Top p").fill("3")
    await expect(page.locator(".field-help.wrong")).to_contain_text("from 0 to 1")
    await shot(page, "settings")
    await page.get_by_role("radio", name="Dark").check()
    await page.keyboard.press("Escape")
    await page.reload()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    assert await page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    stored = await page.evaluate("() => JSON.parse(localStorage['tilewright.settings'])")
    assert (stored["temperature"], stored["seed"], stored["top_p"]) == (0.25, 7, 0.95)
    await page.evaluate(
        """() => {
          const post = Worker.prototype.postMessage;
          globalThis.sent = [];
          Worker.prototype.postMessage = function (message, ...rest) {
            globalThis.sent.push(message);
            return post.call(this, message, ...rest);
          };
        }"""
    )
    await say(page, "hi")
    sent = await page.evaluate("() => globalThis.sent.find(({ type }) => type === 'generate')")
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent["sampling"]["temperature"] == 0.25
    assert sent["sampling"]["seed"] == 7


async def test_the_picker_loads_references_and_files(chat: OpenPage, tmp_path: Path) -> None:
    page = await chat()
    await page.get_by_role("button", name="Model:").click()
    dialog = page.get_by_role("dialog", name="Model")
    await expect(dialog).to_contain_text("Q4_K, Q6_K, F32")
    await expect(dialog).to_contain_text("2,048 tokens")
    await shot(page, "picker")
    field = dialog.get_by_label("From the Hub, or any address")
    for wrong in ("", "hf:org", "file:///etc/passwd", "javascript:alert(1)"):
        await field.fill(wrong)
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_role("alert")).not_to_be_empty()
    await field.fill("https://huggingface.co/org/repo/blob/main/tiny-Q4_K_M.gguf")
    await page.keyboard.press("Enter")
    await expect(page.locator("#model-name")).to_have_text("tiny-Q4_K_M")
    await page.get_by_role("button", name="Model:").click()
    await expect(dialog).to_contain_text("hf:org/repo/tiny-Q4_K_M.gguf")
    await expect(dialog.locator("#picker-curated")).to_contain_text("Apache-2.0")
    model = tmp_path / "mine.gguf"
    model.write_bytes(b"GGUF")
    await page.set_input_files("#picker-file", model)
    await expect(page.locator("#model-name")).to_have_text("mine")


async def test_a_file_can_be_dropped_anywhere(chat: OpenPage) -> None:
    page = await chat()
    drop = """(name) => {
      const carried = new DataTransfer();
      carried.items.add(new File(["GGUF"], name));
      for (const type of ["dragenter", "dragover", "drop"]) {
        const options = { dataTransfer: carried, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent(type, options));
      }
    }"""
    await page.evaluate(drop, "dropped.gguf")
    await expect(page.locator("#model-name")).to_have_text("dropped")
    await page.evaluate(drop, "cat.jpg")
    await expect(page.locator("#picker-error")).to_contain_text("cat.jpg is not a model file")


LONG = (
    MARKDOWN
    + """
Some <b>raw</b> text
<div>

1. one

   inner paragraph
2. two

        indented code

Setext
======

- [x] done
- [ ] open

[ref]: https://example.org/

***

~~~js
const open = 1; // never closed
"""
    + MARKDOWN
)


async def test_streamed_markdown_is_the_same_as_whole_markdown(chat: OpenPage) -> None:
    page = await chat({"answers": {"long": LONG}})
    await say(page, "long")
    streamed = await page.locator(".assistant .markdown").inner_html()
    await page.reload()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    assert await page.locator(".assistant .markdown").inner_html() == streamed
    assert streamed.count("<figure") == 3
    assert "&lt;b&gt;raw" in streamed


async def test_reasoning_is_folded(chat: OpenPage) -> None:
    page = await chat({"answers": {"think": "<think>\nlet me see\n</think>\n\nThe answer."}})
    await say(page, "think")
    await expect(page.locator(".thought summary")).to_have_text("Thoughts")
    assert (await answers(page))[-1] == "The answer."
