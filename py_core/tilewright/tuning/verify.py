"""Holds a candidate's results against the naive kernel's, on the device.

What a kernel writes is redirected into buffers that were filled with a mark before, so that values
it forgets to write are seen too. Knows recorded dispatches; no model.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..webgpu.device import BufferRange, Device
from ..webgpu.kernels import compare
from ..webgpu.kernels.kernel import EXACT
from ..webgpu.plan import Call, record

_PACKED = 0.05
"""Share of packed words (f16, int8 caches) that may round the other way."""

Results = list[tuple[BufferRange, bool]]
"""Where results are, and whether they are f32."""


@dataclass(frozen=True)
class Reference:
    """What one run of a kernel wrote."""

    results: Any
    """``Results``, or on a CPU path their bytes."""
    seconds: float = 0.0
    """Of that run, compiled before; 0: not measured."""


@dataclass(frozen=True)
class Verdict:
    """How a candidate compares with the naive kernel."""

    correct: bool
    error: float
    """Largest difference as a share of the largest magnitude."""
    seconds: float = 0.0
    """Of the run that was compared; 0: not measured."""


class Verifier:
    """Compares candidates of one kernel at a time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, int], BufferRange] = {}
        self._outgrown: list[BufferRange] = []
        """Too small by now, but calls that were redirected to them may not have run."""
        self._report = self._buffer("report", 0, compare.OUT_BYTES)

    def _buffer(self, role: str, number: int, size: int) -> BufferRange:
        """Return a buffer of exactly ``size`` bytes (bound so), kept for the next kernels."""
        kept = self._buffers.get((role, number))
        if kept is None or kept.size < size:
            if kept is not None:
                self._outgrown.append(kept)
            handle = self._device.buffer(size, label=f"verify {role}")
            kept = self._buffers[role, number] = BufferRange(handle, 0, handle.size)
        return BufferRange(kept.buffer, 0, size)

    def redirect(self, role: str, calls: Sequence[Call]) -> tuple[list[Call], Results]:
        """Let ``calls`` write to buffers of the bench; return them, and what they write.

        So neither verifying nor timing changes what any kernel reads. ``role`` names the buffers:
        ``expected`` or ``found``.
        """
        places: dict[int, BufferRange] = {}
        results = []
        for number, (found, floats) in enumerate(_results(calls)):
            places[id(found.buffer)] = place = self._buffer(role, number, found.size)
            results.append((place, floats))
        redirected = [
            replace(
                call,
                ranges={
                    name: places.get(id(r.buffer), r) if _writes(call, name) else r
                    for name, r in call.ranges.items()
                },
            )
            for call in calls
        ]
        return redirected, results

    async def run(self, role: str, calls: Sequence[Call]) -> Reference:
        """Run ``calls`` with their results redirected and marked before; return those."""
        redirected, results = self.redirect(role, calls)
        plan = await record(self._device, f"verify {role}", redirected)
        # some drivers compile at the first dispatch: let that be a small one
        await submit(self._device, [replace(d, grid=(1, 1, 1)) for d in plan.dispatches])
        for place, _ in results:
            mark = array("I", [compare.POISON]) * (place.size // 4)
            self._device.queue.write_buffer(place.buffer, 0, mark.tobytes())
        await self._device.finish()
        begun = time.perf_counter()
        await submit(self._device, plan.dispatches)
        return Reference(results, time.perf_counter() - begun)

    async def compare(
        self, expected: Reference, found: Reference, tolerance: float = EXACT
    ) -> Verdict:
        """Compare two runs' results."""
        if [floats for _, floats in expected.results] != [floats for _, floats in found.results]:
            return Verdict(False, float("inf"))
        worst = 0.0
        for (a, floats), (b, _) in zip(expected.results, found.results, strict=True):
            if a.size != b.size:
                return Verdict(False, float("inf"))
            kernel = compare.kernel(a.size // 4, floats=floats)
            ranges = {"expected": a, "found": b, "out": self._report}
            plan = await record(self._device, "compare", [Call(kernel, ranges)])
            await submit(self._device, plan.dispatches)
            data = await self._device.read(self._report.buffer, 0, compare.OUT_BYTES)
            numbers = array("f", data)
            difference, largest = max(numbers[0::4]), max(numbers[1::4])
            broken, written = sum(numbers[2::4]), sum(numbers[3::4])
            if not written or broken > (0.0 if floats else _PACKED * written):
                return Verdict(False, float("inf"))
            worst = max(worst, difference / largest if largest > 0 else difference)
        return Verdict(worst <= tolerance, worst, found.seconds)

    def release(self) -> None:
        """Free the buffers."""
        for kept in (*self._buffers.values(), *self._outgrown):
            self._device.release(kept.buffer)
        self._buffers.clear()
        self._outgrown.clear()


def _writes(call: Call, name: str) -> bool:
    return any(b.name == name and b.access == "read_write" for b in call.kernel.bindings)


def _results(calls: Sequence[Call]) -> Results:
    """Return what ``calls`` write for others: not what only passes between them."""
    read = {
        id(call.ranges[b.name].buffer)
        for call in calls
        for b in call.kernel.bindings
        if b.access == "read"
    }
    found: dict[int, tuple[BufferRange, bool]] = {}
    for call in calls:
        for binding in call.kernel.bindings:
            place = call.ranges[binding.name]
            if binding.access == "read_write" and id(place.buffer) not in read:
                floats = "f" in binding.type.removeprefix("array")
                found.setdefault(id(place.buffer), (place, floats))
    return list(found.values())


async def submit(device: Device, dispatches: Sequence[Any]) -> None:
    """Submit dispatches in one pass and wait for them."""
    encoder = device.handle.create_command_encoder()
    compute = encoder.begin_compute_pass()
    for dispatch in dispatches:
        compute.set_pipeline(dispatch.pipeline.handle)
        compute.set_bind_group(0, dispatch.group)
        compute.dispatch_workgroups(*dispatch.grid)
    compute.end()
    device.queue.submit([encoder.finish()])
    await device.finish()
