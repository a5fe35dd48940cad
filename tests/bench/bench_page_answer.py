"""Time from navigation to the first token of an answer by the bundled model, on each backend.

Warm: a later visit with the profile of an earlier one, from the memory snapshot, the question asked
at once. Milliseconds, the median of several visits, and where they went. Folders given as arguments
are measured as further sites, in turns with ``dist/``, so that versions can be compared in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from in_chromium import serving
from playwright.async_api import Page, async_playwright

from tilewright.serve.http import create_app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from conftest import FLAGS, SNAPSHOT_KEPT, chromium  # noqa: E402

WARM = 5
BACKENDS = ("auto", "webgpu", "wasm")
ANSWER = """async (backend) => {
  const at = {};
  const note = (what) => { at[what] ??= performance.now(); };
  const { Tilewright } = await import("./tilewright.js");
  const options = backend === "auto" ? {} : { backend };
  const onProgress = ({ phase }) => note(phase === "runtime" ? "page" : "runtime");
  const engine = await Tilewright.load("./models/tilewright-tiny.gguf", { ...options, onProgress });
  note("loaded");
  const messages = [{ role: "user", content: "Tell me a story about a fox." }];
  const stream = await engine.chat.completions.create({ messages, stream: true, max_tokens: 4 });
  for await (const part of stream) if (part.choices[0]?.delta.content) note("first token");
  note("done");
  await SNAPSHOT_KEPT();
  const { backend: used } = engine.info;
  await engine.unload();
  return { at, backend: used };
}""".replace("SNAPSHOT_KEPT", SNAPSHOT_KEPT)


async def visit(page: Page, address: str, backend: str) -> dict[str, Any]:
    """Return the times of one visit."""
    await page.goto(f"{address}/test.html")
    found: dict[str, Any] = await asyncio.wait_for(page.evaluate(ANSWER, backend), 60)
    return found


async def main(sites: list[Path], backends: list[str]) -> None:
    """Measure all sites and backends in turns."""
    async with AsyncExitStack() as stack, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        pages: list[tuple[Path, str, Page]] = []
        for site in sites:
            address = await stack.enter_async_context(serving(create_app(site)))
            context = await browser.new_context()
            pages.append((site, address, await context.new_page()))
        times: dict[tuple[Path, str], list[dict[str, Any]]] = {}
        for turn in range(1 + WARM):
            for site, address, page in pages:
                for backend in backends:
                    try:
                        found = await visit(page, address, backend)
                    except Exception as error:  # an older site may not know a backend
                        print(f"{site.name} {backend}: {str(error)[:200]}", file=sys.stderr)
                        continue
                    stages = {stage: round(ms) for stage, ms in found["at"].items()}
                    print(site.name, backend, found["backend"], stages, file=sys.stderr)
                    if turn or backend != backends[0]:
                        times.setdefault((site, backend), []).append(found)
                    else:
                        tell(site, "cold visit", backend, [found])
        for (site, backend), visits in times.items():
            tell(site, "warm visit", backend, visits)
        await browser.close()


def tell(site: Path, what: str, backend: str, visits: list[dict[str, Any]]) -> None:
    """Print the medians of one kind of visit."""
    stages = {stage: round(median(v["at"][stage] for v in visits)) for stage in visits[0]["at"]}
    used = visits[0]["backend"]
    line = {"bench": f"first token, {what}, ms", "site": site.name, "backend": backend}
    print(json.dumps({**line, "used": used, "visits": len(visits), **stages}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sites", nargs="*", type=Path, help="further sites")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    given = parser.parse_args()
    asyncio.run(main([ROOT / "dist", *given.sites], given.backends.split(",")))
