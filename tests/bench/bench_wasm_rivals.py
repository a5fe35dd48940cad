"""The CPU path against wllama (llama.cpp in WebAssembly) in one Chromium: JSON lines and ratios.

Same random-weight GGUF, same threads, both fully loaded; the first prompt and the first tokens are
not counted. ``prefill_128``, ``prefill_512`` and ``decode`` (64 tokens after 8) are tokens per
second, the median of three runs, or fewer where they are long (none where one takes minutes);
``cpu_s_per_token`` is processor time of all Chromium processes while decoding. Rivals come from npm
into ``.build/rivals`` at the first run.

``wasm first token``: seconds from a page's opening to its first token, Python and the model kept
from an earlier visit. ``--table``: lines of earlier runs side by side.

    python tests/bench/bench_wasm_rivals.py [--threads N] [--against wllama@2.3.1 ...] FILE.gguf ...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from in_chromium import serving, visitor, without_policy
from playwright.async_api import Page, Playwright, async_playwright

from tilewright.serve.http import create_app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from conftest import FLAGS, SNAPSHOT_KEPT  # noqa: E402

RIVALS = ROOT / ".build" / "rivals"
NEWEST = "3.8.1"
WAIT = 140
LONG = 45.0
"""Seconds of a single run from which on it is left out, or made shorter (decode): wllama 3.8.1 on
one busy core reads two tokens per second, so that 512 never came to an end."""
KEYS = ("prefill_128", "prefill_512", "decode")
FIRST_TOKEN = """async (url) => {
  const { Tilewright } = await import("./tilewright.js");
  const at = {};
  const note = (what) => { at[what] ??= Math.round(performance.now()) / 1000; };
  const onProgress = ({ phase, done }) => {
    if (phase !== "runtime") note("python_s");
    if (phase === "weights" && done) note("weights_begin_s");
  };
  const options = { backend: "wasm", context_length: 1024, max_sequences: 1, onProgress };
  const engine = await Tilewright.load(url, options);
  note("loaded_s");
  const sampling = { temperature: 0, max_tokens: 2, ignore_eos: true };
  for await (const part of engine.complete({ ids: [300, 301, 302, 303], sampling })) {
    if (part.tokens.length) note("first_token_s");
  }
  await SNAPSHOT_KEPT();
  await engine.unload();
  return at;
}""".replace("SNAPSHOT_KEPT", SNAPSHOT_KEPT)
VISITS = 4
"""Of a page: the first fills the store, the median of the others counts."""
REPEAT = """async ([name, count, most]) => {
  const found = [];
  const end = performance.now() + 12000;
  while (found.length < most && performance.now() < end) found.push(await globalThis[name](count));
  found.sort((a, b) => a - b);
  return [found[found.length >> 1], found.length];
}"""
COMMON = """
const ids = (count, salt) => Array.from({ length: count }, (_, i) => 300 + (i * 7919 + salt * 31) % 40000);
"""  # noqa: E501
OURS = (
    COMMON
    + """
globalThis.start = async (url, threads) => {
  const { Tilewright } = await import(new URL("./tilewright.js", location.href).href);
  const options = { backend: "wasm", threads, context_length: 1024, max_sequences: 1 };
  const engine = await Tilewright.load(url, options);
  let salt = 0;
  const run = async (prompt, count) => {
    let usage;
    const sampling = { temperature: 0, max_tokens: count, ignore_eos: true };
    for await (const part of engine.complete({ ids: ids(prompt, ++salt), sampling })) {
      usage = part.usage ?? usage;
    }
    return usage;
  };
  globalThis.crew = [];
  const noted = async (rate) => (crew.push((await engine.stats()).threads), rate);
  globalThis.prefill = async (count) => noted(count / (await run(count, 1)).time_to_first_token_s);
  globalThis.decode = async (count) => noted((await run(8, count + 1)).tokens_per_second);
};
"""
)
OLD = (
    COMMON
    + """
