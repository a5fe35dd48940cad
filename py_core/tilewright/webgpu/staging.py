"""Staging buffers of the loader: raw file blocks on their way, repacked many tensors a submit.

Pieces are placed one after the other in a staging buffer; when it is full its repack dispatches are
submitted and the other buffer is used, so that reading and repacking overlap and at most two
buffers of file bytes are on their way. Knows nothing of models.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from .device import BufferRange, Device, Fence, Pipeline
from .kernels.kernel import Kernel

_COUNT = 2
_ALIGNMENT = 256
"""Of binding offsets, on every device."""
_JOBS = 64
"""Repack dispatches per submit."""


def padded(nbytes: int) -> int:
    """Return the room that a piece of ``nbytes`` takes in a buffer."""
    return -(-(nbytes + 4) // _ALIGNMENT) * _ALIGNMENT


def nbytes(size: int, widest: int, whole: int) -> int:
    """Return the most bytes that a ``Staging`` of ``size`` takes for rows of up to ``widest``.

    ``whole``: bytes in all; where they fit one buffer the second is not made.
    """
    one = max(size, widest + 4) + _JOBS * _ALIGNMENT + 2 * 16  # and a fence with its marker
    return one if whole <= size // 2 else _COUNT * one


@dataclass
class _Buffer:
    raw: Any
    jobs: Any
    used: int = 0
    fence: Fence | None = None


class Staging:
    """Two staging buffers of ``size`` bytes or more, used in turn."""

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self._size = size
        self._buffers: list[_Buffer] = []
        self._turn = 0
        self._pending: list[tuple[Kernel, Pipeline, Any]] = []
        self._full = False

    async def room(self, nbytes: int) -> tuple[Any, int]:
        """Return a buffer and a byte offset in it with room for ``nbytes`` and their padding."""
        wanted = nbytes + 4
        if not self._buffers:
            self._buffers.append(self._make(wanted))
        current = self._buffers[self._turn]
        full = self._full or len(self._pending) == _JOBS
        if full or current.used + wanted > current.raw.size:
            current = await self._switch(wanted)
        offset = current.used
        current.used = offset + padded(nbytes)
        return current.raw, offset

    def _make(self, wanted: int) -> _Buffer:
        raw = self._device.buffer(max(self._size, wanted), label="raw weights")
        jobs = self._device.buffer(_JOBS * _ALIGNMENT, label="repack jobs", usage=("UNIFORM",))
        return _Buffer(raw, jobs)

    async def _switch(self, wanted: int) -> _Buffer:
        """Submit the current buffer's work and return the other one, empty."""
        self.flush()
        self._full = False
        self._buffers[self._turn].fence = self._device.fence()
        self._turn = (self._turn + 1) % _COUNT
        if self._turn == len(self._buffers):
            self._buffers.append(self._make(wanted))
        found = self._buffers[self._turn]
        if found.fence is not None:
            await found.fence.reached()
            found.fence = None
        if found.raw.size < wanted:
            self._device.release(found.raw)
            found.raw = self._device.buffer(wanted, label="raw weights")
        found.used = 0
        return found

    def repack(
        self,
        kernel: Kernel,
        pipeline: Pipeline,
        offset: int,
        quants: BufferRange,
        scales: BufferRange,
        job: tuple[int, int, int],
    ) -> None:
        """Queue the repacking of the piece at ``offset``; ``job``: first row, rows, rows in all."""
        current = self._buffers[self._turn]
        at = len(self._pending) * _ALIGNMENT
        self._device.queue.write_buffer(current.jobs, at, struct.pack("<4I", *job, 0))
        named = {
            "raw": BufferRange(current.raw, offset, current.raw.size - offset),
            "quants": quants,
            "scales": scales,
            "job": BufferRange(current.jobs, at, 16),
        }
        group = self._device.bind(pipeline, [named[b.name] for b in kernel.bindings])
        self._pending.append((kernel, pipeline, group))

    def flush(self) -> None:
        """Submit what is queued."""
        if not self._pending:
            return
        encoder = self._device.handle.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for kernel, pipeline, group in self._pending:
            compute.set_pipeline(pipeline.handle)
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(*kernel.grid)
        compute.end()
        self._device.queue.submit([encoder.finish()])
        self._pending.clear()

    def turn(self) -> None:
        """Submit what is queued; what comes next goes into the other buffer."""
        self.flush()
        self._full = bool(self._buffers)

    async def finish(self) -> None:
        """Submit everything and wait for it."""
        self.flush()
        await self._device.finish()
        for found in self._buffers:
            if found.fence is not None:
                await found.fence.reached()
                found.fence = None

    def release(self) -> None:
        """Free the buffers."""
        for found in self._buffers:
            self._device.release(found.raw)
            self._device.release(found.jobs)
        self._buffers.clear()
