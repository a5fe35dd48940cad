"""Chooses between GPU and CPU where nobody has: by what is there, then by a short measurement.

Both compute the same product of a matrix and one vector, of a size that no cache holds: what decode
mostly is. A software adapter is not measured: it is the same processor, with less of it in use. The
outcome is remembered per adapter, library and number of cores. Knows no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import time
from dataclasses import dataclass
from typing import Literal

from .. import settings
from ..errors import DeviceUnavailableError, SourceError, TilewrightError
from ..formats.quant import BY_NAME
from ..tuning.stopwatch import stopwatch
from ..tuning.store import FolderStorage, Storage
from ..wasm import host
from ..wasm.assembler import Module
from ..wasm.instructions import without_relaxed
from ..wasm.kernels import linear as wasm_linear
from ..wasm.kernels.packing import packing as cpu_packing
from ..wasm.kernels.quantize import activation_bytes
from ..webgpu.api import library
from ..webgpu.device import BufferRange, Device
from ..webgpu.kernels import matvec
from ..webgpu.kernels.kernel import Capabilities, Span
from ..webgpu.kernels.linear import LinearStructure
from ..webgpu.kernels.packing import packing
from ..webgpu.plan import Call, record

Backend = Literal["webgpu", "wasm"]
FORMAT, ROWS, COLUMNS = "Q8_0", 4096, 2048
"""Of the matrix: 9 MB."""
_BURST = 8
"""Products that are timed together."""


@dataclass(frozen=True)
class Choice:
    """What was chosen."""

    backend: Backend
    device: Device | None
    """Open, where it was the GPU."""
    reason: str


async def choose(storage: Storage | None = None) -> Choice:
    """Choose a backend. Raises DeviceUnavailableError where there is neither.

    A device is opened only where it is wanted: that takes up to a second on a software adapter.
    """
    machine = _machine()
    try:
        adapter = await Device.probe()
        if machine is None:
            return _told(Choice("webgpu", await Device.open(), "the CPU path is not installed"))
        if adapter.software:
            return _told(Choice("wasm", None, f"the GPU is software ({adapter.key})"))
        storage = storage or FolderStorage()
        name = _name(adapter, machine)
        times = _parsed(await storage.read(name))
        device = None
        if times is None or times[0] <= times[1]:
            device = await Device.open()
    except DeviceUnavailableError as error:
        if machine is None:
            raise
        return _told(Choice("wasm", None, f"no GPU: {error.message}"))
    if times is None:
        assert device is not None
        times = await gpu_seconds(device), cpu_seconds(machine)
        with contextlib.suppress(SourceError):  # measured again next time
            await storage.write(name, json.dumps({"gpu_s": times[0], "cpu_s": times[1]}))
    reason = f"a product takes {1e3 * times[0]:.2f} ms on the GPU, {1e3 * times[1]:.2f} on the CPU"
    if times[0] <= times[1]:
        return _told(Choice("webgpu", device, reason))
    if device is not None:
        device.handle.destroy()
    return _told(Choice("wasm", None, reason))


async def still_cpu(storage: Storage | None = None) -> bool:
    """Whether ``choose`` would take the processor again, as far as is known without measuring."""
    machine = _machine()
    try:
        adapter = await Device.probe()
    except DeviceUnavailableError:
        return True
    if machine is None:
        return False
    if adapter.software:
        return True
    times = _parsed(await (storage or FolderStorage()).read(_name(adapter, machine)))
    return times is not None and times[0] > times[1]


def _name(adapter: Capabilities, machine: host.Host) -> str:
    place = f"{adapter.key}|{library()}|{machine.cores}|{machine.relaxed}|{machine.dots}"
    return "backend-" + hashlib.sha256(place.encode()).hexdigest()[:16]


async def likely_gpu(backend: str | None) -> Capabilities | None:
    """Return what the GPU offers on which a model would be loaded; None: the processor computes.

    ``backend``: that was asked for. Measures nothing: a GPU that is no software counts. Raises
    DeviceUnavailableError where it was asked for and is not there.
    """
    backend = backend or settings.current().backend
    if backend == "wasm":
        return None
    try:
        adapter = await Device.probe()
    except DeviceUnavailableError:
        if backend == "webgpu" or _machine() is None:
            raise
        return None
    return None if adapter.software and not backend and _machine() is not None else adapter


def _told(choice: Choice) -> Choice:
    if settings.current().debug >= 1:
        print(f"backend: {choice.backend} ({choice.reason})")
    return choice


def _machine() -> host.Host | None:
    try:
        return host.here()
    except DeviceUnavailableError:
        return None


def _parsed(text: str | None) -> tuple[float, float] | None:
    """Return the times of a stored text, or None where it holds none."""
    try:
        found = json.loads(text or "")
        times = float(found["gpu_s"]), float(found["cpu_s"])
    except (ValueError, TypeError, KeyError):
        return None
    return times if min(times) > 0 else None


def cpu_seconds(machine: host.Host) -> float:
    """Return the seconds of one product on all cores, from one core's."""
    form = cpu_packing(BY_NAME[FORMAT], machine.dots)
    assert form is not None
    structure = wasm_linear.Structure(form, wide=form.quants == "byte")
    module = Module(host.IMPORTED)
    tuning = wasm_linear.default(
        structure,
        many=False,
        relaxed=machine.relaxed,
        splat=machine.splat,
        dots=machine.dots,
    )
    with without_relaxed(not machine.relaxed):
        wasm_linear.add_linear(module, "product", structure, tuning)
    weights = 64
    x = weights + form.nbytes(ROWS, COLUMNS) + 64
    out = x + activation_bytes(COLUMNS, wide=structure.wide) + 64
    memory = machine.allocate(out + 4 * ROWS + 64, False)
    product = memory.instantiate(module.assemble())
    best = float("inf")
    # Engines compile better code while the first bursts run.
    for _ in range(6):
        begun = time.perf_counter()
        for _ in range(_BURST):
            product.call("product", weights, COLUMNS // 32, ROWS, x, 0, 1, out, 0, 0)
        best = min(best, (time.perf_counter() - begun) / _BURST)
    memory.close()
    return best / machine.cores


async def gpu_seconds(device: Device) -> float:
    """Return the seconds of one product on a device; infinite where it fails."""
    form = packing(BY_NAME[FORMAT])
    structure = LinearStructure(FORMAT, ROWS, COLUMNS, 1, Span(COLUMNS), Span(ROWS))
    sizes = {
        "step": 16,
        "x": 4 * COLUMNS,
        "quants": 4 * ROWS * form.quant_words(COLUMNS),
        "scales": 4 * ROWS * form.scale_words(COLUMNS),
        "out": 4 * ROWS,
    }
    buffers = {}
    watch = await stopwatch(device)
    try:
        tuning = matvec.default(structure, device.capabilities)
        kernel = matvec.kernel(structure, tuning, device.capabilities)
        for binding in kernel.bindings:
            usage = ("UNIFORM",) if binding.access == "uniform" else ()
            buffers[binding.name] = device.buffer(sizes[binding.name], usage=usage)
        device.queue.write_buffer(buffers["step"], 0, struct.pack("<4I", 1, 1, 1, 0))
        ranges = {name: BufferRange(b, 0, b.size) for name, b in buffers.items()}
        (dispatch,) = (await record(device, "backend", [Call(kernel, ranges)])).dispatches
        await watch.time([dispatch])
        pairs = [
            (await watch.time([dispatch] * (1 + _BURST)), await watch.time([dispatch]))
            for _ in range(3)
        ]
        # Submitting and waiting cost the same for one and for many.
        few, many = min(p[1] for p in pairs), min(p[0] for p in pairs)
        return max(many - few, 1e-7) / _BURST
    except TilewrightError:
        return float("inf")
    finally:
        watch.release()
        for buffer in buffers.values():
            device.release(buffer)
