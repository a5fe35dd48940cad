"""Tilewright against transformers.js (q4, WebGPU), in one Chromium on its software adapter.

Models of the real shapes with random weights: ours as GGUF (``random_models.py``), theirs as ONNX
(``onnx_models.py``, made in a scratch environment outside of the repository). transformers.js comes
from npm into ``.build/rivals`` at the first run. Ours is tuned first. JSON lines with tokens per
second by the clock and processor seconds of all of Chromium, then the ratios of both.

Theirs takes minutes for what ours does in seconds. A measurement of it is given up once it has
taken ``--prefill-enough`` (``--decode-enough``) times as long as ours, and at least ``--least``
seconds: then its rate is a bound from above, the ratio one from below, and ``at_least`` names it.

    python3 build bench bench_transformers
    python tests/bench/bench_transformers.py [--models S M] [--prompts 128 512] [--tokens N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Playwright, async_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py_core"), str(ROOT / "tests/bench"), str(ROOT / "tests/browser")]

import random_models  # noqa: E402
from in_chromium import serving, visitor, without_policy  # noqa: E402

from tilewright.serve.http import create_app  # noqa: E402

FOLDER = ROOT / ".build" / "bench"
RIVALS = ROOT / ".build" / "rivals"
PACKAGE = "@huggingface/transformers@4.3.1"
SCRATCH = Path(tempfile.gettempdir()) / "tilewright-onnx"
TICKS = os.sysconf("SC_CLK_TCK")

COMMON = """
const ids = (count, salt) => Array.from({ length: count }, (_, i) => 300 + (i * 7919 + salt * 31) % 40000);
"""  # noqa: E501
OURS = (
    COMMON
    + """
globalThis.start = async ({ model, budget }) => {
  const { Tilewright } = await import(new URL("./tilewright.js", location.href).href);
  const options = { backend: "webgpu", context_length: 640, max_sequences: 1 };
  const engine = await Tilewright.load(`models/${model}.Q4_0.gguf`, options);
  if (budget) await engine.tune({ budget, share: 1 });
  let salt = 0;
  globalThis.run = async ([prompt, count]) => {
    const times = [performance.now()];
    const sampling = { temperature: 0, max_tokens: count, ignore_eos: true };
    for await (const part of engine.complete({ ids: ids(prompt, ++salt), sampling })) {
      for (const _ of part.tokens) times.push(performance.now());
    }
    return times;
  };
};
"""
)
THEIRS = (
    """import { AutoModelForCausalLM, BaseStreamer, Tensor, env } from "@huggingface/transformers";
"""
    + COMMON
    + """
globalThis.start = async ({ model }) => {
  const at = (path) => new URL(path, location.href).href;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.useBrowserCache = false;
  env.localModelPath = at("models/");
  env.backends.onnx.wasm.wasmPaths = { mjs: at("ort.mjs"), wasm: at("ort.wasm") };
  const engine = await AutoModelForCausalLM.from_pretrained(model, { dtype: "q4", device: "webgpu" });
  let salt = 0;
  globalThis.run = async ([prompt, count]) => {
    const times = [performance.now()];
    class Clock extends BaseStreamer {
      put() { times.push(performance.now()); console.log("token"); }
      end() {}
    }
    const made = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, prompt]);
    await engine.generate({
      input_ids: made(ids(prompt, ++salt)),
      attention_mask: made(new Array(prompt).fill(1)),
      max_new_tokens: count, do_sample: false, streamer: new Clock(),
    });
    times.splice(1, 1);  // the prompt itself
    return times;
  };
};
"""  # noqa: E501
)


def processor_seconds() -> float:
    """Return what all descendants of this process have used so far."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    own, total = os.getpid(), 0.0
    for process in parents:
        ancestor = process
        while ancestor in parents and ancestor != own:
            ancestor = parents[ancestor]
        if ancestor == own and process != own:
            total += used[process]
    return total


def install() -> None:
    """Fetch transformers.js with npm, and make the environment that writes ONNX files."""
    if not (RIVALS / "node_modules" / PACKAGE.rpartition("@")[0]).is_dir():
        RIVALS.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(RIVALS)]
        subprocess.run(["npm", "install", *options, PACKAGE], check=True, stdout=sys.stderr)
    if not (SCRATCH / "ready").exists():
        venv.create(SCRATCH, with_pip=True)
        python = SCRATCH / "bin" / "python"
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "onnx", "numpy"],
            check=True,
            stdout=sys.stderr,
        )
        (SCRATCH / "ready").touch()


