"""Where everything lies in the one memory, and how weights get there.

``Layout`` gives out addresses before the memory exists, so that its size is known first and a model
that does not fit is refused before anything is read. Weights are read in pieces and re-laid out by
a kernel (``kernels/repack.py``); on the host there is never more than one piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import UnsupportedModelError
from ..formats.floats import to_floats
from ..formats.model_file import ModelFile, TensorInfo
from ..graph.ops import Embed, ExpertLinear, Graph, Linear, Weight
from .assembler import Module
from .host import IMPORTED, SHARED, Memory
from .kernels.floats import float_bytes
from .kernels.packing import PAIR, packing
from .kernels.repack import SCRATCH_BYTES, add_repack, add_repack_floats

PIECE = 4 << 20
"""Bytes of raw weights that are staged at a time."""
_ALIGNMENT = 64
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


def matrix_bytes(weight: Weight) -> int:
    """Return the bytes of a matrix as the kernels read it.

    UnsupportedModelError for a format that has no kernels here.
    """
    form = packing(weight.quant)
    if form is None:
        return float_bytes(weight.rows, weight.columns)
    return form.nbytes(weight.rows, weight.columns)


def matrices(graphs: Iterable[Graph]) -> list[Weight]:
    """Return the weights that are multiplied or looked up, each once."""
    found: dict[Weight, None] = {}
    for graph in graphs:
        for op in graph.ops:
            if isinstance(op, Linear | ExpertLinear):
                found[op.weight] = None
            elif isinstance(op, Embed):
                found[op.table] = None
    return list(found)


def plan_weights(layout: Layout, graphs: Iterable[Graph], file: ModelFile) -> Weights:
    """Give every weight its address."""
    graphs = list(graphs)
    large = matrices(graphs)
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
    raw_bytes = max(PIECE, widest)
    return Weights(
        {w: layout.take(matrix_bytes(w)) for w in large},
        {w: layout.take(4 * w.rows * w.columns) for w in small},
        layout.take(raw_bytes),
        raw_bytes,
        layout.take(SCRATCH_BYTES),
    )


async def load_weights(
    memory: Memory,
    weights: Weights,
    file: ModelFile,
    report: Report | None = None,
    *,
    shared: bool = False,
) -> None:
    """Read every weight and re-lay it out. Raises SourceError, FormatError."""
    jobs: list[tuple[TensorInfo, int, int, bool]] = []
    """Tensor, address of its weight, first row or element in it, whether it is a vector."""
    for addresses, vector in ((weights.matrices, False), (weights.vectors, True)):
        for weight, address in addresses.items():
            first = 0
            for name in weight.tensors:
                tensor = file.tensor(name)
                jobs.append((tensor, address, first, vector))
                first += tensor.rows * tensor.columns if vector else tensor.rows
    jobs.sort(key=lambda job: (job[0].source, job[0].offset))
    total = sum(job[0].nbytes for job in jobs)
    module = Module(SHARED if shared else IMPORTED)
    for quant in dict.fromkeys(job[0].quant for job in jobs if not job[3]):
        (add_repack if packing(quant) else add_repack_floats)(module, quant.name)
    repack = memory.instantiate(module.assemble())
    done, start = 0, time.perf_counter()
    for tensor, address, first, vector in jobs:
        source = file.sources[tensor.source]
        if vector:
            data = await source.read(tensor.offset, tensor.nbytes)
            memory.write(address + 4 * first, to_floats(tensor, data).tobytes())
            done += tensor.nbytes
            continue
        row_bytes = tensor.quant.row_bytes(tensor.columns)
        per_piece = weights.raw_bytes // row_bytes
        for row in range(0, tensor.rows, per_piece):
            rows = min(per_piece, tensor.rows - row)
            nbytes = rows * row_bytes
            await memory.fill(weights.raw, source, tensor.offset + row * row_bytes, nbytes)
            blocks = tensor.columns // tensor.quant.block
            call = f"repack_{tensor.quant.name}"
            repack.call(call, weights.raw, rows, blocks, address, first + row, weights.scratch)
            done += nbytes
            if report is not None:
                report(done, total, time.perf_counter() - start)
