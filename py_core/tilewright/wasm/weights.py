"""Where everything lies in the one memory, and how weights get there.

``Layout`` gives out addresses before the memory exists, so that its size is known first and a model
that does not fit is refused before anything is read. Weights are read in pieces and re-laid out by
a kernel (``kernels/repack.py``); on the host there is never more than one piece.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import UnsupportedModelError
from ..formats.arrival import Arrival
from ..formats.floats import to_floats
from ..formats.model_file import ModelFile, TensorInfo
from ..formats.quant import QuantType
from ..graph.layers import expert_layers, layer_of, matrices, role_of
from ..graph.ops import ExpertLinear, Graph, Weight
from .assembler import Module
from .host import IMPORTED, SHARED, Memory
from .kernels.block import SCRATCH_BYTES, TABLES
from .kernels.floats import float_bytes
from .kernels.packing import PAIR, Dots, packing
from .kernels.repack import add_repack, add_repack_floats
from .kernels.repack_grids import tables

PIECE = 4 << 20
"""Bytes of raw weights that are staged at a time."""
AT_ONCE = 128 << 10
"""Bytes of raw weights per call of a kernel: better code, made meanwhile, begins with a call."""
_ALIGNMENT = 64
_GAP = 64 << 10
"""Bytes between two tensors that are read along with them."""
_SPARE = 64
"""Vector loads may read a little beyond a row's end."""

Report = Callable[[int, int, float], None]
"""(bytes done, bytes in all, seconds)."""