def make_models(names: list[str]) -> None:
    """Write the models that are not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        shape = random_models.SHAPES[name]
        if not (FOLDER / f"{name}.Q4_0.gguf").is_file():
            random_models.make(FOLDER / f"{name}.Q4_0.gguf", shape, "Q4_0", "Q8_0")
        folder = SCRATCH / "models" / name
        if not (folder / "config.json").is_file():
            script = Path(__file__).with_name("onnx_models.py")
            command = [SCRATCH / "bin" / "python", script, folder, json.dumps(asdict(shape))]
            subprocess.run([str(word) for word in command], check=True)


def build_page(folder: Path) -> None:
    """Write the rival's page, bundled as a site would."""
    esbuild = ROOT / "web" / "node_modules" / ".bin" / "esbuild"
    entry = RIVALS / "transformers_bench.js"
    entry.write_text(THEIRS)
    unused = [f"--external:{module}" for module in ("url", "path", "fs", "node:*")]
    options = ["--bundle", "--minify", "--format=esm", "--log-level=error", *unused]
    command = [str(esbuild), str(entry), *options, f"--outfile={folder / 'page.js'}"]
    subprocess.run(command, check=True)
    (folder / "test.html").write_text(
        '<!doctype html><script type="module" src="page.js"></script>'
    )
    onnx = RIVALS / "node_modules" / "onnxruntime-web" / "dist"
    for suffix in ("mjs", "wasm"):
        shutil.copy(onnx / f"ort-wasm-simd-threaded.asyncify.{suffix}", folder / f"ort.{suffix}")


@dataclass(frozen=True)
class Found:
    """What was measured of one engine."""

    rates: dict[str, float]
    at_most: frozenset[str] = frozenset()
    """Names of the rates that are bounds: the engine was given up before it was done."""


class Tab:
    """A page with an engine in it, opened when it is needed and again after it was given up."""

    def __init__(self, playwright: Playwright, address: str, engine: str, options: Any) -> None:
        self._playwright = playwright
        self._address = address
        self._engine = engine
        self._options = options
        self._page: Page | None = None
        self._browser = AsyncExitStack()
        self._puts: list[float] = []
        """When theirs told of the prompt, and of each token."""

    async def open(self) -> Page:
        """Return the page, its engine loaded and warm."""
        if self._page is None:
            page = await self._browser.enter_async_context(visitor(self._playwright))
            page.on("pageerror", lambda error: print(f"# {error}", file=sys.stderr))
            page.on("console", lambda message: self._heard(message.text))
            await page.goto(f"{self._address}/test.html")
            if self._engine == "tilewright":
                await page.evaluate(f"() => {{ {OURS} }}")
            else:
                await page.wait_for_function("() => globalThis.start")
            await page.evaluate("(options) => globalThis.start(options)", self._options)
            await page.evaluate("(sizes) => globalThis.run(sizes)", [8, 2])  # compiles
            self._page = page
        return self._page

    def _heard(self, text: str) -> None:
        if text == "token":
            self._puts.append(time.perf_counter())

    async def close(self) -> None:
        """Close the browser, whatever it is doing."""
        self._page = None
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._browser.aclose(), 20)

    async def run(
        self, prompt: int, count: int, after: int, limit: float
    ) -> tuple[list[float], bool]:
        """Answer a prompt; return the times in seconds, from the start on, and whether it ended.

        It is given up, and the page closed, ``limit`` seconds after the time number ``after``.
        """
        page = await self.open()
        self._puts.clear()
        begun = time.perf_counter()
        answer = asyncio.ensure_future(
            page.evaluate("(sizes) => globalThis.run(sizes)", [prompt, count])
        )
        while True:
            done, _ = await asyncio.wait([answer], timeout=0.5)
            if done:
                return [at / 1000 for at in answer.result()], True
            times = [begun, *self._puts[1:]]  # the first is of the prompt itself
            now = time.perf_counter()
            if len(times) > after and now - times[after] > limit:
                answer.add_done_callback(lambda stopped: stopped.exception())
                await self.close()
                return [*times, now], False


def decode_rate(times: list[float]) -> float:
    """Return tokens per second after the first."""
    return (len(times) - 2) / (times[-1] - times[1])


