"""Times bursts of dispatches: by timestamp queries where they exist, else by whole submits.

Knows recorded dispatches and a device; not what they compute.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import TilewrightError
from ..webgpu.device import Device
from ..webgpu.plan import Dispatch

_NANOSECOND = 1e-9
_CREDIBLE = 5 * _NANOSECOND
"""A tick is a nanosecond, as WebGPU says, unless the clock on the wall never shows less than this:
then a native driver counts in units of its own."""
_RESOLVED = 1000
"""Ticks up to which a clock counts as exact."""
_COARSE = 16
"""Ticks of a browser's coarse clock that a burst must have: an error of about 6 percent."""
_MOST_REPEATS = 64


class Stopwatch(Protocol):
    """Measures how long the GPU takes."""

    async def time(self, dispatches: Sequence[Dispatch]) -> float:
        """Submit ``dispatches`` in one pass; return the seconds they took."""
        ...

    def release(self) -> None:
        """Free what it holds on the device."""
        ...


def _encode(encoder: Any, dispatches: Sequence[Dispatch], **descriptor: Any) -> None:
    compute = encoder.begin_compute_pass(**descriptor)
    for dispatch in dispatches:
        compute.set_pipeline(dispatch.pipeline.handle)
        compute.set_bind_group(0, dispatch.group)
        compute.dispatch_workgroups(*dispatch.grid)
    compute.end()


class SubmitStopwatch:
    """From the submit to a read-back behind it: bursts must be long against that."""

    def __init__(self, device: Device) -> None:
        self._device = device

    async def time(self, dispatches: Sequence[Dispatch]) -> float:
        """Submit and wait."""
        encoder = self._device.handle.create_command_encoder()
        _encode(encoder, dispatches)
        commands = encoder.finish()
        start = time.perf_counter()
        self._device.queue.submit([commands])
        await self._device.finish()
        return time.perf_counter() - start

    def release(self) -> None:
        """Nothing to free."""


class TimestampStopwatch:
    """From the beginning to the end of the pass, on the GPU's own clock.

    Browsers round it (Chromium to about 0.1 ms): the step is learned from the values seen, and a
    burst that is too short against it is done several times in one pass.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._queries = device.handle.create_query_set(type="timestamp", count=2)
        self._resolved = device.buffer(16, label="timestamps", usage=("QUERY_RESOLVE",))
        self._ratio = float("inf")
        """Least wall clock seconds per tick of a long burst."""
        self._step = 0
        """Ticks between two values that the clock can show."""

    async def time(self, dispatches: Sequence[Dispatch]) -> float:
        """Submit, wait, and subtract the two timestamps."""
        repeats = 1
        while True:
            ticks, wall = await self._ticks([*dispatches] * repeats)
            coarse = self._step > _RESOLVED and ticks < _COARSE * self._step
            if not coarse or repeats >= _MOST_REPEATS or not dispatches:
                break
            repeats *= 4
        if ticks <= 0:
            return wall / repeats
        own_unit = _CREDIBLE < self._ratio < float("inf")
        tick = self._ratio if own_unit else _NANOSECOND
        return float(min(ticks * tick, wall)) / repeats

    async def _ticks(self, dispatches: Sequence[Dispatch]) -> tuple[int, float]:
        """Return the ticks of one burst, and the seconds on the wall until it was read back."""
        encoder = self._device.handle.create_command_encoder()
        writes = {
            "query_set": self._queries,
            "beginning_of_pass_write_index": 0,
            "end_of_pass_write_index": 1,
        }
        _encode(encoder, dispatches, timestamp_writes=writes)
        encoder.resolve_query_set(self._queries, 0, 2, self._resolved, 0)
        start = time.perf_counter()
        self._device.queue.submit([encoder.finish()])
        data = await self._device.read(self._resolved, 0, 16)
        wall = time.perf_counter() - start
        first, last = struct.unpack("<QQ", data)
        self._step = math.gcd(self._step, first, last)
        ticks = max(last - first, 0)
        if wall > 2e-3 and ticks > 0:
            self._ratio = min(self._ratio, wall / ticks)
        return ticks, wall

    def release(self) -> None:
        """Free the resolved values."""
        self._device.release(self._resolved)


async def stopwatch(device: Device) -> Stopwatch:
    """Return the best stopwatch that this device offers."""
    if device.capabilities.timestamps and not device.capabilities.software:
        try:
            found = TimestampStopwatch(device)
            await found.time(())
        except (TilewrightError, AttributeError, TypeError, NotImplementedError):
            pass
        else:
            return found
    return SubmitStopwatch(device)