class Layout:
    """Addresses of a memory that does not exist yet."""

    def __init__(self) -> None:
        self.nbytes = _ALIGNMENT
        """Bytes given out; address 0 is nobody's."""

    def take(self, nbytes: int) -> int:
        """Return the address of ``nbytes`` new bytes."""
        at = self.nbytes
        self.nbytes += -(-(nbytes + _SPARE) // _ALIGNMENT) * _ALIGNMENT
        return at


@dataclass(frozen=True)
class Weights:
    """Addresses of the weights, and of the room in which they are re-laid out."""

    matrices: Mapping[Weight, int]
    vectors: Mapping[Weight, int]
    raw: int
    raw_bytes: int
    scratch: int
    streamed: tuple[int, ...] = ()
    """Layers whose matrices are there only while they are used (``streaming.py``)."""
    experts: ExpertRooms | None = None
    """Where experts are, if they are there only while they are used (``expert_streaming.py``)."""
    dots: Dots = "seven"
    """The dot products that matrices are laid out for."""


@dataclass(frozen=True)
class ExpertRooms:
    """Rooms that take one expert each, of whichever layer."""

    first: int
    each: int
    """Bytes from one room to the next."""
    count: int
    experts: Mapping[int, int]
    """Of each layer."""
    places: Mapping[Weight, int]
    """Where a weight's part of an expert lies in a room."""
    parts: Mapping[int, tuple[tuple[str, int, int], ...]]
    """Of each layer: its tensors, the rows of an expert in them, and their place in a room."""
    tables: Mapping[int, int]
    """Layer -> address of u32[experts], the addresses of the rooms."""

    def table(self, weight: Weight) -> int:
        """Return the table of a weight's layer."""
        layer = layer_of(weight)
        assert layer is not None
        return self.tables[layer]


def matrix_bytes(weight: Weight) -> int:
    """Return the bytes of a matrix as the kernels read it.

    UnsupportedModelError for a format that has no kernels here.
    """
    form = packing(weight.quant)
    if form is None:
        return float_bytes(weight.rows, weight.columns)
    return form.nbytes(weight.rows, weight.columns)


def plan_weights(
    layout: Layout,
    graphs: Iterable[Graph],
    file: ModelFile,
    streamed: Sequence[int] = (),
    rooms: int = 0,
) -> Weights:
    """Give every weight its address; the matrices of ``streamed`` layers share theirs.

    ``rooms``: for so many experts of all layers there is room; 0: all are there.
    """
    graphs = list(graphs)
    large = list(dict.fromkeys(w for graph in graphs for w in matrices(graph)))
    packed = set(large)
    small = dict.fromkeys(
        w for graph in graphs for op in graph.ops for w in op.weights() if w not in packed
    )
    for graph in graphs:
        for op in graph.ops:
            if isinstance(op, ExpertLinear) and op.expert_rows % PAIR:
                raise UnsupportedModelError(
                    f"The WebAssembly backend needs experts of a multiple of {PAIR} rows, "
                    f"{op.weight.name} has {op.expert_rows}: use the WebGPU backend."
                )
    widest = max(
        (file.tensor(n).quant.row_bytes(w.columns) for w in large for n in w.tensors), default=0
    )
    raw_bytes = max(PIECE, widest, *(layer_bytes(file, large, layer) for layer in streamed))
    experts = _expert_rooms(layout, graphs[0], rooms) if rooms else None
    if experts is not None:
        large = [w for w in large if w not in experts.places]
        raw_bytes = max(raw_bytes, 2 * expert_bytes(file, experts))
    shared: dict[object, int] = {}
    for w in large:
        room = _room(w, streamed)
        if room not in shared:
            shared[room] = layout.take(matrix_bytes(w))
    return Weights(
        {w: shared[_room(w, streamed)] for w in large},
        {w: layout.take(4 * w.rows * w.columns) for w in small},
        layout.take(raw_bytes),
        raw_bytes,
        layout.take(SCRATCH_BYTES),
        tuple(streamed),
        experts,
    )


def _expert_rooms(layout: Layout, graph: Graph, rooms: int) -> ExpertRooms:
    places: dict[Weight, int] = {}
    parts: dict[int, tuple[tuple[str, int, int], ...]] = {}
    counts: dict[int, int] = {}
    each = 0
    for layer, ops in expert_layers(graph).items():
        at, found = 0, []
        for op in ops:
            counts[layer] = op.weight.rows // op.expert_rows // len(op.weight.tensors)
            places[op.weight] = at
            for name in op.weight.tensors:
                found.append((name, op.expert_rows, at))
                at += matrix_bytes(replace(op.weight, rows=op.expert_rows))
        parts[layer], each = tuple(found), max(each, at)
    tables = {layer: layout.take(4 * count) for layer, count in counts.items()}
    each = -(-(each + _SPARE) // _ALIGNMENT) * _ALIGNMENT
    return ExpertRooms(layout.take(each * rooms), each, rooms, counts, places, parts, tables)


def expert_bytes(file: ModelFile, rooms: ExpertRooms) -> int:
    """Return the most bytes that an expert takes as it is in the file."""
    return max(
        sum(-(-tensor_rows_bytes(file.tensor(name), rows) // 16) * 16 for name, rows, _ in layer)
        for layer in rooms.parts.values()
    )


def tensor_rows_bytes(tensor: TensorInfo, rows: int) -> int:
    """Return the bytes of so many rows of a tensor."""
    return rows * tensor.quant.row_bytes(tensor.columns)


@dataclass(frozen=True)
class Run:
    """Bytes of a source that are read at once, and where they go in the room for raw weights."""

    source: int
    offset: int
    nbytes: int
    at: int


def runs(tensors: Iterable[TensorInfo]) -> list[Run]:
    """Return the reads that fetch ``tensors``; what lies close together is one."""
    found: list[Run] = []
    for tensor in sorted(tensors, key=lambda t: (t.source, t.offset)):
        end = tensor.offset + tensor.nbytes
        last = found[-1] if found else None
        if last and last.source == tensor.source and tensor.offset - _end(last) <= _GAP:
            found[-1] = replace(last, nbytes=max(end, _end(last)) - last.offset)
        else:
            at = 0 if last is None else last.at + -(-last.nbytes // 16) * 16
            found.append(Run(tensor.source, tensor.offset, tensor.nbytes, at))
    return found


def _end(run: Run) -> int:
    return run.offset + run.nbytes


def layer_bytes(file: ModelFile, large: Iterable[Weight], layer: int) -> int:
    """Return the room that a layer's matrices take as they are in the file."""
    names = (name for w in large if layer_of(w) == layer for name in w.tensors)
    last = runs(file.tensor(name) for name in names)[-1]
    return last.at + last.nbytes


def _room(weight: Weight, streamed: Sequence[int]) -> object:
    return role_of(weight) if layer_of(weight) in streamed else weight


@dataclass(frozen=True)
class Job:
    """A tensor of the file and where it goes."""

    tensor: TensorInfo
    address: int
    """Of its weight."""
    first: int
    """First row or element in it."""
    layer: int | None
    """The streamed layer that it is of."""
    vector: bool


class Loader:
    """Reads weights and re-lays them out; those of streamed layers again and again."""

    def __init__(
        self, memory: Memory, weights: Weights, file: ModelFile, *, shared: bool = False
    ) -> None:
        self.memory = memory
        self.arrival = Arrival()
        self.file = file
        self.raw, self.raw_bytes = weights.raw, weights.raw_bytes
        self.scratch = weights.scratch
        self._sources = file.sources
        jobs: list[Job] = []
        for addresses, vector in ((weights.matrices, False), (weights.vectors, True)):
            for weight, address in addresses.items():
                first, layer = 0, None if vector else layer_of(weight)
                if layer not in weights.streamed:
                    layer = None
                for name in weight.tensors:
                    tensor = file.tensor(name)
                    jobs.append(Job(tensor, address, first, layer, vector))
                    first += tensor.rows * tensor.columns if vector else tensor.rows
        self.jobs = sorted(jobs, key=lambda job: (job.tensor.source, job.tensor.offset))
        module = Module(SHARED if shared else IMPORTED)
        formats = dict.fromkeys(job.tensor.quant for job in jobs if not job.vector)
        listed = () if weights.experts is None else weights.experts.parts.values()
        formats.update(
            dict.fromkeys(file.tensor(name).quant for parts in listed for name, *_ in parts)
        )
        for quant in formats:
            if packing(quant):
                add_repack(module, quant.name, weights.dots)
            else:
                add_repack_floats(module, quant.name)
        self.module = module.assemble()
        """The kernels that lay out; one for each format, named by ``function``."""
        self._repack = memory.instantiate(self.module)
        self._tables = b""
        """What lies in the scratch."""

    async def load(self, report: Report | None = None) -> None:
        """Load all that stays."""
        jobs = [job for job in self.jobs if job.layer is None]
        total = sum(job.tensor.nbytes for job in jobs)
        done, start = 0, time.perf_counter()
        for job in jobs:
            tensor, source = job.tensor, self._sources[job.tensor.source]
            if job.vector:
                with self.arrival.of(tensor.nbytes):
                    data = await source.read(tensor.offset, tensor.nbytes)
                self.memory.write(job.address + 4 * job.first, to_floats(tensor, data).tobytes())
                done += tensor.nbytes
                continue
            row_bytes = tensor.quant.row_bytes(tensor.columns)
            per_piece = min(PIECE, self.raw_bytes) // row_bytes or 1
            for row in range(0, tensor.rows, per_piece):
                rows = min(per_piece, tensor.rows - row)
                nbytes = rows * row_bytes
                with self.arrival.of(nbytes):
                    at = tensor.offset + row * row_bytes
                    await self.memory.fill(self.raw, source, at, nbytes)
                self.unpack(job, self.raw, row, rows)
                done += nbytes
                if report is not None:
                    report(done, total, time.perf_counter() - start)
            self.arrival.loaded.add(tensor.name)

    def unpack(self, job: Job, raw: int, row: int, rows: int) -> None:
        """Re-lay out ``rows`` of a tensor, from ``row`` on, whose bytes lie at ``raw``."""
        tensor = job.tensor
        needed = tables(tensor.quant.name)
        if needed and needed is not self._tables:
            self.memory.write(self.scratch + TABLES, needed)
            self._tables = needed
        blocks = tensor.columns // tensor.quant.block
        call, row_bytes = self.function(tensor.quant), tensor.quant.row_bytes(tensor.columns)
        # What is streamed is laid out again and again: the code is good by now.
        step = rows if job.layer is not None else max(AT_ONCE // row_bytes, 1)
        for done in range(0, rows, step):
            place = job.address, job.first + row + done, self.scratch
            count = min(step, rows - done)
            self._repack.call(call, raw + done * row_bytes, count, blocks, *place)

    @staticmethod
    def function(quant: QuantType) -> str:
        """Return the name of the kernel that lays a format out."""
        return f"repack_{quant.name}"

    def fetch(self, run: Run) -> Awaitable[None]:
        """Begin to read a run; it is there when this was awaited."""
        return self.read(run.source, run.offset, run.nbytes, self.raw + run.at)

    def read(self, source: int, offset: int, nbytes: int, at: int) -> Awaitable[None]:
        """Begin to read bytes of a source to an address; they are there when this was awaited."""
        return self.memory.fetch(at, self._sources[source], offset, nbytes)
