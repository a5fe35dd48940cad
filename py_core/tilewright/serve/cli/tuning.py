"""``tilewright tune``: times kernels on this device and keeps the fastest correct ones."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine import wasm_tuning
from ...engine.runner import ModelRunner
from ...engine.tuning import BUDGET, TuningResult, default_store, tune
from ...engine.wasm_runner import WasmRunner
from ...errors import InvalidRequestError, SourceError
from ...formats.model_file import ModelFile
from ...formats.open import open_model
from ...tuning.store import Records, Store
from ...tuning.tuner import Event
from ...wasm.assembler import Module, memory_copy
from ...wasm.host import IMPORTED, Host, here
from ...webgpu.device import Device
from ...webgpu.memory import Progress
from ...webgpu.profile import copy_bandwidth
from ..chat import LoadOptions, as_asked
from . import options


def add_commands(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("tune", help="time kernels on this device, keep the fastest")
    options.add_model(parser)
    options.add_backend(parser)
    add = parser.add_argument
    add("--budget", type=float, default=BUDGET, metavar="SECONDS", help="of measuring")
    add("--out", metavar="RECORDS.json", help="write this device's records to a file as well")
    add(
        "--import",
        dest="records",
        metavar="FILE",
        help="take over records, such as --out wrote on a device of the same kind, before tuning",
    )
    parser.set_defaults(run=_tune)


async def _tune(arguments: argparse.Namespace) -> None:
    from . import print_json

    if not arguments.budget >= 0:
        raise InvalidRequestError("The budget is a number of seconds, 0 or more.")
    asked = LoadOptions(quantize=arguments.quantize)
    file = as_asked(await open_model(await options.local_path(arguments.model)), asked)
    bar = options.ProgressBar(enabled=sys.stderr.isatty() and not arguments.quiet)
    load = _load_wasm if arguments.backend == "wasm" else _load_gpu
    try:
        loaded = await load(file, arguments, bar.show)
        bar.close()
        records = await loaded.store.load()
        table = Table(loaded.bandwidth)
        try:
            if arguments.records is not None:
                count = records.load_json(options.read_text(arguments.records))
                if not count:
                    raise InvalidRequestError(f"{arguments.records} holds no tuning records.")
                await loaded.store.save(records)
            result = await tune(
                loaded.runner,
                records,
                store=loaded.store,
                budget=arguments.budget,
                on_event=table.show,
            )
        finally:
            await loaded.runner.close()
    finally:
        file.close()
    if arguments.out is not None:
        _write(arguments.out, records)
    print_json(table.summary(result, loaded.name, arguments.model))


@dataclass
class _Loaded:
    """A model on what is to be measured."""

    runner: ModelRunner | WasmRunner
    store: Store
    bandwidth: float
    """Bytes per second that a copy reads."""
    name: str


async def _load_gpu(file: ModelFile, arguments: argparse.Namespace, show: Any) -> _Loaded:
    device = await Device.open()
    bandwidth = await copy_bandwidth(device, 32 << 20, 3)
    runner = await ModelRunner.load(
        device,
        file,
        context_length=arguments.context,
        kv=arguments.kv,
        max_sequences=1,
        arithmetic=arguments.arithmetic,
        on_progress=show,
    )
    return _Loaded(runner, default_store(device), bandwidth, device.name)


async def _load_wasm(file: ModelFile, arguments: argparse.Namespace, show: Any) -> _Loaded:
    machine = here()
    runner = await WasmRunner.load(
        file,
        context_length=arguments.context,
        max_sequences=1,
        threads=arguments.threads,
        kv=arguments.kv or "f32",
        on_progress=lambda done, total, seconds: show(Progress("weights", done, total, seconds)),
    )
    store = wasm_tuning.default_store(machine)
    return _Loaded(runner, store, _copy_bandwidth(machine), runner.device_name)


def _copy_bandwidth(machine: Host, nbytes: int = 64 << 20) -> float:
    """Return the bytes per second that one thread's copy reads."""
    module = Module(IMPORTED)
    f = module.function("copy", ["i32"] * 3)
    f.do(memory_copy(*f.parameters))
    memory = machine.allocate(2 * nbytes, False)
    copy = memory.instantiate(module.assemble())
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        copy.call("copy", nbytes, 0, nbytes)
        times.append(time.perf_counter() - begun)
    memory.close()
    return nbytes / min(times)


def _write(path: str, records: Records) -> None:
    try:
        Path(path).write_text(records.to_json(), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path} cannot be written ({error.strerror}).") from error


class Table:
    """A line per kernel on standard error; on a terminal the one being tuned is redrawn."""

    def __init__(self, bandwidth: float) -> None:
        """``bandwidth``: bytes per second that a copy reads, the ceiling of the column GB/s."""
        self._bandwidth = bandwidth
        self._live = sys.stderr.isatty()
        self._header = False
        self._events: dict[tuple[str, str], Event] = {}

    def show(self, event: Event) -> None:
        """Draw one event."""
        if event.done:
            self._events[event.workload, event.kernel] = event
        elif not self._live:
            return
        if not self._header:
            self._header = True
            print(
                f"{'step':8} {'kernel':34} {'tried':>8} {'wrong':>5} {'ms':>9} {'GB/s':>7} "
                f"{'of copy':>7} {'GFLOP/s':>8} {'default':>8} {'naive':>7}  choice",
                file=sys.stderr,
            )
        end = "\n" if event.done else "\r"
        print(f"{self._line(event)}", end=end, file=sys.stderr, flush=True)

    def _line(self, event: Event) -> str:
        tried = "known" if event.known else f"{event.tried}/{event.candidates}"
        return (
            f"{event.workload:8} {(event.kernel or 'whole step')[:34]:34} {tried:>8} "
            f"{event.rejected:5} {event.seconds * 1e3:9.3f} {event.bytes_per_s / 1e9:7.2f} "
            f"{event.bytes_per_s / self._bandwidth:7.1%} {event.flops_per_s / 1e9:8.2f} "
            f"{_gain(event.default_seconds, event.seconds):>8} "
            f"{_gain(event.naive_seconds, event.seconds):>7}  {event.tuning}"
        )

    def summary(self, result: TuningResult, where: str, name: str) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "tuning": name,
            "where": f"native, {where}",
            "seconds": round(result.seconds, 3),
            "bursts": result.bursts,
            "records": len(result.records),
            "copy_bandwidth_gb_s": round(self._bandwidth / 1e9, 3),
            "kernels": [_kernel(event) for event in self._events.values() if event.kernel],
            "steps": {
                event.workload: {
                    "seconds": event.seconds,
                    "default_seconds": event.default_seconds,
                    "gain": round(event.default_seconds / event.seconds, 3),
                }
                for event in self._events.values()
                if not event.kernel
            },
        }


def _gain(before: float, after: float) -> str:
    return f"{before / after:.2f}x" if before and after else ""


def _kernel(event: Event) -> dict[str, Any]:
    return {
        "step": event.workload,
        "kernel": event.kernel,
        "choice": event.tuning,
        "known": event.known,
        "tried": event.tried,
        "candidates": event.candidates,
        "rejected": event.rejected,
        "seconds": event.seconds,
        "default_seconds": event.default_seconds,
        "naive_seconds": event.naive_seconds,
        "share": round(event.share, 4),
        "gb_s": round(event.bytes_per_s / 1e9, 4),
        "gflop_s": round(event.flops_per_s / 1e9, 4),
    }
