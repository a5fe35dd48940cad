"""Prints for every reference model whether the browser gives what the native engine gives.

Decoders: the greedy ids are those of the reference. Encoders: the pooled vector is the native
engine's within ``EMBEDDING``. ``python3 build check`` runs it after the native table. Exits with 1
when a model differs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Browser, async_playwright
from test_engine import EMBED, GREEDY

from conftest import DIST, FLAGS, ROOT, chromium
from tilewright.engine.sampling import SamplingParams
from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.serve.http import create_app
from tilewright.webgpu.device import Device

MODELS = ROOT.parent / "shared" / "oracle" / "models_and_logits"
EMBEDDING = 1e-4
"""Absolute: the same f32 arithmetic on two software GPUs, whose exp and rsqrt differ."""


async def main(chosen: list[str]) -> int:
    """Check the models whose names contain one of ``chosen`` (all when empty)."""
    if not (MODELS / "manifest.json").is_file():
        print("the reference data ../shared/oracle is not on this machine: nothing compared")
        return 0
    entries = json.loads((MODELS / "manifest.json").read_text())
    listed = entries["models"] if isinstance(entries, dict) else entries
    listed = [e for e in listed if not chosen or any(c in e["file"] for c in chosen)]
    config = uvicorn.Config(
        create_app(DIST, MODELS / "models"), host="127.0.0.1", port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    device = await Device.open()
    print(f"{'model':24} {'reference':>12} {'native':>12} {'browser':>12} {'seconds':>8}")
    good = 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for entry in listed:
            try:
                good += await check(browser, address, device, entry)
            except Exception as error:  # the others are still worth knowing
                print(f"{Path(entry['file']).name:24} {str(error).splitlines()[0]}")
        await browser.close()
    server.should_exit = True
    await serving
    print(f"{good} of {len(listed)} models give the same in the browser as natively.")
    return 0 if good == len(listed) else 1


async def check(browser: Browser, address: str, device: Device, entry: dict[str, Any]) -> bool:
    """Compare one model and print its line; say whether all agree."""
    name, exact = Path(entry["file"]).name, entry["exact"]
    decodes = "greedy_ids" in exact
    given = exact["greedy_prompt_ids"] if decodes else entry["token_ids"]
    options = LoadOptions(context_length=256, kv="f32", max_sequences=2) if decodes else None
    model = await ChatModel.load(MODELS / entry["file"], options=options, device=device)
    try:
        if decodes:
            sampling = SamplingParams(temperature=0, max_tokens=32, ignore_eos=True)
            native: list[Any] = [t.id async for t in model.engine.generate(given, sampling)]
        else:
            native = (await model.embed([given])).vectors[0]
    finally:
        await model.close()
    page = await browser.new_page()
    await page.goto(f"{address}/test.html")
    begun = time.perf_counter()
    found = await page.evaluate(
        GREEDY if decodes else EMBED, [f"{address}/models/{name}", given, "webgpu"]
    )
    seconds = time.perf_counter() - begun
    await page.close()
    made = found["made"]
    if decodes:
        wanted = exact["greedy_ids"]
        told = [
            f"{len(wanted)} ids",
            f"{common(native, wanted)} same",
            f"{common(made, wanted)} same",
        ]
        same = made == native == wanted
    else:
        apart = max(abs(a - b) for a, b in zip(made, native, strict=True))
        told = ["vector", f"{len(native)} wide", f"{apart:.1e} off"]
        same = apart <= EMBEDDING
    columns = " ".join(f"{text:>12}" for text in told)
    print(f"{name:24} {columns} {seconds:8.1f}{'' if same else '  DIFFERS'}", flush=True)
    return same


def common(made: list[int], wanted: list[int]) -> int:
    """Return how many ids agree before the first difference."""
    pairs = enumerate(zip(made, wanted, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(made), len(wanted)))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
