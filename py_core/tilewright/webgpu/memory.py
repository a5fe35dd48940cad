"""Weights in GPU memory: where they go, and how they get there.

Matrices are stored as the planes that their format's role file reads (``kernels/packing.py``); the
raw blocks of the file are uploaded in bounded pieces and re-laid out by a compute shader. Vectors
(norm weights, biases) become f32. A matrix larger than the device's binding limit is split by rows
into shards. Tensors are visited in file order, so that a network source can be one long stream.
Knows nothing of what the weights mean.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import OutOfMemoryError
from ..formats.arrival import Arrival
from ..formats.floats import to_floats
from ..formats.model_file import ModelFile, TensorInfo
from ..formats.quant import F32
from ..formats.source import ByteSource
from ..graph.layers import layer_of, matrices, role_of
from ..graph.ops import Graph, Weight
from . import staging
from .api import IN_BROWSER
from .device import BufferRange, Device, buffer_bytes
from .kernels import repack
from .kernels.kernel import Capabilities
from .kernels.packing import Packing, packing, table_bytes

PIECE = 8 << 20
"""Bytes of file that are on their way to the GPU at once, per staging buffer."""
_SHARD_ROWS = 64


@dataclass(frozen=True)
class Progress:
    """How far loading is."""

    phase: str
    done: int
    total: int
    """Bytes."""
    seconds: float
    tuned: int = 0
    """Kernels that were tuned meanwhile."""


OnProgress = Callable[[Progress], None]


class Uploader(Protocol):
    """Moves a byte range of a source into a GPU buffer; in the browser without Python."""

    async def __call__(
        self, source: ByteSource, offset: int, length: int, buffer: Any, at: int
    ) -> None:
        """Copy ``length`` bytes to ``buffer`` at byte ``at``; up to 3 bytes after may be zeroed."""
        ...


@dataclass(frozen=True)
class Shard:
    """Rows of a matrix that fit one binding."""

    first_row: int
    rows: int
    quants: BufferRange
    scales: BufferRange


@dataclass(frozen=True)
class PackedWeight:
    """A matrix on the GPU."""

    weight: Weight
    packing: Packing
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Weights:
    """All weights of a graph on the GPU."""

    packed: dict[Weight, PackedWeight]
    vectors: dict[Weight, BufferRange]
    tables: dict[str, BufferRange]
    """Lookup tables of the formats in use."""
    nbytes: int

    def release(self, device: Device) -> None:
        """Free every buffer; streamed layers share theirs."""
        shards = [shard for found in self.packed.values() for shard in found.shards]
        planes = [plane for shard in shards for plane in (shard.quants, shard.scales)]
        ranges = (*planes, *self.vectors.values(), *self.tables.values())
        for buffer in {id(found.buffer): found.buffer for found in ranges}.values():
            device.release(buffer)


def vectors(graph: Graph) -> list[Weight]:
    """Return the weights that kernels read as plain f32."""
    packed = set(matrices(graph))
    return list(dict.fromkeys(w for op in graph.ops for w in op.weights() if w not in packed))


def plan_shards(weight: Weight, capabilities: Capabilities) -> list[tuple[int, int]]:
    """Return (first row, rows) of the shards of a matrix; OutOfMemoryError where a row is too long.

    A matrix is split where it exceeds a binding or a buffer.
    """
    form = packing(weight.quant)
    row_bytes = 4 * max(form.quant_words(weight.columns), form.scale_words(weight.columns))
    limit = min(capabilities.max_binding, capabilities.max_buffer)
    per_shard = limit // row_bytes
    if per_shard == 0:
        raise OutOfMemoryError(
            f"One row of {weight.name} ({row_bytes} bytes) exceeds this device's binding "
            f"limit of {limit}: the model cannot run here."
        )
    if per_shard >= _SHARD_ROWS:
        # Whole steps, so that the part of a bias vector that belongs to a shard is aligned.
        per_shard -= per_shard % _SHARD_ROWS
    starts = range(0, weight.rows, per_shard)
    return [(first, min(per_shard, weight.rows - first)) for first in starts]


def device_bytes(
    graph: Graph, capabilities: Capabilities | None = None, streamed: Collection[int] = ()
) -> int:
    """Return the bytes that are allocated for the weights of ``graph``.

    ``streamed``: layers whose matrices share their room.
    """
    total = sum(buffer_bytes(4 * weight.rows * weight.columns) for weight in vectors(graph))
    tables = {packing(weight.quant).table for weight in matrices(graph)}
    for weight in rooms(graph, streamed).values():
        form = packing(weight.quant)
        for _, rows in plan_shards(weight, capabilities or Capabilities()):
            total += buffer_bytes(4 * rows * form.quant_words(weight.columns))
            total += buffer_bytes(4 * rows * form.scale_words(weight.columns))
    return total + sum(buffer_bytes(len(table_bytes(name))) for name in tables if name)


def rooms(graph: Graph, streamed: Collection[int]) -> Mapping[object, Weight]:
    """Return a matrix for each room that is needed: those of streamed layers share theirs."""
    return {_room(weight, streamed): weight for weight in matrices(graph)}


def _room(weight: Weight, streamed: Collection[int]) -> object:
    return role_of(weight) if layer_of(weight) in streamed else weight


def layer_staging(model: ModelFile, weights: Iterable[Weight], limit: int) -> int:
    """Return the size of a staging buffer that takes a layer at once, or ``limit`` (bytes)."""
    size = 0
    for name in (name for weight in weights for name in weight.tensors):
        tensor = model.tensor(name)
        row_bytes = tensor.quant.row_bytes(tensor.columns)
        per_piece = max(1, PIECE // row_bytes)
        whole, rest = divmod(tensor.rows, per_piece)
        size += whole * staging.padded(per_piece * row_bytes) + staging.padded(rest * row_bytes)
    return min(size, limit)


def staging_bytes(model: ModelFile, graph: Graph, size: int = PIECE) -> int:
    """Return the most bytes that are taken while loading, beside the weights."""
    rows = [model.tensor(n) for weight in matrices(graph) for n in weight.tensors]
    widest = max((tensor.quant.row_bytes(tensor.columns) for tensor in rows), default=0)
    whole = sum(tensor.nbytes for tensor in rows)
    return staging.nbytes(size, widest, whole)


async def load_weights(
    device: Device,
    model: ModelFile,
    graph: Graph,
    *,
    upload: Uploader | None = None,
    on_progress: OnProgress | None = None,
    beside: Beside | None = None,
) -> Weights:
    """Put every weight of ``graph`` on the GPU.

    ``beside``: awaits the load and does something else meanwhile.
    Raises OutOfMemoryError (everything allocated so far is freed), SourceError, FormatError.
    """
    loader = Loader(device, model, upload or uploader(device), on_progress)
    async with device.all_or_nothing():
        try:
            loading = loader.load(graph)
            return await (loading if beside is None else beside(loading, loader))
        finally:
            loader.staging.release()


def uploader(device: Device) -> Uploader:
    """Return the way to move bytes in the world we run in."""

    async def through_host(
        source: ByteSource, offset: int, length: int, buffer: Any, at: int
    ) -> None:
        data = await source.read(offset, length)
        device.queue.write_buffer(buffer, at, data + bytes(-length % 4))

    async def past_python(
        source: ByteSource, offset: int, length: int, buffer: Any, at: int
    ) -> None:
        from . import bridge

        if isinstance(source, bridge.BrowserSource):
            await bridge.stream_into(source, offset, length, buffer, at)
        else:
            await through_host(source, offset, length, buffer, at)

    return past_python if IN_BROWSER else through_host


Beside = Callable[[Awaitable[Weights], "Loader"], Awaitable[Weights]]


@dataclass(frozen=True)
class Job:
    """One tensor of the file and where its rows go."""

    tensor: TensorInfo
    weight: Weight
    first: int
    """First row of a matrix, first element of a vector."""
    vector: bool


class Loader:
    """Allocates weights and fills them; for streamed layers, again and again."""

    def __init__(
        self,
        device: Device,
        model: ModelFile,
        upload: Uploader,
        on_progress: OnProgress | None,
        *,
        streamed: Collection[int] = (),
        staged: int = PIECE,
    ) -> None:
        """``streamed``: layers that ``load`` leaves out; ``staged``: bytes of a staging buffer."""
        self._device = device
        self._model = model
        self._upload = upload
        self._on_progress = on_progress
        self._buffers: list[Any] = []
        self._streamed = frozenset(streamed)
        self.later: dict[int, list[Job]] = {layer: [] for layer in self._streamed}
        """What a streamed layer is made of, in file order."""
        self.staging = staging.Staging(device, staged)
        self.arrival = Arrival()
        self.weights: Weights | None = None
        """Once they are allocated."""
        self._piece = min(PIECE, staged)
        self._done = 0
        self._total = 0
        self._start = time.perf_counter()

    def _buffer(self, size: int, label: str) -> BufferRange:
        buffer = self._device.buffer(size, label=label)
        self._buffers.append(buffer)
        return BufferRange(buffer, 0, buffer.size)

    async def load(self, graph: Graph) -> Weights:
        """Allocate all weights, and fill those that stay."""
        async with self._device.all_or_nothing():  # no byte is fetched before there is room
            chosen = rooms(graph, self._streamed)
            at = {room: self._allocate(weight) for room, weight in chosen.items()}
            packed = {w: replace(at[_room(w, self._streamed)], weight=w) for w in matrices(graph)}
            flat = {w: self._buffer(4 * w.rows * w.columns, w.name) for w in vectors(graph)}
        tables: dict[str, BufferRange] = {}
        for found in packed.values():
            name = found.packing.table
            if name is not None and name not in tables:
                data = table_bytes(name)
                tables[name] = self._buffer(len(data), name)
                self._device.queue.write_buffer(tables[name].buffer, 0, data)
        jobs = [*self._jobs(packed, vector=False), *self._jobs(flat, vector=True)]
        jobs.sort(key=lambda job: (job.tensor.source, job.tensor.offset))
        for layer, later in self.later.items():
            later += (job for job in jobs if not job.vector and layer_of(job.weight) == layer)
        jobs = [job for job in jobs if job.vector or layer_of(job.weight) not in self.later]
        self._total = sum(job.tensor.nbytes for job in jobs)
        self._report()
        nbytes = sum(buffer.size for buffer in self._buffers)
        made = self.weights = Weights(packed, flat, tables, nbytes)
        for job in jobs:
            if job.vector:
                await self._load_vector(job, flat[job.weight])
            else:
                await self.load_matrix(job, packed[job.weight])
            self.arrival.loaded.add(job.tensor.name)
        await self.staging.finish()
        self._on_progress = None
        return made

    def _report(self, more: int = 0) -> None:
        self._done += more
        if self._on_progress is not None:
            seconds = time.perf_counter() - self._start
            self._on_progress(Progress("weights", self._done, self._total, seconds))

    def _allocate(self, weight: Weight) -> PackedWeight:
        form = packing(weight.quant)
        shards = []
        for first, rows in plan_shards(weight, self._device.capabilities):
            quants = self._buffer(rows * 4 * form.quant_words(weight.columns), weight.name)
            scales = self._buffer(
                rows * 4 * form.scale_words(weight.columns), weight.name + " scales"
            )
            shards.append(Shard(first, rows, quants, scales))
        return PackedWeight(weight, form, tuple(shards))

    def _jobs(self, weights: Iterable[Weight], *, vector: bool) -> Iterable[Job]:
        for weight in weights:
            first = 0
            for name in weight.tensors:
                tensor = self._model.tensor(name)
                yield Job(tensor, weight, first, vector)
                first += tensor.rows * tensor.columns if vector else tensor.rows

    async def _load_vector(self, job: Job, target: BufferRange) -> None:
        tensor = job.tensor
        at = 4 * job.first
        source = self._model.sources[tensor.source]
        if tensor.quant == F32:
            with self.arrival.of(tensor.nbytes):
                await self._upload(source, tensor.offset, tensor.nbytes, target.buffer, at)
        else:
            with self.arrival.of(tensor.nbytes):
                raw = await source.read(tensor.offset, tensor.nbytes)
            data = to_floats(tensor, raw)
            self._device.queue.write_buffer(target.buffer, at, data.tobytes())
        self._report(tensor.nbytes)

    async def load_matrix(self, job: Job, target: PackedWeight) -> None:
        """Read a tensor and queue its repacking."""
        tensor = job.tensor
        row_bytes = tensor.quant.row_bytes(tensor.columns)
        per_piece = max(1, self._piece // row_bytes)
        source = self._model.sources[tensor.source]
        row = 0
        while row < tensor.rows:
            shard = next(s for s in target.shards if job.first + row < s.first_row + s.rows)
            at = job.first + row - shard.first_row
            rows = min(per_piece, tensor.rows - row, shard.rows - at)
            raw, placed = await self.staging.room(rows * row_bytes)
            offset = tensor.offset + row * row_bytes
            with self.arrival.of(rows * row_bytes):
                await self._upload(source, offset, rows * row_bytes, raw, placed)
            kernel = repack.kernel(tensor.quant, rows, tensor.columns, self._device.capabilities)
            pipeline = await self._device.pipeline(kernel)
            rows_of = (at, rows, shard.rows)
            self.staging.repack(kernel, pipeline, placed, shard.quants, shard.scales, rows_of)
            row += rows
            self._report(rows * row_bytes)
