"""Layers that are not on the device: read from the file each time they are needed.

All streamed layers share one room; work that was submitted reads the old layer before the queue
puts the next one there, so nothing has to be waited for. While the device computes, the next
layer's bytes go into the other staging buffer. Knows nothing of what a layer computes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..errors import KernelError
from ..formats.model_file import ModelFile
from ..graph.layers import parts
from ..graph.ops import Graph
from .device import BufferRange, Device
from .memory import Job, Loader, OnProgress, Weights, uploader
from .plan import Call, Plan, record
from .replay import Replayer


class Streamer:
    """Brings one layer after the other."""

    def __init__(self, device: Device, loader: Loader, weights: Weights) -> None:
        self._device = device
        self.weights = weights
        self.bytes_read = 0
        """Bytes of the file that were read for streamed layers."""
        self.seconds_reading = 0.0
        """Seconds in which the host did nothing but bring layers."""
        self._loader = loader
        self._order = sorted(loader.later)
        self._held: int | None = None

    @classmethod
    async def load(
        cls,
        device: Device,
        model: ModelFile,
        graph: Graph,
        layers: Sequence[int],
        staged: int,
        *,
        on_progress: OnProgress | None = None,
    ) -> Streamer:
        """Put the weights that stay on the device, and the first of ``layers``.

        ``staged``: bytes of a staging buffer (``memory.layer_staging``).
        Raises as ``load_weights``.
        """
        upload = uploader(device)
        loader = Loader(device, model, upload, on_progress, streamed=layers, staged=staged)
        async with device.all_or_nothing():
            made = cls(device, loader, await loader.load(graph))
            await made.bring(made._order[0])
        return made

    async def record(
        self, label: str, lower: Callable[[Graph], Sequence[Call]], graph: Graph
    ) -> Plan:
        """Record a step in parts, each of which needs at most one streamed layer."""
        made: list[tuple[int | None, Plan]] = []
        for part in parts(graph, self._order):
            name = label if part.layer is None else f"{label} layer {part.layer}"
            made.append((part.layer, await record(self._device, name, lower(part.graph))))
        dispatches = tuple(d for _, plan in made for d in plan.dispatches)
        calls = tuple(call for _, plan in made for call in plan.calls)
        return Plan(label, dispatches, calls, tuple(made))

    async def submit(
        self, replay: Replayer, plans: Sequence[Plan], result: BufferRange | None = None
    ) -> None:
        """Replay ``plans``, each layer brought before what needs it, then the first one again.

        Raises SourceError, after which ``result`` never comes.
        """
        ready: list[Plan] = []
        for plan in plans:
            for layer, part in plan.parts or ((None, plan),):
                if layer is not None and layer != self._held:
                    replay.submit(ready)
                    ready = []
                    await self.bring(layer)
                ready.append(part)
        replay.submit(ready, result)
        await self.bring(self._order[0])

    async def bring(self, layer: int) -> None:
        """Queue what puts a layer's matrices into the room. Raises SourceError, DeviceLostError."""
        if layer == self._held:
            return
        if layer not in self._loader.later:
            raise KernelError(f"Layer {layer} is not a streamed one.")
        self._held, begun = None, time.perf_counter()
        jobs: list[Job] = self._loader.later[layer]
        for job in jobs:
            await self._loader.load_matrix(job, self.weights.packed[job.weight])
        self._loader.staging.turn()
        self._held = layer
        self.bytes_read += sum(job.tensor.nbytes for job in jobs)
        self.seconds_reading += time.perf_counter() - begun

    @property
    def layers(self) -> tuple[int, ...]:
        """The streamed layers, rising."""
        return tuple(self._order)

    def stats(self) -> dict[str, float]:
        """Return what was streamed so far."""
        return {
            "streamed_layers": len(self._order),
            "streamed_bytes": self.bytes_read,
            "streaming_s": self.seconds_reading,
        }

    async def close(self) -> None:
        """Free the staging buffers (the weights belong to the model's state)."""
        await self._loader.staging.finish()
        self._loader.staging.release()
