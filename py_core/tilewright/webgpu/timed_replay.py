"""A replayer that prints what each kernel of a step takes: ``TILEWRIGHT_DEBUG=2``.

Every dispatch is a pass of its own with a timestamp at either end, so the sum is more than what an
undisturbed step takes. Works in both worlds; needs the feature ``timestamp-query``.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from .device import BufferRange, Device
from .plan import Plan
from .replay import Replayer

_MOST = 2048
"""Dispatches of a step that are timed: a query set holds 4096."""


class TimedReplayer:
    """Replays through another replayer's ring, dispatch by dispatch."""

    def __init__(self, device: Device, inner: Replayer) -> None:
        self._device = device
        self._inner = inner
        self._timed: deque[tuple[list[str], Any]] = deque()
        self.depth = inner.depth
        self.submits = 0

    @property
    def pending(self) -> int:
        """Results on their way."""
        return self._inner.pending

    def submit(self, plans: Sequence[Plan], result: BufferRange | None = None) -> None:
        """Submit every dispatch in a pass of its own, then what reads the result."""
        device = self._device
        dispatches = [dispatch for plan in plans for dispatch in plan.dispatches][:_MOST]
        rest = sum(len(plan.dispatches) for plan in plans) - len(dispatches)
        self.submits += 1
        if rest or not dispatches:
            return self._inner.submit(plans, result)
        queries = device.handle.create_query_set(type="timestamp", count=2 * len(dispatches))
        encoder = device.handle.create_command_encoder()
        for number, dispatch in enumerate(dispatches):
            writes = {
                "query_set": queries,
                "beginning_of_pass_write_index": 2 * number,
                "end_of_pass_write_index": 2 * number + 1,
            }
            compute = encoder.begin_compute_pass(timestamp_writes=writes)
            compute.set_pipeline(dispatch.pipeline.handle)
            compute.set_bind_group(0, dispatch.group)
            compute.dispatch_workgroups(*dispatch.grid)
            compute.end()
        nbytes = 16 * len(dispatches)
        times = device.buffer(nbytes, label="timestamps", usage=("QUERY_RESOLVE",))
        encoder.resolve_query_set(queries, 0, 2 * len(dispatches), times, 0)
        device.queue.submit([encoder.finish()])
        self._inner.submit((), result)
        labels = [dispatch.pipeline.label for dispatch in dispatches]
        self._timed.append((labels, times))
        return None

    async def fetch(self) -> bytes:
        """Wait for the oldest result; print the times of the steps up to it."""
        data = await self._inner.fetch()
        while self._timed:
            labels, times = self._timed.popleft()
            found = await self._device.read(times, 0, 16 * len(labels))
            self._device.release(times)
            print(table(labels, struct.unpack(f"<{2 * len(labels)}Q", found)))
        return data

    def release(self) -> None:
        """Free the ring and what was not printed."""
        for _, times in self._timed:
            self._device.release(times)
        self._timed.clear()
        self._inner.release()


def table(labels: Sequence[str], ticks: Sequence[int]) -> str:
    """Return a line per kernel, the longest first: dispatches, ticks (nanoseconds), share.

    >>> print(table(["norm", "matvec", "norm"], [0, 10, 10, 90, 90, 100]))
    step: 3 dispatches, 0.000 ms
       1 x matvec                                      0.000 ms  80.0%
       2 x norm                                        0.000 ms  20.0%
    """
    spent: Counter[str] = Counter()
    for number, label in enumerate(labels):
        spent[label] += max(ticks[2 * number + 1] - ticks[2 * number], 0)
    total = max(sum(spent.values()), 1)
    counts = Counter(labels)
    lines = [f"step: {len(labels)} dispatches, {total * 1e-6:.3f} ms"]
    for label, time in spent.most_common():
        milliseconds = f"{time * 1e-6:9.3f} ms"
        lines.append(f"{counts[label]:4} x {label[:40]:40} {milliseconds} {time / total:6.1%}")
    return "\n".join(lines)
