"""Layers that are not in the memory: read from the file each time they are needed.

All streamed layers share one room. While one is computed with, the bytes of the next are read into
the room for raw weights; once the first is done with, they are re-laid out over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable

from ..errors import KernelError, TilewrightError
from ..formats.model_file import TensorInfo
from .weights import Job, Loader, runs


class Streamer:
    """Brings one layer after the other."""

    def __init__(self, loader: Loader) -> None:
        self.bytes_read = 0
        """Bytes of the file that were read for streamed layers."""
        self.seconds_waiting = 0.0
        """Seconds in which nothing was computed because a layer was not there."""
        self._loader = loader
        self._jobs: dict[int, list[Job]] = {}
        for job in loader.jobs:
            if job.layer is not None:
                self._jobs.setdefault(job.layer, []).append(job)
        self._order = sorted(self._jobs)
        self._runs = {layer: runs(j.tensor for j in jobs) for layer, jobs in self._jobs.items()}
        self._held: int | None = None
        self._coming: tuple[int, list[Awaitable[None]]] | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """The streamed layers, rising."""
        return tuple(self._order)

    async def bring(self, layer: int) -> None:
        """Put a layer's matrices into the room, and begin to read the next. Raises SourceError."""
        if layer == self._held:
            return
        begun = time.perf_counter()
        if self._coming is None or self._coming[0] != layer:
            await self._drop()
            self._begin(layer)
        assert self._coming is not None
        coming, self._coming, self._held = self._coming[1], None, None
        try:
            while coming:
                await coming.pop(0)
        except BaseException:
            self._coming = layer, coming  # what is left still writes into the raw room
            await self._drop()
            raise
        for job in self._jobs[layer]:
            self._loader.unpack(job, self._place(layer, job.tensor), 0, job.tensor.rows)
        self.bytes_read += sum(run.nbytes for run in self._runs[layer])
        self._held = layer
        self._begin(self._order[(self._order.index(layer) + 1) % len(self._order)])
        self.seconds_waiting += time.perf_counter() - begun
        await asyncio.sleep(0)  # requests are sent before the thread computes

    def _place(self, layer: int, tensor: TensorInfo) -> int:
        """Return where a tensor's bytes lie."""
        for run in self._runs[layer]:
            inside = tensor.offset - run.offset
            if run.source == tensor.source and 0 <= inside < run.nbytes:
                return self._loader.raw + run.at + inside
        raise KernelError(f"Layer {layer} has no tensor {tensor.name}.")

    def _begin(self, layer: int) -> None:
        self._coming = layer, [self._loader.fetch(run) for run in self._runs[layer]]

    async def _drop(self) -> None:
        """Wait for what is on its way and forget it."""
        coming, self._coming = self._coming, None
        for one in coming[1] if coming else ():
            with contextlib.suppress(TilewrightError):
                await one

    def stats(self) -> dict[str, float]:
        """Return what was streamed so far."""
        return {
            "streamed_layers": len(self._order),
            "streamed_bytes": self.bytes_read,
            "streaming_s": self.seconds_waiting,
        }

    async def close(self) -> None:
        """Wait until nothing is written into the memory any more."""
        await self._drop()
