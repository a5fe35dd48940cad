"""Measures how models come to the device: load against bare fetch, first token, memory, streaming.

``throughput``: MB/s of a first and a second visit's load, beside a bare fetch and one that is
written to the GPU. ``first token``: a host that sends as slowly as a network does; the share is
the first token's time over the download's, both from the start of the load. ``host memory``: of the
page's process while weights go to the GPU (whose process is another). ``beyond memory``: half of
the layers are read for every token, or of a mixture of experts those that are chosen and not there;
the share is the time that reading them alone would take, over the time of a token. Files are in the
system's cache. JSON lines. With names (throughput, first-token, memory, streaming,
streaming-native): only those.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from in_chromium import ROOT, served
from playwright.async_api import Page, async_playwright

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser")]
from model_host import ModelHost  # noqa: E402
from random_models import SHAPES, make, make_all  # noqa: E402

from tilewright.engine.engine import Engine  # noqa: E402
from tilewright.engine.runner import ModelRunner  # noqa: E402
from tilewright.engine.sampling import SamplingParams  # noqa: E402
from tilewright.engine.wasm_runner import WasmRunner  # noqa: E402
from tilewright.formats.open import open_model  # noqa: E402
from tilewright.testing import launch_options  # noqa: E402
from tilewright.webgpu.device import Device  # noqa: E402

FOLDER = ROOT / ".build" / "bench"
NAME = "S.Q4_0.gguf"
EXPERTS = "E.Q4_0.gguf"
DOWNLOAD_S = 15.0
TOKENS = {"wasm": 25, "webgpu": 7}
"""Of an answer, by backend; the GPU is software here."""
LOAD = """async ([url, { tokens, ...options }]) => {
  const { Tilewright } = await import("./tilewright.js");
  const begun = Date.now();
  let first = 0, last = 0;
  const onProgress = ({ phase }) => {
    if (phase !== "weights") return;
    last = Date.now();
    first ||= last;
  };
  const given = { context_length: 256, max_sequences: 1, ...options, onProgress };
  const engine = await Tilewright.load(url, given);
  const loaded = Date.now();
  let token = 0, seconds = 0, count = 0;
  if (options.backend === "wasm" || options.memory_budget) {
    const sampling = { max_tokens: tokens ?? 25, temperature: 0, ignore_eos: true };
    for await (const part of engine.complete({ ids: [3, 4, 5, 6], sampling })) {
      if (part.tokens.length) token ||= Date.now();
      if (part.usage) seconds = part.usage.completion_s;
      count += part.tokens.length;
    }
  }
  const stats = await engine.stats();
  await engine.unload();
  return { begun, first, last, loaded, token, seconds, count, stats };
}"""
BARE = """async (url) => {
  const timed = async (work) => {
    const begun = performance.now();
    await work();
    return (performance.now() - begun) / 1000;
  };
  const drain = async () => { for await (const _ of (await fetch(url)).body); };
  const limits = { requiredLimits: { maxBufferSize: 2 ** 28 } };
  const device = await (await navigator.gpu?.requestAdapter())?.requestDevice(limits);
  const write = async () => {
    const bytes = await (await fetch(url)).arrayBuffer();
    const size = (bytes.byteLength + 3) & ~3;
    const buffer = device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST });
    device.queue.writeBuffer(buffer, 0, bytes, 0, bytes.byteLength & ~3);
    await device.queue.onSubmittedWorkDone();
    buffer.destroy();
  };
  return { fetch: await timed(drain), write: device ? await timed(write) : null };
}"""
READ = """async (url) => {
  const store = new StoreConnection();
  const source = await store.open({ url });
  const begun = performance.now();
  for await (const _ of source.stream(0, source.size));
  const seconds = (performance.now() - begun) / 1000;
  source.close();
  return source.size / seconds;
}"""


def tell(what: str, where: str, *, model: str = NAME, **numbers: Any) -> None:
    """Print one line of results."""
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in numbers.items()}
    print(
        json.dumps({"bench": f"store: {what}", "where": where, "model": model, **rounded}),
        flush=True,
    )


class Memory:
    """Samples the memory of a page's process."""

    def __init__(self) -> None:
        self.peak = 0.0

    def now(self) -> float:
        """Return the proportional set size of our pages' processes in MB."""
        parents, pages = {}, []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                if b"--type=renderer" in (folder / "cmdline").read_bytes():
                    pages.append(int(folder.name))
        total = 0
        for number in pages:
            above = number
            while above in parents and above != os.getpid():
                above = parents[above]
            if above == os.getpid():
                with suppress(OSError):
                    text = Path(f"/proc/{number}/smaps_rollup").read_text()
                    total += sum(int(w.split()[1]) for w in text.split("\n") if w[:4] == "Pss:")
        return total / 1000

    async def watch(self) -> None:
        """Keep the peak until cancelled."""
        while True:
            self.peak = max(self.peak, self.now())
            await asyncio.sleep(0.1)


