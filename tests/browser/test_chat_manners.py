"""How the chat page behaves: inert texts, keyboard, roles and names, narrow and dark screens."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect
from scripted_page import MARKDOWN, OpenPage, chat, say, shot

__all__ = ["chat"]


ATTACKS = [
    "<img src=x onerror=\"globalThis.hacked = 'img'\">",
    "<script>globalThis.hacked = 'script'</script>",
    "[click](javascript:globalThis.hacked='link')",
    "[click](data:text/html,<script>globalThis.hacked=1</script>)",
    "![pixel](https://evil.example/pixel.png)",
    '<svg onload="globalThis.hacked=1"></svg>',
    "<iframe srcdoc=\"<script>parent.hacked='frame'</script>\"></iframe>",
    '```"><script>globalThis.hacked=1</script>\ncode\n```',
    "[a](https://good.example \"x' onmouseover='globalThis.hacked=1\")",
    "&lt;img src=x onerror=globalThis.hacked=1&gt;",
    "<style>body { display: none }</style>",
    "> ".join([""] * 400) + "deep",
    "[" * 2000 + "x" + "](y)" * 100,
]


async def test_attacks_in_texts_are_inert(chat: OpenPage) -> None:
    """In the model's answer, the user's message, the title, and after a reload from the store."""
    page = await chat({"answers": {f"attack {i}.": text for i, text in enumerate(ATTACKS)}})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for number, text in enumerate(ATTACKS):
        await say(page, f"{text} attack {number}.")
        await page.get_by_role("button", name="New chat").click()
    for conversation in range(len(ATTACKS)):
        await page.locator(".conversation-open").nth(conversation).click()
        messages = page.locator("#messages")
        assert (
            await messages.locator("img, script, iframe, svg[onload], style, object").count() == 0
        )
        for link in await messages.locator("a").all():
            assert re.match(r"(https?|mailto):", await link.get_attribute("href") or "")
        assert await messages.locator("[onerror], [onload], [onmouseover]").count() == 0
    assert await page.evaluate("() => globalThis.hacked") is None
    assert [url for url in asked if "evil" in url or "good" in url] == []


async def test_keyboard_alone_is_enough(chat: OpenPage) -> None:
    page = await chat({"load": {"stepMs": 1}})
    focused = "() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"
    assert await page.evaluate(focused) == "composer-input"  # ready to type at once
    await page.keyboard.type("by keys")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("only")
    await page.keyboard.press("Enter")
    await expect(page.locator(".assistant .markdown")).to_contain_text("by keys")
    await expect(page.locator(".own-text")).to_have_text("by keys\nonly")
    assert await page.evaluate(focused) == "composer-input"
    await page.keyboard.press("ArrowUp")
    assert await page.evaluate(focused) == "Edit your message"
    await page.keyboard.press("Escape")
    await page.keyboard.press("Control+Shift+O")
    await expect(page.locator("#empty")).to_be_visible()
    await page.locator("body").press("Home")
    reached: list[str] = []
    for _ in range(30):
        await page.keyboard.press("Tab")
        name = await page.evaluate(
            "() => { const e = document.activeElement;"
            " const s = getComputedStyle(e);"
            " return [e.getAttribute('aria-label') ?? e.textContent.trim().slice(0, 60),"
            " s.outlineStyle !== 'none' || e.id === 'composer-input' || e === document.body]; }"
        )
        reached.append(name[0])
        assert name[1], f"no visible focus on {name[0]}"
    for wanted in ("New chat", "Export", "Settings", "Statistics", "Send message"):
        assert any(wanted in name for name in reached), (wanted, reached)
    await page.get_by_role("button", name="Settings").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="Settings")).to_be_hidden()
    assert await page.evaluate(focused) == "Settings"


UNNAMED = """() => [...document.querySelectorAll('button, a, input, textarea, select, [role]')]
  .filter((e) => !e.closest('[hidden], [aria-hidden=true]') && e.type !== 'file')
  .filter((e) => {
    const labels = e.labels ? [...e.labels].map((l) => l.textContent.trim()).join('') : '';
    const by = e.getAttribute('aria-labelledby');
    const named = by && document.getElementById(by)?.textContent.trim();
    const live = ['status', 'alert'].includes(e.getAttribute('role'));
    return !live && !(e.getAttribute('aria-label') || labels || named || e.textContent.trim());
  })
  .map((e) => e.outerHTML.slice(0, 120))"""


async def test_everything_has_a_role_and_a_name(chat: OpenPage) -> None:
    page = await chat()
    await say(page, "hello")
    await page.get_by_role("button", name="Statistics", exact=True).click()
    for opener in (None, "#model-chip", "#settings-open"):
        if opener:
            await page.click(opener)
        assert await page.evaluate(UNNAMED) == []
        ids = await page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids)), "an id is there twice"
        if opener:
            await page.keyboard.press("Escape")
    await expect(page.get_by_role("main")).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    # The transcript is no live region; one polite region tells the end of an answer.
    assert await page.locator("#messages").get_attribute("aria-live") is None
    await expect(page.locator("#announcer")).to_have_text("Answer: You said: hello")


async def test_without_webgpu_the_page_says_what_to_do(chat: OpenPage) -> None:
    page = await chat(path="index.html?backend=webgpu", ready=False, without_webgpu=True)
    await expect(page.get_by_role("heading", level=1)).to_have_text("This browser has no WebGPU")
    await expect(page.get_by_role("main")).to_contain_text("Firefox")
    await expect(page.get_by_role("main")).to_contain_text("no_webgpu")
    await shot(page, "no_webgpu")


@pytest.mark.parametrize("width", [320, 390])
async def test_phone_width(chat: OpenPage, width: int) -> None:
    page = await chat({"answers": {"tiles": MARKDOWN}}, viewport={"width": width, "height": 640})
    await shot(page, f"phone_{width}_empty")
    await say(page, "tiles, and averyveryveryveryveryveryveryveryveryverylongword")
    assert await page.evaluate("() => document.documentElement.scrollWidth") == width
    await shot(page, f"phone_{width}")
    toggle = page.get_by_role("button", name="Conversations", exact=True)
    await toggle.click()
    await expect(page.get_by_role("button", name="New chat")).to_be_focused()
    await shot(page, f"phone_{width}_list")
    await page.keyboard.press("Escape")
    await expect(toggle).to_be_focused()


async def test_dark_mode_and_reduced_motion(chat: OpenPage) -> None:
    page = await chat(
        {"answers": {"tiles": MARKDOWN}, "tokenMs": 15},
        color_scheme="dark",
        reduced_motion="reduce",
    )
    await page.get_by_role("textbox", name="Message", exact=True).fill("tiles")
    await page.keyboard.press("Enter")
    moving = "() => document.getAnimations().filter((a) => a.playState === 'running').length"
    assert await page.evaluate(moving) == 0
    await expect(page.locator(".message.running")).to_have_count(0)
    assert await page.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(21, 25, 26)"
    )
    await shot(page, "dark")
    button = page.get_by_role("button", name="Dark mode")
    assert await button.get_attribute("aria-pressed") == "true"
    await button.click()
    assert await page.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(247, 244, 238)"
    )
