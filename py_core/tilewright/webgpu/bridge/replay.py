"""Recorded plans and read-backs of the browser: one JavaScript call for a whole token.

A plan is a flat ``array('i')`` of records of six int32; the fields depend on the first:

| operation | a | b | x | y | z |
|---|---|---|---|---|---|
| ``DISPATCH`` | pipeline | bind group (set at 0) | workgroups x | y | z |
| ``DISPATCH_INDIRECT`` | pipeline | bind group | buffer | offset in bytes | 0 |
| ``COPY`` | source buffer | destination buffer | source offset | destination offset | bytes |
| ``CLEAR`` | buffer | 0 | offset | bytes | 0 |

Pipelines, bind groups and buffers are given as indices into the lists handed over with the plan.
Consecutive dispatches share one compute pass. Knows nothing of what the commands compute.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

DISPATCH, DISPATCH_INDIRECT, COPY, CLEAR = range(4)
RECORD_FIELDS = 6


class Plan:
    """A recorded list of commands, kept on the JavaScript side."""

    def __init__(
        self,
        device: Any,
        pipelines: Sequence[Any],
        bind_groups: Sequence[Any],
        buffers: Sequence[Any],
        records: array[int],
    ) -> None:
        from pyodide.ffi import to_js

        from .objects import half

        if records.typecode != "i" or len(records) % RECORD_FIELDS:
            raise ValueError("records must be an array('i') of six fields per record")
        # The wrappers must outlive the plan; their JavaScript objects are its operands.
        self._keep = (device, list(pipelines), list(bind_groups), list(buffers))
        lists = (to_js([item._internal for item in group]) for group in self._keep[1:])
        self._plan = half().Plan.new(device._internal, *lists, records)
        self._replay = self._plan.replay
        self._patch = self._plan.patch

    def patch(self, record: int, x: int, y: int, z: int) -> None:
        """Change the last three fields of one record."""
        self._patch(record, x, y, z)

    def replay(
        self,
        ring: ReadRing | None = None,
        source: Any = None,
        offset: int = 0,
        nbytes: int = 0,
    ) -> None:
        """Submit the plan once; with a ring, read ``nbytes`` of ``source`` back in the same go."""
        if ring is None:
            self._replay()
        else:
            self._replay(ring._ring, source._internal, offset, nbytes)


def replay(plan: Plan) -> None:
    """Submit a plan once."""
    plan.replay()


class ReadRing:
    """``depth`` staging buffers of ``nbytes``: read-backs stay in flight, the oldest is awaited."""

    def __init__(self, device: Any, nbytes: int, depth: int) -> None:
        from .objects import half

        self._ring = half().ReadRing.new(device._internal, nbytes, depth)
        self._pop = self._ring.pop

    @property
    def pending(self) -> int:
        """How many read-backs were pushed and not yet popped."""
        return int(self._ring.pending)

    def push(self, source: Any, offset: int, nbytes: int) -> None:
        """Start reading a range of a COPY_SRC buffer (both numbers multiples of 4)."""
        self._ring.push(source._internal, offset, nbytes)

    async def pop(self) -> bytes:
        """Wait for the oldest read-back; raises ``wgpu.GPUError`` when the device was lost."""
        from pyodide.ffi import JsException

        from .promise import gpu_error

        try:
            data = await self._pop()
        except JsException as error:
            raise gpu_error(error.js_error) from error
        result: bytes = data.to_bytes()
        return result

    def destroy(self) -> None:
        """Free the staging buffers."""
        self._ring.destroy()
