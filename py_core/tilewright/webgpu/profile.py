"""Measures the device itself: the ceilings that kernels are held against (the roofline).

Bandwidth by a copy between two buffers, arithmetic by a kernel that does nothing else. Knows
nothing of models.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from .device import BufferRange, Device
from .kernels import peak
from .plan import Call, record

_GROUPS = 512
_ENOUGH = 0.01
"""Seconds of arithmetic after which submitting no longer matters."""
_MOST_STEPS = 1 << 14


@dataclass(frozen=True)
class Ceilings:
    """The most that a device does."""

    bytes_per_s: float
    """That a copy moves, reading and writing."""
    flops_per_s: float
    """Products and sums in f32."""

    def share(self, bytes_per_s: float, flops_per_s: float) -> float:
        """Return how near something comes to the nearer of the two ceilings: 1 is all of it."""
        return max(bytes_per_s / self.bytes_per_s, flops_per_s / self.flops_per_s)


async def ceilings(device: Device) -> Ceilings:
    """Measure both (about a tenth of a second)."""
    return Ceilings(2 * await copy_bandwidth(device, 32 << 20, 3), await arithmetic_peak(device))


async def copy_bandwidth(device: Device, nbytes: int = 64 << 20, repeat: int = 5) -> float:
    """Return bytes per second that a buffer copy reads (it writes as many again).

    The best of ``repeat`` bursts, each long enough that submitting does not matter.
    """
    nbytes = min(nbytes, device.capabilities.max_buffer // 2)
    source = device.buffer(nbytes, label="bandwidth source")
    target = device.buffer(nbytes, label="bandwidth target")
    best = 0.0
    try:
        for _ in range(repeat):
            encoder = device.handle.create_command_encoder()
            for _ in range(4):
                encoder.copy_buffer_to_buffer(source, 0, target, 0, nbytes)
            start = time.perf_counter()
            device.queue.submit([encoder.finish()])
            await device.finish()
            best = max(best, 4 * nbytes / (time.perf_counter() - start))
    finally:
        device.release(source)
        device.release(target)
    return best


async def arithmetic_peak(device: Device, repeat: int = 3) -> float:
    """Return f32 operations per second; the chains grow until a burst takes long enough."""
    workgroup = min(64, device.capabilities.max_invocations)
    out = device.buffer(16 * _GROUPS * workgroup, label="peak")
    steps, best = 64, 0.0
    try:
        while True:
            kernel = peak.kernel(_GROUPS, workgroup, steps)
            call = Call(kernel, {"out": BufferRange(out, 0, out.size)})
            plan = await record(device, "peak", [call])
            seconds = float("inf")
            for _ in range(1 + repeat):  # drivers compile at the first dispatch
                encoder = device.handle.create_command_encoder()
                compute = encoder.begin_compute_pass()
                for dispatch in plan.dispatches:
                    compute.set_pipeline(dispatch.pipeline.handle)
                    compute.set_bind_group(0, dispatch.group)
                    compute.dispatch_workgroups(*dispatch.grid)
                compute.end()
                start = time.perf_counter()
                device.queue.submit([encoder.finish()])
                await device.finish()
                seconds = min(seconds, time.perf_counter() - start)
            best = max(best, kernel.cost.flops / seconds)
            if seconds >= _ENOUGH or steps >= _MOST_STEPS:
                return best
            steps *= 8
    finally:
        device.release(out)