import { Wllama } from "./FOLDER/esm/index.js";
globalThis.start = async (url, threads) => {
  const at = (path) => new URL("FOLDER/esm/" + path, location.href).href;
  const engine = new Wllama({
    "single-thread/wllama.wasm": at("single-thread/wllama.wasm"),
    "multi-thread/wllama.wasm": at("multi-thread/wllama.wasm"),
  }, { suppressNativeLog: true });
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const blob = await answer.blob();
  await engine.loadModel([blob], { n_ctx: 1024, n_batch: 512, n_threads: threads });
  let salt = 0;
  await engine.samplingInit({ temp: 0 });
  globalThis.prefill = async (count) => {
    await engine.kvClear();
    const begun = performance.now();
    await engine.decode(ids(count, ++salt), {});
    await engine.samplingSample();
    return count / (performance.now() - begun) * 1000;
  };
  globalThis.decode = async (count) => {
    await engine.kvClear();
    await engine.decode(ids(8, ++salt), {});
    let { token } = await engine.samplingSample();
    const begun = performance.now();
    for (let i = 0; i < count; i++) {
      await engine.decode([token], {});
      ({ token } = await engine.samplingSample());
    }
    return count / (performance.now() - begun) * 1000;
  };
};
"""
)
NEW = (
    COMMON
    + """
import { Wllama } from "./FOLDER/esm/index.js";
globalThis.start = async (url, threads) => {
  const wasm = new URL("FOLDER/esm/wasm/wllama.wasm", location.href).href;
  const engine = new Wllama({ default: wasm }, { suppressNativeLog: true });
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const blob = await answer.blob();
  await engine.loadModel([blob], { n_ctx: 1024, n_batch: 512, n_threads: threads });
  let salt = 0;
  const run = async (words, count) => {
    const prompt = ids(words, ++salt).map((id) => `t${id % 1000} `).join("");
    const { timings } = await engine.createCompletion({
      prompt, max_tokens: count, temperature: 0, ignore_eos: true, cache_prompt: false,
    });
    return timings;
  };
  globalThis.prefill = async (count) => (await run(count / 5, 1)).prompt_per_second;
  globalThis.decode = async (count) => (await run(2, count)).predicted_per_second;
};
"""
)


def install(version: str) -> str:
    """Fetch a version of wllama with npm unless it is here; return its folder's name."""
    folder = f"wllama-{version}"
    if not (RIVALS / folder).is_dir():
        RIVALS.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"@wllama/wllama@{version}"]
        done = subprocess.run(command, cwd=RIVALS, check=True, capture_output=True, text=True)
        with tarfile.open(RIVALS / done.stdout.strip()) as archive:
            archive.extractall(RIVALS / "unpacked", filter="data")
        (RIVALS / "unpacked" / "package").rename(RIVALS / folder)
    return folder


def write_pages(versions: list[str]) -> dict[str, str]:
    """Write a page per engine beside the rivals; return their names."""
    pages = {}
    for version in versions:
        folder = install(version)
        script = (NEW if int(version.split(".")[0]) >= 3 else OLD).replace("FOLDER", folder)
        (RIVALS / f"{folder}.js").write_text(script)
        (RIVALS / f"{folder}.html").write_text(
            f'<!doctype html><script type="module" src="{folder}.js"></script>'
        )
        pages[f"wllama {version}"] = f"{folder}.html"
    return pages


def cpu_seconds() -> float:
    """Return the processor time of this process's descendants (Chromium, and the driver)."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ours(process: int) -> bool:
        while process in parents and process > 1:
            process = parents[process]
            if process == os.getpid():
                return True
        return False

    return sum(seconds for process, seconds in times.items() if ours(process))


async def measure(page: Page, address: str, script: str, url: str, threads: int) -> Any:
    """Load one engine and time it."""
    await page.goto(address)
    if script:
        await page.add_script_tag(content=script, type="module")
    await page.wait_for_function("() => Boolean(globalThis.start)")
    await page.evaluate("([url, threads]) => start(url, threads)", [url, threads])
    found: dict[str, Any] = {}
    # Engines compile better code meanwhile; what is slow even so gets less to do.
    rate, _ = await page.evaluate(REPEAT, ["prefill", 32, 1])
    slow, _ = await page.evaluate(REPEAT, ["decode", 8, 1])
    for length in (128, 512):
        if length / rate < LONG:
            rate, _ = await page.evaluate(REPEAT, ["prefill", length, 3])
            found[f"prefill_{length}"] = round(rate, 1)
    count = 64 if 64 / slow < LONG else 8
    before = cpu_seconds()
    rate, runs = await page.evaluate(REPEAT, ["decode", count, 3])
    found["decode"] = round(rate, 1)
    # Each run also reads 8 tokens and makes the first.
    found["cpu_s_per_token"] = round((cpu_seconds() - before) / runs / (count + 9), 4)
    crew = await page.evaluate("() => globalThis.crew ?? null")
    if crew is not None:
        found["threads_used"] = crew
    return found


async def first_token(playwright: Playwright, address: str, url: str) -> dict[str, Any]:
    """Return the seconds from a page's opening to its first token, the model in the local store."""
    seen = []
    async with visitor(playwright, FLAGS) as page:
        for _ in range(VISITS):
            await page.goto(address)
            seen.append(await page.evaluate(FIRST_TOKEN, url))
    return {
        key: round(statistics.median(v[key] for v in seen[1:] if key in v), 2) for key in seen[-1]
    }


