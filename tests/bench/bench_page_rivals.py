"""Time from navigation to a ready engine: Tilewright and three other browser engines, in one run.

Each ends where its engine object can be asked: Tilewright and wllama with a model of 0.8 MB loaded,
transformers.js with ONNX Runtime's WebGPU session over a one-node graph (it has no model that
small), WebLLM with its module evaluated and an engine made (its models need the network). The
rivals come from npm into ``.build/rivals`` at the first run. JSON lines; cold is an empty profile,
warm the same profile's later visits; the least of several runs.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from in_chromium import serving, without_policy
from playwright.async_api import Playwright, async_playwright

from tilewright.serve.http import create_app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from conftest import FLAGS, SNAPSHOT_KEPT, chromium  # noqa: E402

RIVALS = ROOT / ".build" / "rivals"
MODULES = RIVALS / "node_modules"
PACKAGES = ("@wllama/wllama@2.3.1", "@huggingface/transformers@4.3.1", "@mlc-ai/web-llm@0.2.86")
MODEL = ROOT.parent / "shared" / "oracle" / "models_and_logits" / "models" / "llama.Q4_0.gguf"
VISIT_SECONDS = 60
COLD, WARM = 2, 3
"""Profiles, and visits after the first in each."""

TILEWRIGHT = """async () => {
  const { Tilewright } = await import("./tilewright.js");
  globalThis.engine = await Tilewright.load("./models/llama.Q4_0.gguf", { context_length: 256 });
  const ready = performance.now();
  const sampling = { max_tokens: 1, ignore_eos: true };
  for await (const _ of engine.complete({ ids: [3, 4], sampling })) {}
  await SNAPSHOT_KEPT();
  await engine.unload();
  return ready;
}""".replace("SNAPSHOT_KEPT", SNAPSHOT_KEPT)
RIVAL = "async () => { await globalThis.start(); return performance.now(); }"
SCRIPTS = {
    "wllama": """
import { Wllama } from "@wllama/wllama/esm/index.js";
globalThis.start = async () => {
  const at = (path) => new URL(path, location.href).href;
  const engine = new Wllama({
    "single-thread/wllama.wasm": at("single.wasm"), "multi-thread/wllama.wasm": at("multi.wasm"),
  });
  await engine.loadModelFromUrl(at("models/llama.Q4_0.gguf"), { n_ctx: 256 });
};""",
    "transformers.js": """
import { env } from "@huggingface/transformers";
import { InferenceSession } from "onnxruntime-web/webgpu";
globalThis.start = async () => {
  const at = (path) => new URL(path, location.href).href;
  env.backends.onnx.wasm.wasmPaths = { mjs: at("ort.mjs"), wasm: at("ort.wasm") };
  const graph = new Uint8Array(await (await fetch("identity.onnx")).arrayBuffer());
  await InferenceSession.create(graph, { executionProviders: ["webgpu"] });
};""",
    "WebLLM": """
import { MLCEngine } from "@mlc-ai/web-llm";
globalThis.start = async () => { globalThis.engine = new MLCEngine(); };""",
}
ENDS = {
    "tilewright": "a GGUF of 0.8 MB loaded",
    "wllama": "the same GGUF loaded",
    "transformers.js": "WebGPU session of a one-node graph made",
    "WebLLM": "module evaluated, engine object made, no model",
}
IDENTITY = bytes.fromhex(
    # An ONNX model (protobuf, IR version 8, opset 17): y = Identity(x), f32[1].
    "08083a370a100a0178120179"
    "22084964656e74697479120167"
    "5a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a020801"
    "42021011"
)


def install() -> None:
    """Fetch the rivals with npm unless they are here."""
    RIVALS.mkdir(parents=True, exist_ok=True)
    if not all((MODULES / name.rpartition("@")[0]).is_dir() for name in PACKAGES):
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(RIVALS)]
        subprocess.run(["npm", "install", *options, *PACKAGES], check=True, stdout=sys.stderr)


def build(folder: Path) -> None:
    """Write one page per rival, bundled as a site would."""
    esbuild = ROOT / "web" / "node_modules" / ".bin" / "esbuild"
    for name, script in SCRIPTS.items():
        entry = RIVALS / f"{name}.js"
        entry.write_text(script)
        options = ["--bundle", "--minify", "--format=esm", "--log-level=error", "--external:node:*"]
        unused = [f"--external:{module}" for module in ("url", "path", "fs", "perf_hooks", "ws")]
        target = f"--outfile={folder / name}.js"
        subprocess.run([str(esbuild), str(entry), *options, *unused, target], check=True)
        page = f'<!doctype html><script type="module" src="{name}.js"></script>'
        (folder / f"{name}.html").write_text(page)
    wllama, onnx = MODULES / "@wllama/wllama/esm", MODULES / "onnxruntime-web/dist"
    shutil.copy(wllama / "single-thread/wllama.wasm", folder / "single.wasm")
    shutil.copy(wllama / "multi-thread/wllama.wasm", folder / "multi.wasm")
    for suffix in ("mjs", "wasm"):
        shutil.copy(onnx / f"ort-wasm-simd-threaded.asyncify.{suffix}", folder / f"ort.{suffix}")
    (folder / "identity.onnx").write_bytes(IDENTITY)


async def visits(
    playwright: Playwright, address: str, script: str
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of first and of later visits of a visitor with a profile on disk."""
    cold, warm = [], []
    for _ in range(COLD):
        profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        launch = playwright.chromium.launch_persistent_context
        context = await launch(profile.name, executable_path=chromium(), args=FLAGS)
        for visit in range(1 + WARM):
            page = await context.new_page()
            await page.goto(address)
            await page.wait_for_load_state()
            found = await asyncio.wait_for(page.evaluate(script), VISIT_SECONDS)
            (warm if visit else cold).append(found)
            await page.close()
        await context.close()
        profile.cleanup()
    return cold, warm


async def measure(folder: Path) -> None:
    """Serve both sites and print a line for each engine."""
    build(folder)
    best: dict[str, tuple[float, float]] = {}
    async with AsyncExitStack() as stack, async_playwright() as playwright:
        for site, names in ((ROOT / "dist", ["tilewright"]), (folder, list(SCRIPTS))):
            app = without_policy(create_app(site, MODEL.parent))
            address = await stack.enter_async_context(serving(app))
            for name in names:
                ours = name == "tilewright"
                page = f"{address}/{'test' if ours else name}.html"
                try:
                    cold, warm = await visits(playwright, page, TILEWRIGHT if ours else RIVAL)
                except Exception as error:  # a rival that does not start is a result too
                    print(json.dumps({"bench": "page ready", "engine": name, "error": repr(error)}))
                    continue
                best[name] = min(cold), min(warm)
                numbers = {"cold_ms": round(min(cold)), "warm_ms": round(min(warm))}
                line = {"bench": "page ready", "engine": name, **numbers, "ends": ENDS[name]}
                print(json.dumps(line), flush=True)
    loaders = [warm for name, (_, warm) in best.items() if name not in ("tilewright", "WebLLM")]
    if loaders and "tilewright" in best:
        ratio = best["tilewright"][1] / min(loaders)
        print(
            json.dumps({"bench": "page ready, warm, over the quickest", "ratio": round(ratio, 2)})
        )


if __name__ == "__main__":
    if MODEL.is_file():
        install()
        with tempfile.TemporaryDirectory() as scratch:
            asyncio.run(measure(Path(scratch)))
    else:
        print("the reference data ../shared/oracle is not on this machine: nothing measured")
