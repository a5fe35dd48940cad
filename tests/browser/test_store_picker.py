"""The picker with models on the device, and what a visitor reads when one cannot be had."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect
from scripted_page import OpenPage, chat, shot

__all__ = ["chat"]

KEEP = """async () => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("tilewright-models", { create: true });
  const put = async (name, data) => {
    const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
    await stream.write(data);
    await stream.close();
  };
  const url = "https://hub.example/models/tiny.gguf";
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  const digits = (byte) => byte.toString(16).padStart(2, "0");
  const hex = [...new Uint8Array(digest).subarray(0, 16)].map(digits).join("");
  await put(hex, new Uint8Array(5000));
  await put(`${hex}.json`, JSON.stringify({
    url, name: "tiny.gguf", size: 5000, etag: null, ranges: [[0, 5000]], sha256: null,
    verified: true, block: 4096, digests: {}, use: 1, usedAt: Date.now(), pinned: false,
  }));
}"""


async def test_models_on_the_device_are_listed_pinned_checked_saved_and_removed(
    chat: OpenPage,
) -> None:
    page = await chat()
    await page.evaluate(KEEP)
    await page.get_by_role("button", name="Model:").click()
    kept = page.get_by_role("region", name="On this device")
    await expect(kept).to_contain_text("5 kB · used now")
    await kept.get_by_role("button", name="Keep tiny.gguf").click()
    await expect(kept).to_contain_text("pinned")
    await kept.get_by_role("button", name="Check tiny.gguf").click()
    await expect(page.locator("#toast")).to_contain_text("is sound")
    await kept.scroll_into_view_if_needed()
    await shot(page, "picker-kept")
    async with page.expect_download() as saving:
        await kept.get_by_role("button", name="Save tiny.gguf").click()
    assert (await saving.value).suggested_filename == "tiny.gguf"
    await kept.get_by_role("button", name="Remove tiny.gguf").click()
    await expect(kept).to_be_hidden()


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        ("gated", "The hub asks who you are"),
        ("missing", "There is no such model"),
        ("rate_limited", "The server asks for patience"),
        ("server", "The server has a problem"),
        ("changed", "The model changed while it was read"),
        ("corrupt", "The model arrived damaged"),
        ("network", "The model could not be read"),
    ],
)
async def test_each_failure_says_what_to_do(chat: OpenPage, reason: str, title: str) -> None:
    fail: dict[str, Any] = {
        "code": "source_unavailable",
        "message": f"The server said {reason}.",
        "details": {"reason": reason},
    }
    page = await chat({"load": {"fail": fail}}, ready=False)
    card = page.get_by_role("alert").filter(has_text=title)
    await expect(card).to_contain_text(f"The server said {reason}.")
    await shot(page, f"store-{reason}")
