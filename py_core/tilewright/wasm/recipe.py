"""How a memory is filled with a model's weights, as data: for a filler that is not Python.

What ``weights.Loader`` does in a loop is written down once it was done, so that the next visit's
memory is filled while Python still starts (``web/src/store/prepared.ts`` reads it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from .host import PAGE
from .kernels.block import TABLES
from .kernels.repack_grids import tables
from .weights import AT_ONCE, Job, Loader

_NEAR = 256
"""Bytes between two vectors that are copied along with them."""


@dataclass(frozen=True)
class Recipe:
    """The steps, and what they need."""

    text: str
    """JSON; the fields are those of ``Recipe`` in ``prepared.ts``."""
    layout: bytes
    """The module that lays weights out."""
    data: bytes
    """What is copied as it is: vectors, rotation tables, tables of the formats."""


def write_recipe(loader: Loader, others: Iterable[tuple[int, int]], *, shared: bool) -> Recipe:
    """Write down how the loader's memory was filled; call it when it is.

    ``others``: (address, bytes) of what else was written into it and never changes. For a model of
    one file without streamed layers.
    """
    memory = loader.memory
    small = [_vector_bytes(job) for job in loader.jobs if job.vector]
    data = bytearray()
    ops: list[list[int]] = []

    def copy(address: int, content: bytes) -> None:
        ops.append([address, len(data), len(content)])
        data.extend(content)

    for address, length in _joined([*small, *others]):
        copy(address, memory.read(address, length))
    functions: list[str] = []
    known = b""
    for job in loader.jobs:
        if job.vector:
            continue
        tensor, quant = job.tensor, job.tensor.quant
        needed = tables(quant.name)
        if needed and needed is not known:
            copy(loader.scratch + TABLES, needed)
            known = needed
        name = loader.function(quant)
        if name not in functions:
            functions.append(name)
        row_bytes, blocks = quant.row_bytes(tensor.columns), tensor.columns // quant.block
        where = functions.index(name), tensor.offset, tensor.rows, row_bytes, blocks
        ops.append([*where, job.address, job.first])
    text = json.dumps(
        {
            "pages": memory.nbytes // PAGE,
            "shared": shared,
            "functions": functions,
            "raw": loader.raw,
            "rawBytes": loader.raw_bytes,
            "scratch": loader.scratch,
            "atOnce": AT_ONCE,
            "ops": ops,
        }
    )
    return Recipe(text, loader.module, bytes(data))


def _vector_bytes(job: Job) -> tuple[int, int]:
    return job.address + 4 * job.first, 4 * job.tensor.rows * job.tensor.columns


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that lie close together."""
    found: list[tuple[int, int]] = []
    for address, length in sorted(ranges):
        if found and address - sum(found[-1]) <= _NEAR:
            start = found[-1][0]
            found[-1] = start, max(sum(found[-1]), address + length) - start
        else:
            found.append((address, length))
    return found