async def throughput(page: Page, folder: str, size: int) -> None:
    """Tell how fast a load is, beside what a fetch alone takes."""
    url = f"{folder}/{NAME}"
    bare = [await page.evaluate(BARE, url) for _ in range(3)]
    fetch = min(times["fetch"] for times in bare)
    written = min((times["write"] for times in bare if times["write"]), default=0.0)
    for backend in ("wasm", "webgpu"):
        at = f"{url}?{backend}"
        numbers = {}
        for visit in ("first", "second"):
            found = await page.evaluate(LOAD, [at, {"backend": backend}])
            # A prepared load is told once, at its end: the store fills the memory before.
            if found["last"] > found["first"]:
                numbers[f"{visit}_visit_mb_s"] = size / 1e3 / (found["last"] - found["first"])
            numbers[f"{visit}_visit_ready_s"] = (found["loaded"] - found["begun"]) / 1000
        tell(
            "throughput",
            "chromium",
            backend=backend,
            **numbers,
            bare_fetch_mb_s=size / 1e6 / fetch,
            fetch_and_write_buffer_mb_s=size / 1e6 / written if written else None,
        )


async def first_token(page: Page, host: ModelHost, size: int) -> None:
    """Tell when the first token comes, beside when the last byte does."""
    connections = 4
    host.bytes_per_second = size / DOWNLOAD_S / connections
    host.sent = 0
    asking = asyncio.ensure_future(
        page.evaluate(LOAD, [f"{host.storage}/{NAME}?slow", {"backend": "wasm"}])
    )
    while host.sent < size and not asking.done():
        await asyncio.sleep(0.01)
    ended = time.time() * 1000
    found = await asking
    host.bytes_per_second = 0
    download, token = ended - found["begun"], found["token"] - found["begun"]
    tell(
        "first token",
        "chromium",
        backend="wasm",
        download_s=download / 1000,
        first_token_s=token / 1000,
        first_token_share_of_download=token / download,
        kernels_tuned_meanwhile=found["stats"]["early_tuned"],
    )


async def host_memory(page: Page, folder: str, size: int) -> None:
    """Tell what a load to the GPU adds to the memory of the page's process."""
    url = f"{folder}/{NAME}?memory"
    await page.evaluate(LOAD, [f"{folder}/S.Q8_0.gguf?warm", {"backend": "webgpu"}])
    memory = Memory()
    before = memory.now()
    watching = asyncio.ensure_future(memory.watch())
    await page.evaluate(LOAD, [url, {"backend": "webgpu"}])
    watching.cancel()
    tell(
        "host memory",
        "chromium",
        backend="webgpu",
        model_mb=size / 1e6,
        before_mb=before,
        peak_mb=memory.peak,
        grown_mb=memory.peak - before,
    )


async def beyond_memory_in_page(page: Page, folder: str, model: str, backend: str) -> None:
    """Tell the speed of a model of which half is read for every token."""
    url = f"{folder}/{model}?streamed"
    options = {"backend": backend, "tokens": TOKENS[backend]}
    high = 1 << 32  # a budget, with which the GPU answers as well
    whole = await page.evaluate(LOAD, [url, {**options, "memory_budget": high}])
    rate = max([await page.evaluate(READ, url) for _ in range(3)])
    taken = whole["stats"]["device_bytes"]
    streamed = await page.evaluate(LOAD, [url, {**options, "memory_budget": int(taken * 0.75)}])
    _tell_streaming(
        "chromium",
        model,
        backend,
        taken,
        whole["seconds"] / (whole["count"] - 1),
        streamed["seconds"] / (streamed["count"] - 1),
        streamed["stats"],
        streamed["count"] + 1,
        rate,
    )


