"""What tuning is worth: naive, llama.cpp's constants, our default and tuned, in one run.

Prints JSON lines, then a table. Natively on the adapter at hand (on CPU adapters the processor time
of this process is what counts: the driver's threads are in it) and in headless Chromium on its
software adapter (wall clock), there also against transformers.js (minutes for what takes us
seconds: ``--parts`` may leave it out). Nothing passes or fails here. Missing models are made.
Run: ``python3 build bench --tuning [--where native|chromium] [--models S.Q4_0 M.Q4_K ...]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py_core"), str(ROOT / "tests" / "bench")]

import random_models  # noqa: E402
import tuning_measures  # noqa: E402

FOLDER = ROOT / ".build" / "bench"
MODELS = ("S.Q4_0", "S.Q4_K", "M.Q4_0", "M.Q4_K")
PARTS = ("compare", "exhaustive", "loss", "visit", "transformers")
IN_PAGE = """
import json
from tilewright.webgpu import bridge
bridge.install()
from tilewright_sources import UrlSource
source = bridge.BrowserSource(await UrlSource.open(str(data["url"])))
await everything(source, str(data["name"]), budget=float(data["budget"]),
                 parts=list(data["parts"]), steps=list(data["steps"]),
                 without=list(data["without"]), limit=float(data["limit"]),
                 tell=lambda line: print(json.dumps(line)))
"""


async def natively(name: str, arguments: argparse.Namespace, lines: list[dict[str, Any]]) -> None:
    """Measure through wgpu-native."""

    def tell(line: dict[str, Any]) -> None:
        lines.append({**line, "place": "native"})
        print(json.dumps(lines[-1]), flush=True)

    clock = time.perf_counter if arguments.gpu else time.process_time
    await tuning_measures.everything(
        str(FOLDER / f"{name}.gguf"),
        name,
        budget=arguments.budget,
        parts=arguments.parts,
        steps=arguments.steps,
        without=arguments.without,
        limit=arguments.limit,
        clock=clock,
        tell=tell,
    )


async def in_chromium(
    name: str, arguments: argparse.Namespace, lines: list[dict[str, Any]]
) -> None:
    """Measure in a page, through the runtime folder in ``dist/``."""
    from in_chromium import open_page

    def heard(text: str) -> None:
        if not text.startswith('{"bench"'):
            print(f"# {text}", file=sys.stderr, flush=True)
        else:
            lines.append({**json.loads(text), "place": "chromium"})
            print(json.dumps(lines[-1]), flush=True)

    code = Path(tuning_measures.__file__).read_text() + IN_PAGE
    async with open_page(FOLDER) as (page, address):
        data = {
            "url": f"{address}/models/{name}.gguf",
            "name": name,
            "budget": arguments.budget,
            "parts": arguments.parts,
            "steps": arguments.steps,
            "without": arguments.without,
            "limit": arguments.limit,
        }
        page.on("console", lambda message: heard(message.text))
        await page.evaluate(
            """async ([code, data]) => {
              const worker = new PythonWorker();
              await worker.ready;
              return worker.run(code, data);
            }""",
            [code, data],
        )


async def against_transformers(names: list[str], lines: list[dict[str, Any]]) -> None:
    """Compare the shapes with transformers.js, by the bench of its own."""
    shapes = list(dict.fromkeys(name.split(".")[0] for name in names))
    script = str(Path(__file__).with_name("bench_transformers.py"))
    bench = await asyncio.create_subprocess_exec(
        sys.executable, script, "--models", *shapes, stdout=asyncio.subprocess.PIPE
    )
    assert bench.stdout is not None
    async for text in bench.stdout:
        print(text.decode().rstrip(), flush=True)
        if text.startswith(b"{"):
            lines.append({**json.loads(text), "place": "chromium"})
    if await bench.wait():
        raise SystemExit("bench_transformers failed: what it said stands above.")


def table(lines: list[dict[str, Any]]) -> str:
    """Return the comparison as a table: how many times as fast the tuned choice is."""
    text = ["", "| where | model | step | to naive | to constants | to default | tuned |"]
    text.append("|---|---|---|---:|---:|---:|---:|")
    for line in lines:
        if line["bench"] != "tuning":
            continue
        rate = line["tokens"] / line["seconds"]["tuned"]
        found = [line.get(f"tuned_to_{name}") for name in ("naive", "constants")]
        ratios = " | ".join(f"{ratio:.1f}×" if ratio else "" for ratio in found)
        text.append(
            f"| {line['place']} | {line['model']} | {line['step']} | {ratios} | "
            f"{line['tuned_to_default']:.2f}× | {rate:.1f} tokens/s |"
        )
    for line in lines:
        where = f"{line['place']} {line['model']}"
        if line["bench"] == "tuning_time":
            text.append(f"{where}: tuned in {line['wall_s']} s")
        if line["bench"] == "tuning_exhaustive":
            text.append(
                f"{where} {line['step']}: {line['share_of_best']:.1%} of an exhaustive search over "
                f"the {line['searched']} largest kernels"
            )
        if line["bench"] == "tuning_decode_loss":
            text.append(
                f"{where}: a running decode loses {line['loss']:.1%} by the clock on the wall, "
                f"{line['loss_by_clock']:.1%} by the clock of this bench"
            )
        if line["bench"] == "transformers_ratio":
            found = {key: value for key, value in line.items() if isinstance(value, float)}
            least = [f"{'at least ' * (k in line['at_least'])}{v} in {k}" for k, v in found.items()]
            text.append(f"{where} Q4_0, times as fast as transformers.js: {', '.join(least)}")
    return "\n".join(text)


async def run(arguments: argparse.Namespace) -> None:
    """Measure everything that is asked for."""
    lines: list[dict[str, Any]] = []
    for name in arguments.models:
        shape, matrix = name.split(".")
        path = FOLDER / f"{name}.gguf"
        if not path.is_file():
            FOLDER.mkdir(parents=True, exist_ok=True)
            random_models.make(path, random_models.SHAPES[shape], matrix, "Q8_0")
        if "native" in arguments.where:
            await natively(name, arguments, lines)
        if "chromium" in arguments.where:
            await in_chromium(name, arguments, lines)
    if "transformers" in arguments.parts and "chromium" in arguments.where:
        await against_transformers(arguments.models, lines)
    print(table(lines))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=list(MODELS), metavar="SHAPE.FORMAT")
    add("--where", nargs="+", default=["native", "chromium"], choices=["native", "chromium"])
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    add("--steps", nargs="+", default=["decode", "prefill"], choices=["decode", "prefill"])
    add("--without", nargs="+", default=[], help="choices that take too long on this device")
    add("--budget", type=float, default=25.0)
    add("--limit", type=float, default=60.0, help="seconds of each slow part; see tuning_measures")
    add("--gpu", action="store_true", help="a real GPU: natively the wall clock counts")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
