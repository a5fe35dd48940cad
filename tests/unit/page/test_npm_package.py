"""The npm package: what its exports name is there, its types hold together, npm packs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TSC = ROOT / "web" / "node_modules" / ".bin" / "tsc"
CONSUMER = """
import { serveSite, Tilewright, TilewrightError } from "./types/tilewright.js";
import { CreateMLCEngine } from "./types/webllm.js";

const engine = await Tilewright.load("a.gguf", { context_length: 512 });
const messages = [{ role: "user" as const, content: "Hi" }];
const whole = await engine.chat.completions.create({ messages, n: 2 });
const text: string | null | undefined = whole.choices[0]?.message.content;
for await (const chunk of engine.chat.completions.create({ messages, stream: true })) {
  console.log(chunk.choices[0]?.delta.content, text, TilewrightError);
}
await serveSite(engine);
const other = await CreateMLCEngine("a.gguf");
console.log(await other.getMessage());
"""


def test_the_package_is_whole_and_typed() -> None:
    if not (ROOT / "dist" / "webllm.js").is_file() or not TSC.is_file():
        pytest.skip("dist/ or web/node_modules is not there: run python3 build site")
    done = subprocess.run(
        [sys.executable, "build/npm_package.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    folder = ROOT / ".build" / "npm"
    described = json.loads((folder / "package.json").read_text())
    for name, entry in described["exports"].items():
        targets = entry.values() if isinstance(entry, dict) else [entry]
        for target in targets:
            assert "*" in name or (folder / target).is_file(), target
    assert list((folder / "runtime").glob("tilewright_openai-*.whl"))
    assert (ROOT / ".build" / done.stdout.split()[-1]).stat().st_size > 1e6
    consumer = folder / "consumer.mts"
    consumer.write_text(CONSUMER)
    options = ["--noEmit", "--strict", "--target", "es2024", "--module", "nodenext"]
    libraries = ["--lib", "es2024,dom,dom.iterable,dom.asynciterable,esnext.disposable"]
    checked = subprocess.run(
        [str(TSC), *options, *libraries, "--types", "", str(consumer)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    consumer.unlink()
    assert checked.returncode == 0, checked.stdout