def table(path: Path) -> None:
    """Print what ``path`` holds of this bench's lines as a table; a later line counts more."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    found = [line for line in lines if line["bench"] == "wasm" and "decode" in line]
    rates = {(line["model"], line["threads"], line["engine"]): line for line in found}
    rivals = sorted({engine for _, _, engine in rates} - {"tilewright"})
    own = ("model", "threads", "prefill 128, 512", "decode", "CPU-s a token")
    print("|", " | ".join([*own, *(f"times {name}" for name in rivals)]), "|")
    print("|---|---|---|---|---|" + "---|" * len(rivals))
    for (model, threads, engine), line in sorted(rates.items()):
        if engine != "tilewright":
            continue
        cells = [model, threads, _cell(line, KEYS[:2]), _cell(line, KEYS[2:])]
        cells.append(line["cpu_s_per_token"])
        for rival in rivals:
            other = rates.get((model, threads, rival), {})
            ratios = {k: round(line[k] / other[k], 1) for k in KEYS if other.get(k) and k in line}
            cells.append(_cell(ratios, KEYS))
        print("|", " | ".join(map(str, cells)), "|")


def _cell(line: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(str(line.get(key, "-")) for key in keys)


async def bench(
    files: list[Path], threads: list[int], versions: list[str], *, first: bool = True
) -> None:
    """Print a line per engine, and the ratios against each rival."""
    pages = write_pages(versions)
    for file in files:
        ours, theirs = (
            serving(without_policy(create_app(site, file.parent)))
            for site in (ROOT / "dist", RIVALS)
        )
        async with ours as home, theirs as away, async_playwright() as playwright:
            flags = [flag for flag in FLAGS if "webgpu" not in flag]
            if first:
                url = f"{home}/models/{file.name}"
                found = await first_token(playwright, f"{home}/test.html", url)
                line = {"bench": "wasm first token", "model": file.stem, **found}
                print(json.dumps(line), flush=True)
            for count in threads:
                lines: dict[str, Any] = {}
                for name, page in {"tilewright": "test.html", **pages}.items():
                    own = name == "tilewright"
                    address = home if own else away
                    common = {"bench": "wasm", "model": file.stem, "engine": name, "threads": count}
                    url = f"{address}/models/{file.name}"
                    script = OURS if own else ""
                    try:
                        async with visitor(playwright, flags) as opened:
                            work = measure(opened, f"{address}/{page}", script, url, count)
                            lines[name] = await asyncio.wait_for(work, WAIT)
                    except Exception as error:  # a rival that does not run is a result too
                        print(json.dumps({**common, "error": repr(error)[:300]}), flush=True)
                        continue
                    print(json.dumps({**common, **lines[name]}), flush=True)
                for name in pages:
                    if name in lines and "tilewright" in lines:
                        ratios = {
                            key: round(lines["tilewright"][key] / lines[name][key], 2)
                            for key in KEYS
                            if lines[name].get(key) and key in lines["tilewright"]
                        }
                        line = {"bench": "wasm ratio", "model": file.stem, "threads": count}
                        print(json.dumps({**line, "over": name, **ratios}), flush=True)


def main(arguments: list[str]) -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--against", action="append", help="wllama, or wllama@VERSION")
    parser.add_argument("--only-rates", action="store_true", help="not the time to first token")
    parser.add_argument("--only-first-token", action="store_true")
    parser.add_argument("--table", type=Path, help="print a table of lines from earlier runs")
    given = parser.parse_args(arguments)
    if given.table:
        table(given.table)
        return 0
    versions: list[str] = []
    for name in given.against or ["wllama"]:
        _, _, version = name.partition("@")
        versions += [version] if version else ["2.3.1", NEWEST]
    files = given.files or sorted((ROOT / ".build" / "bench").glob("[SM].*.gguf"))
    threads = [] if given.only_first_token else given.threads or [1, 2]
    asyncio.run(bench(files, threads, versions, first=not given.only_rates))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
