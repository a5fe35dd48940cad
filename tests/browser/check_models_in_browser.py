"""Prints for every reference decoder whether the browser gives the reference's greedy ids.

``python3 build check`` runs it after the native table. Exits with 1 when a model differs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvicorn
from playwright.async_api import async_playwright
from test_engine import GREEDY

from conftest import DIST, FLAGS, ROOT, chromium
from tilewright.serve.http import create_app

MODELS = ROOT.parent / "shared" / "oracle" / "models_and_logits"


async def main(chosen: list[str]) -> int:
    """Check the models whose names contain one of ``chosen`` (all when empty)."""
    entries = json.loads((MODELS / "manifest.json").read_text())
    listed = entries["models"] if isinstance(entries, dict) else entries
    config = uvicorn.Config(
        create_app(DIST, MODELS / "models"), host="127.0.0.1", port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    wrong = checked = 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for entry in listed:
            name = Path(entry["file"]).name
            exact = entry["exact"]
            if "greedy_ids" not in exact or (chosen and not any(c in name for c in chosen)):
                continue
            page = await browser.new_page()
            await page.goto(f"{address}/test.html")
            begun = time.perf_counter()
            asked = [f"{address}/models/{name}", exact["greedy_prompt_ids"]]
            try:
                made = (await page.evaluate(GREEDY, asked))["made"]
                told = ""
            except Exception as error:
                made, told = [], str(error).splitlines()[0]
            pairs = zip(made, exact["greedy_ids"], strict=False)
            same = next((at for at, (a, b) in enumerate(pairs) if a != b), len(made))
            if same < len(exact["greedy_ids"]):
                wrong += 1
                told = told or f"margin there {exact['greedy_margins'][same]:.4f}"
            checked += 1
            seconds = time.perf_counter() - begun
            print(f"{name:28} {same:2} of {len(exact['greedy_ids'])} ids {seconds:5.1f} s {told}")
            await page.close()
        await browser.close()
    server.should_exit = True
    await serving
    print(f"{checked - wrong} of {checked} models give the reference's ids in the browser.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
