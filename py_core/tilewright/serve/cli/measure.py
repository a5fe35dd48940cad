"""``tilewright inspect`` and ``tilewright bench``."""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from typing import Any

from ...engine.backend import likely_gpu
from ...engine.sampling import SamplingParams
from ...errors import DeviceUnavailableError, TilewrightError
from ...formats.model_file import ModelFile
from ...formats.open import open_model
from ...webgpu.device import Device
from ...webgpu.kernels.kernel import Capabilities
from ...webgpu.profile import copy_bandwidth
from ..chat import ChatModel, LoadOptions
from ..inspection import inspect as describe
from . import options


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    inspect = commands.add_parser("inspect", help="what is in a model file, and what it needs")
    inspect.add_argument("model", metavar="MODEL")
    inspect.add_argument("--context", type=int, help="positions, for the memory estimate")
    inspect.add_argument("--kv", choices=("f32", "f16", "q8_0"), help="format of the KV cache")
    inspect.add_argument(
        "--budget", type=int, metavar="MB", help="device memory, to say if it fits"
    )
    inspect.add_argument("--tensors", action="store_true", help="list every tensor")
    inspect.add_argument("--json", action="store_true")
    inspect.set_defaults(run=_inspect)
    bench = commands.add_parser("bench", help="measure prefill, decode and memory")
    options.add_model(bench)
    bench.add_argument("--json", action="store_true", help="print only the JSON line")
    bench.add_argument("--decode", type=int, default=64, help="tokens to generate")
    bench.add_argument("--repeat", type=int, default=3)
    bench.set_defaults(run=_bench)


async def _inspect(arguments: argparse.Namespace) -> None:
    from . import print_json

    file = await open_model(await options.local_path(arguments.model))
    try:
        report = await _report(file, arguments)
    finally:
        file.close()
    if arguments.json:
        report["metadata"] = _shortened(file)
        report["tensors"] = [
            {"name": t.name, "shape": list(t.shape), "format": t.quant.name, "bytes": t.nbytes}
            for t in file.items()
        ]
        print_json(report)
        return
    fit = report.pop("fit", {})
    for key, value in report.items():
        print(f"{key:20} {value}")
    for key, value in fit.items():
        print(f"  {key:18} {value}")
    print("metadata")
    for key, value in _shortened(file).items():
        print(f"  {key:44} {str(value)[:100]!s}")
    if arguments.tensors:
        for tensor in file.items():
            print(f"  {tensor.name:32} {tensor.quant.name:8} {tensor.shape!s:20} {tensor.nbytes}")


def _shortened(file: ModelFile) -> dict[str, Any]:
    """Return the metadata with long lists told by their length."""
    return {
        key: f"[{len(value)} values]"
        if isinstance(value, list | dict) and len(value) > 16
        else value
        for key, value in file.metadata.items()
    }


async def _report(file: ModelFile, arguments: argparse.Namespace) -> dict[str, Any]:
    budget = None if arguments.budget is None else arguments.budget * 1_000_000
    options = LoadOptions(context_length=arguments.context, kv=arguments.kv, memory_budget=budget)
    capabilities: Capabilities | None
    try:
        capabilities = await likely_gpu("webgpu" if arguments.kv else None)
    except DeviceUnavailableError:
        capabilities = Capabilities()  # the limits that every WebGPU device has
    backend = "wasm" if capabilities is None else "webgpu"
    try:
        return {**await describe(file, capabilities, options=options), "backend": backend}
    except TilewrightError as error:
        return {
            "name": file.metadata.get("general.name"),
            "architecture": file.architecture,
            "parameters": sum(tensor.rows * tensor.columns for tensor in file.items()),
            "bytes": sum(tensor.nbytes for tensor in file.items()),
            "cannot_run": error.to_dict(),
        }


async def _bench(arguments: argparse.Namespace) -> None:
    from . import print_json

    device = await Device.open()
    bandwidth = await copy_bandwidth(device)
    start = time.perf_counter()
    model = await ChatModel.load(
        await options.local_path(arguments.model),
        device=device,
        options=LoadOptions(
            context_length=arguments.context, kv=arguments.kv, arithmetic=arguments.arithmetic
        ),
    )
    loaded = time.perf_counter() - start
    try:
        line = await bench_model(model, arguments.decode, arguments.repeat)
        line["device_bytes"] = device.allocated
    finally:
        await model.close()
    tokens_per_second = line["decode_tokens_per_s"]
    moved = line.pop("bytes_per_token")
    line.update(
        {
            "backend": "webgpu",
            "arithmetic": arguments.arithmetic,
            "where": f"native, {device.name}, {platform.machine()}",
            "load_s": round(loaded, 3),
            "copy_bandwidth_gb_s": round(bandwidth / 1e9, 3),
            "decode_share_of_bandwidth": round(moved * tokens_per_second / bandwidth, 4),
            "peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )
    print_json(line)


async def bench_model(model: ChatModel, decode: int, repeat: int) -> dict[str, Any]:
    """Measure prefill and decode; the same numbers natively and in the page."""
    engine = model.engine
    vocabulary = model.runner.vocabulary
    line: dict[str, Any] = {
        "bench": "model",
        "model": model.name,
        "format": "+".join(sorted({t.quant.name for t in model.file.items() if t.rows > 1})),
        "file_bytes": sum(tensor.nbytes for tensor in model.file.items()),
    }
    serial = 0
    for length in (128, 512):
        if length + 1 > model.runner.context_length:
            continue
        rates = []
        for _ in range(repeat):
            serial += 1  # another prompt each time, so that no prefix is found in the cache
            ids = [(serial * 7919 + i * 31) % vocabulary for i in range(length)]
            begin = time.perf_counter()
            async for _token in engine.generate(ids, SamplingParams(temperature=0, max_tokens=1)):
                break
            rates.append(length / (time.perf_counter() - begin))
        line[f"prefill_{length}_tokens_per_s"] = round(statistics.median(rates), 2)
    speeds, firsts = [], []
    steps = min(decode, model.runner.context_length - 16)
    for _ in range(repeat):
        serial += 1
        ids = [(serial * 104729 + i * 17) % vocabulary for i in range(8)]
        params = SamplingParams(temperature=0, max_tokens=steps, ignore_eos=True)
        begin, times = time.perf_counter(), []
        async for _token in engine.generate(ids, params):
            times.append(time.perf_counter())
        firsts.append(times[0] - begin)
        if len(times) > 1:
            speeds.append((len(times) - 1) / (times[-1] - times[0]))
    stats = model.stats()
    line.update(
        {
            "decode_tokens": steps,
            "decode_tokens_per_s": round(statistics.median(speeds), 2) if speeds else 0.0,
            "first_token_cold_s": round(firsts[0], 4),
            "first_token_warm_s": round(statistics.median(firsts[1:] or firsts), 4),
            "dispatches_per_token": stats["dispatches_per_token"],
            "submits_per_token": stats["submits_per_token"],
            "bytes_per_token": stats["bytes_per_token"],
        }
    )
    return line
