"""The picker with models on the device, and what a visitor reads when one cannot be had."""

from __future__ import annotations

import json
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
        ("out_of_memory", "There is not enough memory"),
        ("bad_model_file", "This file is not a sound model"),
        ("unsupported_model", "This kind of model is not supported yet"),
        ("device_lost", "The graphics device was lost"),
        ("no_device", "There is no usable graphics device"),
    ],
)
async def test_each_failure_says_what_to_do(chat: OpenPage, reason: str, title: str) -> None:
    ours = "_" in reason and reason != "rate_limited"
    fail: dict[str, Any] = {
        "code": reason if ours else "source_unavailable",
        "message": f"The server said {reason}.",
        "details": {} if ours else {"reason": reason},
    }
    page = await chat({"load": {"fail": fail}}, ready=False)
    card = page.get_by_role("alert").filter(has_text=title)
    await expect(card).to_contain_text(f"The server said {reason}.")
    helpless = {"gated", "missing", "bad_model_file", "unsupported_model"}
    again = card.get_by_role("button", name="Try again")
    await expect(again).to_have_count(0 if reason in helpless else 1)
    await shot(page, f"store-{reason}")


FILES = [
    {"type": "file", "path": f"big-{name}.gguf", "size": size}
    for name, size in (("Q2_K", 1_600_000_000), ("Q4_K_M", 2_500_000_000), ("Q8_0", 4_300_000_000))
]
VALUE = {
    "name": "Big 4B",
    "architecture": "qwen3",
    "layers": 36,
    "vocabulary": 151936,
    "parameters": 4_000_000_000,
    "bytes": 4_300_000_000,
    "formats": ["Q8_0", "F32"],
    "trained_context": 40960,
    "has_chat_template": True,
}
FIT = {
    "context_length": 4096,
    "kv": "f16",
    "cache_tokens": 8192,
    "weights": 4_300_000_000,
    "cache": 1_200_000_000,
    "activations": 90_000_000,
    "staging": 16_000_000,
    "total": 5_590_000_000,
    "fits": False,
    "largest_context": 0,
    "largest_weights": 2_700_000_000,
    "message": "With a context of 4096 positions this model needs 5590 MB on the device, of which "
    "4300 MB are weights, and 4295 MB are there: choose the quantization Q4_K_M (2500 MB) or "
    "this memory budget, with 1900 MB read for every step (slow).",
    "streamed_layers": 17,
    "streamed_bytes": 1_900_000_000,
    "expert_rooms": 0,
}
MEMORY = "Object.defineProperty(Navigator.prototype, 'deviceMemory', { get: () => 8 })"


async def look(chat: OpenPage, plan: dict[str, Any], reference: str) -> Any:
    """Open the picker and ask whether a model of a repository fits."""
    page = await chat({"inspect": plan})
    await page.context.add_init_script(MEMORY)
    await page.context.route(
        "https://huggingface.co/api/models/**",
        lambda route: route.fulfill(
            headers={"Access-Control-Allow-Origin": "*", "Content-Type": "application/json"},
            body=json.dumps(FILES),
        ),
    )
    await page.reload()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    await page.get_by_role("button", name="Model:").click()
    await page.get_by_label("From the Hub, or any address").fill(reference)
    await page.get_by_role("button", name="Does it fit?").click()
    return page


async def test_the_picker_shows_what_can_be_chosen(chat: OpenPage) -> None:
    page = await chat()
    await page.get_by_role("button", name="Model:").click()
    picker = page.get_by_role("dialog", name="Model")
    await expect(picker.locator("#picker-curated li").first).to_be_visible()
    assert await picker.locator("#picker-curated li").count() >= 3
    await shot(page, "picker")
    await picker.get_by_label("From the Hub, or any address").fill("no reference")
    await picker.get_by_role("button", name="Does it fit?").click()
    await expect(picker.locator("#picker-error")).to_contain_text("neither a Hub reference")
    await shot(page, "picker-wrong-reference")


async def test_a_model_too_large_comes_with_ways_out(chat: OpenPage) -> None:
    plan = {"value": VALUE, "fit": FIT}
    page = await look(chat, plan, "hf:org/big:Q8_0")
    told = page.locator("#picker-fit")
    await expect(told).to_contain_text("It is unlikely to fit this device")
    smaller = told.get_by_role("button", name="Load Q4_K_M (2.50 GB)")
    await expect(smaller).to_be_visible()
    slowly = told.get_by_role("button", name="Load it slowly: read 1.90 GB for every token")
    await expect(slowly).to_be_visible()
    await told.scroll_into_view_if_needed()
    await shot(page, "picker-too-large")
    await smaller.click()
    await page.wait_for_selector("html[data-model=ready]", state="attached")
    await expect(page.locator("#model-name")).to_have_text("big-Q4_K_M")


async def test_of_a_mixture_of_experts_few_bytes_are_read(chat: OpenPage) -> None:
    fit = {**FIT, "streamed_bytes": 400_000_000, "expert_rooms": 700}
    page = await look(chat, {"value": VALUE, "fit": fit}, "hf:org/big:Q8_0")
    offer = "Load it slowly: read up to 400 MB for every token"
    await expect(page.get_by_role("button", name=offer)).to_be_visible()


async def test_a_shorter_context_is_offered(chat: OpenPage) -> None:
    fit = {**FIT, "largest_context": 1024, "streamed_layers": 0, "streamed_bytes": 0}
    page = await look(chat, {"value": VALUE, "fit": fit}, "hf:org/big:Q8_0")
    offer = page.get_by_role("button", name="Load with 1,024 tokens of context")
    await expect(offer).to_be_visible()
    await expect(page.get_by_role("button", name="Load it slowly")).to_have_count(0)


async def test_a_model_that_fits(chat: OpenPage) -> None:
    fit = {**FIT, "fits": True, "message": None, "streamed_layers": 0, "total": 3_000_000_000}
    page = await look(chat, {"value": VALUE, "fit": fit}, "hf:org/big")
    await expect(page.locator("#picker-fit")).to_contain_text("It fits this device")
    await page.locator("#picker-fit").scroll_into_view_if_needed()
    await shot(page, "picker-fits")


async def test_a_gated_model_is_told_where_it_was_asked_for(chat: OpenPage) -> None:
    fail = {
        "code": "source_unavailable",
        "message": "The hub wants an access token.",
        "details": {"reason": "gated"},
    }
    page = await look(chat, {"fail": fail}, "hf:org/big")
    card = page.locator("#picker-fit").get_by_role("alert")
    await expect(card).to_contain_text("The hub asks who you are")
    await card.scroll_into_view_if_needed()
    await shot(page, "picker-gated")
