"""Rope: rotary embedding of every head, and the table of cosines and sines it reads.

Bindings: step, x, rope_table, positions, out.
"""

from __future__ import annotations

import math
import sys
from array import array
from dataclasses import dataclass

from ...graph.ops import RopeTable
from ..link import Constant, link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread

_LOW = 256
"""Positions of the table's low part; the WGSL side is ``lib/rope.wgsl``."""


@dataclass(frozen=True)
class Structure:
    """What is rotated: ``x f32[T, heads * head_size]``."""

    tokens: int
    heads: int
    head_size: int
    dimensions: int
    """Leading elements of a head that are rotated; the others are copied."""
    x: Span
    out: Span
    interleaved: bool = False
    magnitude: float = 1.0


@dataclass(frozen=True)
class Tuning:
    """How: one thread per element."""

    workgroup: int = 64


def rope_table_bytes(table: RopeTable, context_length: int) -> bytes:
    """Return ``f32[256 + ceil(context_length / 256), n / 2, 2]``: (cos, sin) of each pair.

    The first 256 rows are positions 0 to 255, the following ones multiples of 256: position
    ``256 * high + low`` is the sum of two angles, so long contexts need no long table. Computed in
    double precision. ``magnitude`` is not in the table.
    """
    cos, sin = math.cos, math.sin
    rows = [*range(_LOW), *range(0, max(context_length, 1), _LOW)]
    values = array("f")
    for position in rows:
        for frequency in table.frequencies:
            angle = position * frequency
            values.append(cos(angle))
            values.append(sin(angle))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def constants(dimensions: int, interleaved: bool, magnitude: float) -> dict[str, Constant]:
    """Return the constants of ``lib/rope.wgsl``."""
    return {"ROTATED": dimensions, "INTERLEAVED": interleaved, "MAGNITUDE": magnitude}


def naive(structure: Structure) -> Tuning:
    """One thread per element."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return naive(structure)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    return [Tuning(size) for size in (64, 32, 128, 256) if size <= capabilities.max_invocations]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel."""
    width = structure.heads * structure.head_size
    bindings = (
        header.STEP,
        header.read("x"),
        header.read("rope_table", "vec2f"),
        header.read("positions", "u32"),
        header.write("out"),
    )
    source = link(
        ["ops/rope.wgsl", *header.ROWS_FILES, "lib/rope.wgsl"],
        constants={
            "HEADS": structure.heads,
            "HEAD_SIZE": structure.head_size,
            "WORKGROUP": tuning.workgroup,
            **constants(structure.dimensions, structure.interleaved, structure.magnitude),
            **header.rows("tokens", structure.tokens),
            **header.span("X", structure.x),
            **header.span("OUT", structure.out),
        },
        bindings=bindings,
    )
    elements = structure.tokens * width
    return Kernel(
        f"rope {structure.heads}x{structure.head_size}",
        source,
        bindings,
        spread(ceil_div(elements, tuning.workgroup), capabilities),
        Cost(8 * elements, 6 * elements),
    )