def _tell_streaming(
    where: str,
    model: str,
    backend: str,
    taken: int,
    whole: float,
    streamed: float,
    stats: Any,
    steps: int,
    rate: float,
) -> None:
    nbytes = stats["streamed_bytes"] / steps
    experts: dict[str, Any] = {}
    if "expert_rooms" in stats:
        hits, misses = stats["expert_hits"], stats["expert_misses"]
        experts = {"expert_rooms": int(stats["expert_rooms"]), "hits": hits / (hits + misses)}
    tell(
        "beyond memory",
        where,
        model=model,
        backend=backend,
        **experts,
        whole_mb=taken / 1e6,
        budget_mb=stats["device_bytes"] / 1e6,
        streamed_layers=int(stats["streamed_layers"]),
        read_per_token_mb=nbytes / 1e6,
        storage_mb_s=rate / 1e6,
        whole_tokens_s=1 / whole,
        streamed_tokens_s=1 / streamed,
        share_of_storage_speed=nbytes / rate / streamed,
    )


async def _seconds_per_token(runner: WasmRunner | ModelRunner, tokens: int) -> float:
    engine = Engine(runner)
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    times = []
    async for _ in engine.submit([3, 4, 5, 6], params):
        times.append(time.perf_counter())
    await engine.close()
    return (times[-1] - times[0]) / (len(times) - 1)


async def beyond_memory(model: str, backend: str) -> None:
    """Tell the same natively."""
    options: dict[str, Any] = {"context_length": 256, "max_sequences": 1}
    device = await Device.open() if backend == "webgpu" else None

    async def load(**more: Any) -> WasmRunner | ModelRunner:
        if device is None:
            return await WasmRunner.load(file, **options, **more)
        return await ModelRunner.load(device, file, **options, **more)

    with closing(await open_model(str(FOLDER / model))) as file:
        runner = await load()
        whole = await _seconds_per_token(runner, TOKENS[backend])
        taken = runner.device_bytes
        await runner.close()
        runner = await load(memory_budget=int(taken * 0.75))
        seconds = await _seconds_per_token(runner, TOKENS[backend])
        stats = {**runner.plan_stats(), "device_bytes": runner.device_bytes}
        await runner.close()
        source: Any = file.sources[0]
        rate = 0.0
        for _ in range(3):
            begun = time.perf_counter()
            for at in range(0, source.size - (1 << 20), 1 << 20):
                source.read_apart(at, 1 << 20)
            rate = max(rate, (source.size - (1 << 20)) / (time.perf_counter() - begun))
    _tell_streaming(
        "native", model, backend, taken, whole, seconds, stats, TOKENS[backend] + 1, rate
    )


async def main() -> None:
    """Run what is named, or all."""
    wanted = set(sys.argv[1:]) or {"throughput", "first-token", "memory", "streaming"}
    make_all(FOLDER, ("S",))
    if not (FOLDER / EXPERTS).exists():
        make(FOLDER / EXPERTS, SHAPES["E"], "Q4_0", "Q8_0")
    size = (FOLDER / NAME).stat().st_size
    beyond = ((NAME, "wasm"), (EXPERTS, "wasm"), (EXPERTS, "webgpu"))
    if wanted & {"streaming", "streaming-native"}:
        for given in beyond:
            await beyond_memory(*given)
    if wanted == {"streaming-native"}:
        return None
    with ModelHost(FOLDER) as host:
        async with served(FOLDER) as address, async_playwright() as playwright:
            # A visitor's profile: in a private window files are kept in another process's memory.
            profile = tempfile.TemporaryDirectory(dir=FOLDER, ignore_cleanup_errors=True)
            launch = playwright.chromium.launch_persistent_context
            context = await launch(profile.name, bypass_csp=True, **launch_options())
            page = await context.new_page()
            page.set_default_timeout(0)
            await page.goto(f"{address}/test.html")
            folder = f"{address}/models"
            if "throughput" in wanted:
                await throughput(page, folder, size)
            if "first-token" in wanted:
                await first_token(page, host, size)
            if "memory" in wanted:
                await host_memory(page, folder, size)
            if "streaming" in wanted:
                for given in beyond:
                    await beyond_memory_in_page(page, folder, *given)
            await context.close()
            profile.cleanup()
    return None


asyncio.run(main())
