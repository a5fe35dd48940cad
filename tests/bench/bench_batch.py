"""Four concurrent chats of 64 tokens against one, warm: JSON lines with the ratio of their times.

Usage: ``python tests/bench/bench_batch.py [--browser] [--backend wasm] MODEL.gguf...``
(default: the bundled model and the S shape in Q4_0). The rounds of one and of four alternate; the
ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]
Backend = Literal["webgpu", "wasm"]
ROUNDS, TOKENS = 5, 64
IN_PAGE = """async ([url, rounds, tokens, backend]) => {
  const { Tilewright } = await import("./tilewright.js");
  const engine = await Tilewright.load(url, { context_length: 512, backend: backend || undefined });
  const chat = async (seed) => {
    const sampling = { max_tokens: tokens, ignore_eos: true, seed };
    for await (const part of engine.complete({ ids: [seed + 1, 5, 6, 7], sampling })) part;
  };
  const timed = async (count) => {
    const begun = performance.now();
    await Promise.all(Array.from({ length: count }, (_, seed) => chat(seed)));
    return (performance.now() - begun) / 1000;
  };
  await timed(1);
  await timed(4);
  const times = { one: [], four: [] };
  for (let i = 0; i < rounds; i++) {
    times.one.push(await timed(1));
    times.four.push(await timed(4));
  }
  await engine.unload();
  return times;
}"""


async def native(path: Path, backend: Backend | None, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one chat and of four at once, natively."""
    from tilewright.engine.sampling import SamplingParams
    from tilewright.serve.chat import ChatModel, LoadOptions

    options = LoadOptions(context_length=512, backend=backend)
    model = await ChatModel.load(str(path), options=options)

    async def chat(seed: int) -> None:
        sampling = SamplingParams(max_tokens=TOKENS, ignore_eos=True, seed=seed)
        async for _ in model.complete([seed + 1, 5, 6, 7], sampling):
            pass

    async def timed(count: int) -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(chat(seed) for seed in range(count)))
        return time.perf_counter() - begun

    await timed(1)
    await timed(4)
    times: dict[str, list[float]] = {"one": [], "four": []}
    for _ in range(rounds):
        times["one"].append(await timed(1))
        times["four"].append(await timed(4))
    await model.close()
    return times


async def in_browser(path: Path, backend: Backend | None, rounds: int) -> dict[str, list[float]]:
    """Return the same of the page."""
    from tests.bench.in_chromium import open_page

    async with open_page(path.parent) as (page, base):
        asked = [f"{base}/models/{path.name}", rounds, TOKENS, backend or ""]
        times: dict[str, list[float]] = await page.evaluate(IN_PAGE, asked)
        return times


async def main() -> None:
    """Measure each model and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--backend", choices=("webgpu", "wasm"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("models", nargs="*", type=Path)
    given = parser.parse_args()
    models: list[Path] = given.models
    if not models:
        from tests.bench.random_models import make_all

        small = next(p for p in make_all(ROOT / ".build" / "bench", ("S",)) if "Q4_0" in p.name)
        models = [ROOT / "dist" / "models" / "tilewright-tiny.gguf", small]
    for path in models:
        times = await (in_browser if given.browser else native)(path, given.backend, given.rounds)
        one, four = statistics.median(times["one"]), statistics.median(times["four"])
        line: dict[str, Any] = {
            "bench": "batch",
            "where": "browser" if given.browser else "native",
            "backend": given.backend or "chosen",
            "model": path.name,
            "one_s": round(one, 3),
            "four_s": round(four, 3),
            "ratio": round(four / one, 2),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
