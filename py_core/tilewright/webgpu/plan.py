"""Plans: a step recorded once as a flat list of dispatches, replayed for every token.

Recording compiles the kernels and creates the bind groups; replaying (``replay.py``) builds no
descriptor. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import settings
from ..errors import KernelError
from .device import BufferRange, Device, Pipeline
from .kernels.kernel import Grid, Kernel


@dataclass(frozen=True)
class Call:
    """A kernel and the ranges bound to its names, not yet compiled."""

    kernel: Kernel
    ranges: Mapping[str, BufferRange]


@dataclass(frozen=True)
class Dispatch:
    """One recorded dispatch."""

    pipeline: Pipeline
    group: Any
    grid: Grid


@dataclass(frozen=True, eq=False)
class Plan:
    """A recorded step."""

    label: str
    dispatches: tuple[Dispatch, ...]
    calls: tuple[Call, ...]
    """What the dispatches were made from: for profiling, cost and debugging."""
    parts: tuple[tuple[int | None, Plan], ...] = ()
    """The same in order, with the streamed layer that each needs; empty: all is there."""

    @property
    def nbytes(self) -> int:
        """Bytes that a replay must at least move."""
        return sum(call.kernel.cost.nbytes for call in self.calls)


async def record(device: Device, label: str, calls: Sequence[Call]) -> Plan:
    """Compile every kernel, side by side where the compiler can, and bind every call."""
    pipelines = await asyncio.gather(*(device.pipeline(call.kernel) for call in calls))
    dispatches = [
        Dispatch(pipeline, _bind(device, pipeline, call), call.kernel.grid)
        for call, pipeline in zip(calls, pipelines, strict=True)
    ]
    if settings.current().debug >= 5:
        for call in calls:
            print(f"{label}: {call.kernel.label} {call.kernel.grid}")
    return Plan(label, tuple(dispatches), tuple(calls))


def _bind(device: Device, pipeline: Pipeline, call: Call) -> Any:
    ranges: list[BufferRange] = []
    writable: set[int] = set()
    readable: set[int] = set()
    for binding in call.kernel.bindings:
        found = call.ranges.get(binding.name)
        if found is None:
            raise KernelError(f"{call.kernel.label}: nothing is bound to {binding.name!r}.")
        (writable if binding.access == "read_write" else readable).add(id(found.buffer))
        ranges.append(found)
    if writable & readable:
        raise KernelError(f"{call.kernel.label}: a buffer is both read and written.")
    return device.bind(pipeline, ranges)
