"""Replays plans, and reads their small results back late.

Natively a Python loop encodes the dispatches; in the browser ``webgpu/bridge`` replays a flat list
in one JavaScript call. A read-back goes through a ring of staging buffers: results are fetched in
the order of their submits, and the host may be several steps behind.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from .. import settings
from ..errors import DeviceLostError, KernelError
from .api import IN_BROWSER
from .device import BufferRange, Device
from .plan import Plan


class Replayer(Protocol):
    """Submits plans; at most ``depth`` results are on their way."""

    depth: int
    submits: int
    """How many submits there were, for the statistics."""

    @property
    def pending(self) -> int:
        """Results that were asked for and not yet fetched."""
        ...

    def submit(self, plans: Sequence[Plan], result: BufferRange | None = None) -> None:
        """Replay ``plans`` in order; with ``result`` also start reading that range back."""
        ...

    async def fetch(self) -> bytes:
        """Wait for the oldest result; DeviceLostError when it will never come."""
        ...

    def release(self) -> None:
        """Free the ring."""
        ...


class NativeReplayer:
    """Encodes every dispatch from Python."""

    def __init__(self, device: Device, result_bytes: int, depth: int) -> None:
        self._device = device
        self._staging = [
            device.buffer(result_bytes, label="read-back ring", usage=("MAP_READ",))
            for _ in range(depth)
        ]
        self._free = deque(self._staging)
        self._pending: deque[tuple[Any, int, Any]] = deque()
        self.depth = depth
        self.submits = 0

    @property
    def pending(self) -> int:
        """Results on their way."""
        return len(self._pending)

    def submit(self, plans: Sequence[Plan], result: BufferRange | None = None) -> None:
        """Encode and submit ``plans``."""
        if result is not None and not self._free:
            raise KernelError("More results are on their way than the read-back ring holds.")
        encoder = self._device.handle.create_command_encoder()
        compute = encoder.begin_compute_pass()
        set_pipeline, set_group = compute.set_pipeline, compute.set_bind_group
        dispatch_workgroups = compute.dispatch_workgroups
        for plan in plans:
            for dispatch in plan.dispatches:
                set_pipeline(dispatch.pipeline.handle)
                set_group(0, dispatch.group)
                dispatch_workgroups(*dispatch.grid)
        compute.end()
        staging = None
        if result is not None:
            staging = self._free.popleft()
            encoder.copy_buffer_to_buffer(result.buffer, result.offset, staging, 0, result.size)
        self._device.queue.submit([encoder.finish()])
        self.submits += 1
        if staging is not None and result is not None:
            ready = staging.map_async("READ", 0, result.size)
            self._pending.append((staging, result.size, ready))

    async def fetch(self) -> bytes:
        """Wait for the oldest result."""
        staging, size, ready = self._pending.popleft()
        try:
            await ready
            data = bytes(staging.read_mapped(0, size))
            staging.unmap()
        except Exception as error:
            raise DeviceLostError(f"The GPU did not return its result: {error}") from error
        self._free.append(staging)
        return data

    def release(self) -> None:
        """Free the ring."""
        for staging in self._staging:
            self._device.release(staging)


class BrowserReplayer:
    """Replays the bridge's form of each plan, made once."""

    def __init__(self, device: Device, result_bytes: int, depth: int) -> None:
        from . import bridge

        self._bridge = bridge
        self._device = device
        self._ring = bridge.ReadRing(device.handle, result_bytes, depth)
        self._recorded: WeakKeyDictionary[Plan, Any] = WeakKeyDictionary()
        self.depth = depth
        self.submits = 0

    @property
    def pending(self) -> int:
        """Results on their way."""
        return self._ring.pending

    def _record(self, plan: Plan) -> Any:
        pipelines = {id(d.pipeline): d.pipeline.handle for d in plan.dispatches}
        numbers = {key: number for number, key in enumerate(pipelines)}
        records = array("i")
        for number, dispatch in enumerate(plan.dispatches):
            place = numbers[id(dispatch.pipeline)]
            records.extend((self._bridge.DISPATCH, place, number, *dispatch.grid))
        groups = [dispatch.group for dispatch in plan.dispatches]
        return self._bridge.Plan(self._device.handle, list(pipelines.values()), groups, [], records)

    def submit(self, plans: Sequence[Plan], result: BufferRange | None = None) -> None:
        """Replay ``plans``, one JavaScript call each."""
        for number, plan in enumerate(plans):
            recorded = self._recorded.get(plan)
            if recorded is None:
                recorded = self._recorded[plan] = self._record(plan)
            if result is not None and number == len(plans) - 1:
                recorded.replay(self._ring, result.buffer, result.offset, result.size)
            else:
                recorded.replay()
        if not plans and result is not None:
            self._ring.push(result.buffer, result.offset, result.size)
        self.submits += 1

    async def fetch(self) -> bytes:
        """Wait for the oldest result."""
        try:
            return await self._ring.pop()
        except Exception as error:
            raise DeviceLostError(f"The GPU did not return its result: {error}") from error

    def release(self) -> None:
        """Free the ring."""
        self._ring.destroy()
        self._recorded.clear()


def replayer(device: Device, result_bytes: int, depth: int = 8) -> Replayer:
    """Return the replayer of the world we run in."""
    kind = BrowserReplayer if IN_BROWSER else NativeReplayer
    plain = kind(device, result_bytes, depth)
    if settings.current().debug >= 2 and device.capabilities.timestamps:
        from .timed_replay import TimedReplayer

        return TimedReplayer(device, plain)
    return plain
