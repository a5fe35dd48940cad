"""The benchmark and kernel pages: with a scripted engine, and the kernels once on the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect
from scripted_page import OpenPage, chat, shot

from conftest import Watched

__all__ = ["chat"]

SEVERAL = (
    *("matvec Q4_K", "matmul Q8_0", "RMS norm", "RoPE, halves", "sampling, greedy"),
    *("matvec int8 Q4_0", "matmul int8 Q4_K", "matmul split over columns"),
)


async def finished(page: Page, timeout: float = 60_000) -> None:
    button = page.locator("#run")
    await expect(button).to_have_text("Run again", timeout=timeout)


async def test_benchmark_shows_numbers_a_plot_and_json(chat: OpenPage) -> None:
    page = await chat(path="bench.html", ready=False)
    await page.get_by_role("button", name="Run").click()
    await finished(page)
    line = json.loads(await page.locator("#json").inner_text())
    assert line["bench"] == "model"
    assert line["decode_tokens"] == 64
    for key in ("prefill_128_tokens_per_s", "prefill_512_tokens_per_s", "decode_tokens_per_s"):
        assert line[key] > 0
    assert [context for context, _ in line["decode_over_context"]] == [16, 64, 256, 512, 1024]
    assert line["start_bytes_brotli"] > 1e6
    await expect(page.get_by_role("img", name="Decode speed")).to_be_visible()
    assert await page.locator("#plot .plot-dot").count() == 5
    roofline = page.get_by_role("img", name="Roofline: 3 kernels under 10GB/s and 40GFLOP/s")
    await expect(roofline).to_be_visible()
    assert await page.locator("#roofline .plot-dot.plot-prefill").count() == 1
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy").click()
    assert json.loads(await page.evaluate("() => navigator.clipboard.readText()")) == line
    await shot(page, "bench")


async def test_benchmark_can_be_stopped_and_tells_errors(chat: OpenPage) -> None:
    page = await chat({"tokenMs": 30}, path="bench.html", ready=False)
    await page.get_by_role("button", name="Run").click()
    await expect(page.locator("#state")).to_contain_text("Generating")
    await page.get_by_role("button", name="Stop").click()
    await finished(page)
    await expect(page.locator("#state")).to_have_text("Stopped")
    failure = {"code": "no_device", "message": "There is no GPU adapter."}
    page = await chat({"load": {"fail": failure}}, path="bench.html", ready=False)
    await page.get_by_role("button", name="Run").click()
    await expect(page.get_by_role("alert")).to_contain_text("no_device")


@pytest.mark.webgpu
async def test_kernel_page_says_which_pass(chat: OpenPage) -> None:
    page = await chat({"failingKernel": "matvec Q4_K"}, path="kernels.html", ready=False)
    await page.get_by_role("button", name="Run").click()
    await finished(page)
    await expect(page.locator("#state")).to_contain_text("1 of 89 kernels do not pass")
    await expect(page.locator("#rows tr").first).to_contain_text("matvec Q4_K")
    await expect(page.locator("#rows tr").first).to_contain_text("fail")
    assert await page.locator(".case-tile.pass").count() == 88
    report = json.loads(await page.locator("#json").inner_text())
    assert [entry["name"] for entry in report["failed"]] == ["matvec Q4_K"]
    await shot(page, "kernels")


async def test_pages_fit_a_phone(chat: OpenPage, backend: str) -> None:
    for path in ("bench.html", "kernels.html") if backend == "webgpu" else ("bench.html",):
        page = await chat(path=path, ready=False, viewport={"width": 320, "height": 640})
        await page.get_by_role("button", name="Run").click()
        await finished(page)
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 320
        await shot(page, f"phone_320_{Path(path).stem}")


@pytest.mark.webgpu
async def test_kernels_pass_on_the_real_engine(watched: Watched, server: str, site: Path) -> None:
    every: list[dict[str, Any]] = json.loads((site / "kernel_cases.json").read_text())["cases"]
    chosen = [entry for entry in every if entry["name"] in SEVERAL]
    assert len(chosen) == len(SEVERAL)

    async def fewer(route: Route) -> None:
        await route.fulfill(json={"format": 1, "cases": chosen})

    await watched.page.route("**/kernel_cases.json", fewer)
    await watched.page.goto(f"{server}/kernels.html")
    await watched.page.get_by_role("button", name="Run").click()
    await finished(watched.page, 120_000)
    await expect(watched.page.locator("#state")).to_have_text(
        f"All {len(SEVERAL)} kernels pass on this device."
    )
    assert watched.complaints == []
