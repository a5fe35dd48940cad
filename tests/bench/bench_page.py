"""Measures the page's runtime in Chromium: start, bridge, streaming, host time, main thread.

Start is navigation to the engine imported in Python; cold means an empty profile, snapshot a visit
that finds the memory snapshot in its cache. Host time is a token's time in the worker when the
GPU's answers come at once: scheduling, replay, text, messages. Main thread is the processor time
of its longest tasks from the navigation to the end of an answer, in a first and a second visit.
Times are the least of several runs, because this is usually a busy machine. JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from in_chromium import serving
from playwright.async_api import Browser, Page, async_playwright

from tilewright.serve.http import create_app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from conftest import FLAGS, chromium  # noqa: E402

RUNS = 3
STREAMED = 64 << 20
TINY = ROOT.parent / "shared" / "oracle" / "models_and_logits" / "models" / "llama.Q4_0.gguf"
PYTHON_READY = """async () => {
  globalThis.worker = new PythonWorker();
  await worker.ready;
  await worker.run("import tilewright.serve.worker");
  return performance.now();
}"""
KEEP_SNAPSHOT = "from tilewright_sources import keepSnapshot\nawait keepSnapshot()"
BRIDGE = '''
import time
from array import array
from tilewright.webgpu import bridge
begun = time.perf_counter()
bridge.install()
import wgpu
imported = time.perf_counter() - begun
adapter = await wgpu.gpu.request_adapter_async()
device = await adapter.request_device_async()
CODE = """
@group(0) @binding(0) var<storage, read_write> a: array<u32>;
@compute @workgroup_size(1) fn main() { a[0] = a[0] + 1u; }
"""
buffer = device.create_buffer(size=256, usage="STORAGE|COPY_SRC|COPY_DST")
pipeline = await device.create_compute_pipeline_async(
    layout="auto",
    compute={"module": device.create_shader_module(code=CODE), "entry_point": "main"},
)
layout = pipeline.get_bind_group_layout(0)
entries = [{"binding": 0, "resource": {"buffer": buffer}}]
group = device.create_bind_group(layout=layout, entries=entries)
plan = bridge.Plan(device, [pipeline], [group], [], array("i", [0, 0, 0, 1, 1, 1] * 250))
ring = bridge.ReadRing(device, 4, 8)

async def least(function, count=1, runs=7):
    best = 1e9
    for _ in range(runs):
        begun = time.perf_counter()
        for _ in range(count):
            function()
        best = min(best, (time.perf_counter() - begun) / count)
        await device.queue.on_submitted_work_done_async()
    return best

def one_by_one():
    encoder = device.create_command_encoder()
    compute = encoder.begin_compute_pass()
    for _ in range(250):
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(1)
    compute.end()
    device.queue.submit([encoder.finish()])

small = bytes(64)
result = {
    "import_ms": imported,
    "replay_250_ms": await least(lambda: plan.replay()),
    "encode_250_one_by_one_ms": await least(one_by_one),
    "write_64_bytes_ms": await least(lambda: device.queue.write_buffer(buffer, 0, small), 100),
    "bind_group_ms": await least(
        lambda: device.create_bind_group(layout=layout, entries=entries), 20),
}
one = bridge.Plan(device, [pipeline], [group], [], array("i", [0, 0, 0, 1, 1, 1]))
for depth in (1, 8):
    begun = time.perf_counter()
    for _ in range(100):
        one.replay(ring, buffer, 0, 4)
        if ring.pending == depth:
            await ring.pop()
    while ring.pending:
        await ring.pop()
    result[f"token_round_trip_depth_{depth}_ms"] = (time.perf_counter() - begun) / 100
{name: round(1000 * seconds, 4) for name, seconds in result.items()}
'''
STREAM = """
import time
from js import Uint8Array, fetch
from tilewright.webgpu import bridge
bridge.install()
import wgpu
from tilewright_sources import UrlSource
adapter = await wgpu.gpu.request_adapter_async()
device = await adapter.request_device_async()
url = str(data["url"])
size = int(data["size"])
target = device.create_buffer(size=size, usage="COPY_DST|STORAGE")
best = {"stream_into": 1e9, "fetch_and_write_buffer": 1e9}
for _ in range(3):
    begun = time.perf_counter()
    source = bridge.BrowserSource(await UrlSource.open(url))
    await bridge.stream_into(source, 0, size, target, 0)
    await device.queue.on_submitted_work_done_async()
    best["stream_into"] = min(best["stream_into"], time.perf_counter() - begun)
    begun = time.perf_counter()
    whole = await (await fetch(url)).arrayBuffer()
    device.queue.write_buffer(target, 0, getattr(whole, "js_object", whole))
    await device.queue.on_submitted_work_done_async()
    best["fetch_and_write_buffer"] = min(
        best["fetch_and_write_buffer"], time.perf_counter() - begun)
{name: round(size / seconds / 1e6, 1) for name, seconds in best.items()}
"""

HOST = """
import asyncio, json, time
from array import array
from tilewright.webgpu import bridge
bridge.install()
from tilewright.serve.worker import WorkerLoop
from tilewright.webgpu.replay import BrowserReplayer
from tilewright_sources import UrlSource

async def source(number):
    return bridge.BrowserSource(await UrlSource.open(str(data["url"])))

told, ended = [], asyncio.Event()

def post(text):
    message = json.loads(text)
    told.append(message)
    if message["type"] == "delta":
        loop.receive(json.dumps({"type": "ack", "id": message["id"]}))
    if message["type"] in ("loaded", "done", "error"):
        ended.set()

