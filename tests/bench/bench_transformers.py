"""Tilewright against transformers.js (q4, WebGPU), in one Chromium on its software adapter.

Models of the real shapes with random weights: ours as GGUF (``random_models.py``), theirs as ONNX
(``onnx_models.py``, made in a scratch environment outside of the repository). transformers.js comes
from npm into ``.build/rivals`` at the first run. Ours is tuned first. JSON lines with tokens per
second by the clock and processor seconds of all of Chromium, then the ratios of both.

    python3 build bench bench_transformers
    python tests/bench/bench_transformers.py [--models S M] [--prompts 128 512] [--tokens N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict
from pathlib import Path

from playwright.async_api import Page, async_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py_core"), str(ROOT / "tests/bench"), str(ROOT / "tests/browser")]

import random_models  # noqa: E402
from in_chromium import serving, without_policy  # noqa: E402

from conftest import FLAGS, chromium  # noqa: E402
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
      put() { times.push(performance.now()); }
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


async def measure(page: Page, prompt: int, tokens: int) -> dict[str, float]:
    """Answer one prompt; return rates by the clock and by the processor."""
    begun = processor_seconds()
    times = await page.evaluate("(sizes) => globalThis.run(sizes)", [prompt, 1])
    first = processor_seconds()
    found = {
        f"prefill_{prompt}": 1000 * prompt / (times[1] - times[0]),
        f"prefill_{prompt}_per_cpu_s": prompt / (first - begun),
    }
    if tokens:
        begun = processor_seconds()
        times = await page.evaluate("(sizes) => globalThis.run(sizes)", [8, tokens + 1])
        found["decode"] = 1000 * (len(times) - 2) / (times[-1] - times[1])
        # the eight tokens of the prompt are in this, for both
        found["decode_per_cpu_s"] = (len(times) - 1) / (processor_seconds() - begun)
    return found


async def run_engine(
    engine: str, site: Path, models: Path, model: str, arguments: argparse.Namespace
) -> dict[str, float]:
    """Open an engine's page and measure it."""
    app = without_policy(create_app(site, models))
    found: dict[str, float] = {}
    async with serving(app) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = await browser.new_page()
        page.set_default_timeout(0)
        page.on("pageerror", lambda error: print(f"# {error}", file=sys.stderr))
        await page.goto(f"{address}/test.html")
        if engine == "tilewright":
            await page.evaluate(f"() => {{ {OURS} }}")
        else:
            await page.wait_for_function("() => globalThis.start")
        options = {"model": model, "budget": arguments.budget}
        await page.evaluate("(options) => globalThis.start(options)", options)
        await page.evaluate("(sizes) => globalThis.run(sizes)", [8, 2])  # compiles
        for number, prompt in enumerate(arguments.prompts):
            if engine == "tilewright":
                await page.evaluate("(sizes) => globalThis.run(sizes)", [prompt, 1])
            found |= await measure(page, prompt, 0 if number else arguments.tokens[engine])
            line = {"bench": "transformers", "engine": engine, "model": model}
            rounded = {key: round(value, 3) for key, value in found.items()}
            print(json.dumps({**line, **rounded}), flush=True)
        await browser.close()
    return found


async def compare(arguments: argparse.Namespace) -> None:
    """Measure both engines on each model and print the ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        build_page(Path(scratch))
        for model in arguments.models:
            sides = []
            for engine in arguments.engines:
                ours = engine == "tilewright"
                site = ROOT / "dist" if ours else Path(scratch)
                models = FOLDER if ours else SCRATCH / "models"
                sides.append(await run_engine(engine, site, models, model, arguments))
            if len(sides) == 2:
                ours_found, theirs_found = sides
                ratios = {
                    key: round(ours_found[key] / value, 1) for key, value in theirs_found.items()
                }
                print(json.dumps({"bench": "transformers_ratio", "model": model, **ratios}))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["S", "M"], choices=sorted(random_models.SHAPES))
    add("--prompts", nargs="+", type=int, default=[128, 512])
    add(
        "--tokens",
        type=int,
        default=4,
        help="decoded by transformers.js; ours decodes 4 times as many",
    )
    add("--budget", type=float, default=25.0, help="seconds of tuning")
    add("--engines", nargs="+", default=["tilewright", "transformers.js"])
    arguments = parser.parse_args()
    arguments.tokens = {
        "tilewright": 4 * arguments.tokens,
        "transformers.js": arguments.tokens,
    }
    install()
    make_models(arguments.models)
    asyncio.run(compare(arguments))


if __name__ == "__main__":
    main()