async def measure_ours(tab: Tab, prompts: list[int], tokens: int) -> Found:
    """Decode, then answer each prompt, by the clock and by the processor."""
    endless = float("inf")
    times, _ = await tab.run(8, tokens + 1, 0, endless)
    rates = {"decode": decode_rate(times)}
    for number, prompt in enumerate(prompts):
        if not number:
            await tab.run(prompt, 1, 0, endless)  # compiles
        used = processor_seconds()
        times, _ = await tab.run(prompt, 1, 0, endless)
        rates[f"prefill_{prompt}"] = prompt / (times[1] - times[0])
        rates[f"prefill_{prompt}_per_cpu_s"] = prompt / (processor_seconds() - used)
    return Found(rates)


async def measure_theirs(
    tab: Tab, prompts: list[int], tokens: int, ours: Found, arguments: argparse.Namespace
) -> Found:
    """Do the same until it has taken long enough compared with ``ours``."""
    rates: dict[str, float] = {}
    bounds = set()

    def limit(name: str, count: int, enough: float) -> float:
        if name not in ours.rates:
            return float("inf")
        return max(enough * count / ours.rates[name], arguments.least)

    longest = limit("decode", 1, arguments.decode_enough)
    times, ended = await tab.run(8, tokens + 1, 1, longest)
    rates["decode"] = decode_rate(times)
    if not ended:
        bounds.add("decode")
    for prompt in prompts:
        name = f"prefill_{prompt}"
        await tab.open()
        used = processor_seconds()
        longest = limit(name, prompt, arguments.prefill_enough)
        times, ended = await tab.run(prompt, 1, 0, longest)
        rates[name] = prompt / (times[1] - times[0])
        if ended:
            rates[f"{name}_per_cpu_s"] = prompt / (processor_seconds() - used)
        else:
            bounds.add(name)
    return Found(rates, frozenset(bounds))


async def run_engine(
    engine: str, scratch: Path, model: str, ours: Found, arguments: argparse.Namespace
) -> Found:
    """Open an engine's page and measure it."""
    own = engine == "tilewright"
    site, models = (ROOT / "dist", FOLDER) if own else (scratch, SCRATCH / "models")
    app = without_policy(create_app(site, models))
    async with serving(app) as address, async_playwright() as playwright:
        tab = Tab(playwright, address, engine, {"model": model, "budget": arguments.budget})
        try:
            if own:
                found = await measure_ours(tab, arguments.prompts, 4 * arguments.tokens)
            else:
                given = arguments.prompts, arguments.tokens, ours, arguments
                found = await measure_theirs(tab, *given)
        finally:
            await tab.close()
    line = {"bench": "transformers", "engine": engine, "model": model}
    rounded = {key: round(value, 3) for key, value in found.rates.items()}
    print(json.dumps({**line, **rounded, "at_most": sorted(found.at_most)}), flush=True)
    return found


async def compare(arguments: argparse.Namespace) -> None:
    """Measure both engines on each model and print the ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        build_page(Path(scratch))
        for model in arguments.models:
            ours = Found({})
            for engine in arguments.engines:
                found = await run_engine(engine, Path(scratch), model, ours, arguments)
                if engine == "tilewright":
                    ours = found
                    continue
                ratios = {
                    key: round(ours.rates[key] / rate, 1)
                    for key, rate in found.rates.items()
                    if key in ours.rates
                }
                line = {"bench": "transformers_ratio", "model": model, **ratios}
                print(json.dumps({**line, "at_least": sorted(found.at_most)}), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["S", "M"], choices=sorted(random_models.SHAPES))
    add("--prompts", nargs="+", type=int, default=[128, 512])
    add("--tokens", type=int, default=4, help="decoded by theirs; ours decodes 4 times as many")
    add("--budget", type=float, default=25.0, help="seconds of tuning")
    add("--engines", nargs="+", default=["tilewright", "transformers.js"])
    add("--prefill-enough", type=float, default=3.2, help="times our time, then theirs is given up")
    add("--decode-enough", type=float, default=9.0)
    add("--least", type=float, default=40.0, help="seconds that theirs gets in any case")
    arguments = parser.parse_args()
    install()
    make_models(arguments.models)
    asyncio.run(compare(arguments))


if __name__ == "__main__":
    main()
