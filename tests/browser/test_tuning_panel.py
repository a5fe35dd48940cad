"""The tuning panel of the chat page, with a scripted engine."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.async_api import Page, expect
from scripted_page import OpenPage, chat, shot

__all__ = ["chat"]


async def opened(page: Page) -> None:
    await page.get_by_role("button", name="Statistics", exact=True).click()
    await page.locator("#tuning").scroll_into_view_if_needed()


async def test_shows_what_is_tried_and_gained(chat: OpenPage) -> None:
    page = await chat()
    await opened(page)
    panel = page.get_by_role("region", name="Tuning")
    await expect(panel).to_contain_text("The fastest kernels for this device are in use: 3 of 3")
    rows = panel.locator("li")
    await expect(rows).to_have_count(4)
    await expect(rows.first).to_contain_text("Writing: a whole step")
    await expect(rows.first).to_contain_text("1.64× the default kernel's speed")
    await expect(rows.nth(3)).to_contain_text("7 of 9 tried · 2 wrong · 43 % of the device's limit")
    await page.locator("#stats").evaluate("drawer => drawer.scrollTo(0, drawer.scrollHeight)")
    await shot(page, "tuning")
    await page.get_by_role("button", name="Dark mode").click()
    await shot(page, "tuning_dark")


async def test_pause_is_remembered(chat: OpenPage) -> None:
    page = await chat({"tuneMs": 40})
    await opened(page)
    panel = page.get_by_role("region", name="Tuning")
    await expect(panel).to_contain_text("Timing kernels")
    await expect(panel.locator("li.running")).to_have_count(1)
    await panel.get_by_role("button", name="Pause").click()
    await expect(panel).to_contain_text("Paused")
    await page.reload()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    await opened(page)
    await expect(panel).to_contain_text("Paused.")
    await panel.get_by_role("button", name="Start").click()
    await expect(panel).to_contain_text("Timing kernels")


async def test_records_go_out_and_come_in_on_a_phone(chat: OpenPage, tmp_path: Path) -> None:
    page = await chat(viewport={"width": 360, "height": 720})
    await opened(page)
    panel = page.get_by_role("region", name="Tuning")
    await expect(panel).to_contain_text("3 of 3")
    async with page.expect_download() as download:
        await panel.get_by_role("button", name="Export").click()
    kept = tmp_path / "records.json"
    await (await download.value).save_as(kept)
    assert len(json.loads(kept.read_text())["records"]) == 2
    await panel.locator("input[type=file]").set_input_files(kept)
    await expect(page.get_by_text("2 records were imported.")).to_be_visible()
    kept.write_text("{}")
    await panel.locator("input[type=file]").set_input_files(kept)
    await expect(page.get_by_text("holds no tuning records")).to_be_visible()
    assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
    await page.locator("#stats").evaluate("drawer => drawer.scrollTo(0, drawer.scrollHeight)")
    await shot(page, "tuning_phone")