loop = WorkerLoop(post, source)

async def ask(**message):
    ended.clear()
    loop.receive(json.dumps(message))
    await ended.wait()
    assert told[-1]["type"] != "error", told[-1]

sampling = {"temperature": 0, "ignore_eos": True}
await ask(type="load", id=1, url="-", options={
    "context_length": 256, "max_sequences": 1, "backend": "webgpu"})
await ask(type="generate", id=2, ids=[3, 4], sampling={**sampling, "max_tokens": 16})
submit, fetch, kept, times = BrowserReplayer.submit, BrowserReplayer.fetch, [], []

async def at_once(self):
    times.append(time.perf_counter())
    return kept[0]

def without_reading(self, plans, result=None):
    submit(self, plans, None if kept else result)

async def keep_one(self):
    kept.append(await fetch(self))
    return kept[0]

# The GPU's answer, once known, is given without a wait: what is left is the host's time.
BrowserReplayer.fetch = keep_one
await ask(type="generate", id=3, ids=[3, 4], sampling={**sampling, "max_tokens": 1})
BrowserReplayer.fetch, BrowserReplayer.submit = at_once, without_reading
await ask(type="generate", id=4, ids=[3, 4], sampling={**sampling, "max_tokens": 65})
BrowserReplayer.fetch, BrowserReplayer.submit = fetch, submit
steps = [1000 * (b - a) for a, b in zip(times, times[1:])]
{"host_ms": round(sorted(steps)[len(steps) // 2], 3), "least_ms": round(min(steps), 3),
 "steps": len(steps)}
"""


def tell(what: str, **numbers: Any) -> None:
    """Print one line of results."""
    print(json.dumps({"bench": what, "where": "chromium", **numbers}), flush=True)


async def start_times(browser: Browser, address: str) -> dict[str, float]:
    """Return milliseconds from navigation to the engine imported, for each kind of visit."""
    found: dict[str, list[float]] = {"cold_ms": [], "warm_ms": [], "snapshot_ms": []}
    for _ in range(RUNS):
        context = await browser.new_context()
        page = await context.new_page()
        for kind in found:
            if kind == "snapshot_ms":
                await run_python(page, KEEP_SNAPSHOT)
            await page.goto(f"{address}/test.html")
            found[kind].append(await page.evaluate(PYTHON_READY))
        await context.close()
    return {kind: round(min(times), 1) for kind, times in found.items()}


async def run_python(page: Page, code: str, data: object = None) -> Any:
    """Run Python in the page's worker."""
    return await page.evaluate("([code, data]) => worker.run(code, data)", [code, data])


TRACED = ["toplevel", "devtools.timeline"]
FRAME_MS = 16


async def main_thread(browser: Browser, address: str) -> None:
    """Tell how long the chat page's main thread computes in one go, over a whole visit."""
    page = await (await browser.new_context()).new_page()
    for visit in ("first", "second"):
        await browser.start_tracing(page=page, categories=TRACED)
        await page.goto(f"{address}/index.html")
        await page.get_by_role("textbox").first.fill("Tell me a story about a fox.")
        await page.keyboard.press("Enter")
        await page.get_by_text("tokens/s").first.wait_for(timeout=150_000)
        events = json.loads(await browser.stop_tracing())["traceEvents"]
        # Of several processes' main threads, that of the process that committed our page.
        ours = {e["pid"] for e in events if f"{address}/index" in json.dumps(e.get("args", {}))}
        main = {
            (e["pid"], e["tid"])
            for e in events
            if e.get("name") == "thread_name" and e["args"]["name"] == "CrRendererMain"
        }
        own = [e for e in events if e["pid"] in ours and (e["pid"], e.get("tid")) in main]
        # What the driver of this test asks of the page is none of its own work.
        driver = [e["ts"] for e in own if "DevToolsSession" in json.dumps(e.get("args", {}))]
        tasks = [
            e.get("tdur", 0) / 1000
            for e in own
            if e.get("name") == "ThreadControllerImpl::RunTask"
            and not any(e["ts"] <= at <= e["ts"] + e["dur"] for at in driver)
        ]
        slow = sum(ms > FRAME_MS for ms in tasks)
        numbers = {"tasks": len(tasks), "over_16_ms": slow, "longest_ms": round(max(tasks), 1)}
        tell("main thread, processor time", visit=visit, **numbers)


async def main() -> None:
    """Run everything."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bytes.gguf").write_bytes(bytes(STREAMED))
        if TINY.is_file():
            shutil.copy(TINY, folder)
        app = create_app(ROOT / "dist", Path(folder))
        async with serving(app) as address, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            manifest = json.loads((ROOT / "dist" / "manifest.json").read_text())
            tell("page start", **await start_times(browser, address), bytes=manifest["start"])
            page = await browser.new_page()
            await page.goto(f"{address}/test.html")
            await page.evaluate(PYTHON_READY)
            tell("bridge", **await run_python(page, BRIDGE))
            source = {"url": f"{address}/models/bytes.gguf", "size": STREAMED}
            tell("streaming MB/s", **await run_python(page, STREAM, source))
            if TINY.is_file():
                # A fresh worker: the bridge's own devices above would take part in the waits.
                await page.goto(f"{address}/test.html")
                await page.evaluate(PYTHON_READY)
                tiny = {"url": f"{address}/models/{TINY.name}"}
                tell("host time per token", **await run_python(page, HOST, tiny), model=TINY.name)
            await main_thread(browser, address)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
