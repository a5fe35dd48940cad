"""Embedding rows: out[t] = scale * table[index[t]], straight from the packed weight.

A table larger than a binding is several shards; each writes only the rows it holds. Knows nothing
of what an id means.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...formats.quant import BY_NAME
from ..link import Binding, link
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread
from .linear import weight_bindings
from .packing import packing


@dataclass(frozen=True)
class EmbedStructure:
    """What one shard's embedding writes."""

    quant: str
    first_row: int
    """First row of the whole table that this shard holds."""
    rows: int
    """Rows of this shard."""
    columns: int
    tokens: int
    """Capacity for T."""
    out: Span
    scale: float = 1.0
    index: str = "ids"
    """Name of the index binding: ``ids`` or ``positions``."""


@dataclass(frozen=True)
class Tuning:
    """How many threads a workgroup has."""

    workgroup: int = 64


def naive(structure: EmbedStructure) -> Tuning:
    """Return the plain Tuning."""
    return Tuning()


def default(structure: EmbedStructure, capabilities: Capabilities) -> Tuning:
    """Return the Tuning to start from where nothing has been measured."""
    return naive(structure)


def space(structure: EmbedStructure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates: too cheap a kernel to be worth timing."""
    return [naive(structure)]


def kernel(structure: EmbedStructure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel. Bindings: step, <index>, quants, [scales], [table], out."""
    s = structure
    form = packing(BY_NAME[s.quant])
    units = ceil_div(s.columns, 8)
    bindings = (
        Binding("step", "Step", "uniform"),
        Binding(s.index, "array<u32>"),
        *weight_bindings(form),
        Binding("out", "array<f32>", "read_write"),
    )
    source = link(
        ("ops/embed.wgsl", f"linear/index_{s.index}.wgsl", "lib/step.wgsl", *form.files),
        constants={
            "WORKGROUP": tuning.workgroup,
            "TOKENS": s.tokens,
            "COLUMNS": s.columns,
            "UNITS": units,
            "FIRST_ROW": s.first_row,
            "ROWS": s.rows,
            "OUT_STRIDE": s.out.stride,
            "OUT_START": s.out.start,
            "SCALE": s.scale,
            **form.constants(s.columns),
        },
        bindings=bindings,
    )
    return Kernel(
        label=f"embed {s.quant} {s.rows}x{s.columns} T{s.tokens}",
        source=source,
        bindings=bindings,
        grid=spread(ceil_div(s.tokens * units, tuning.workgroup), capabilities),
        cost=Cost(s.tokens * s.columns * 8, s.tokens * s.columns),
    )
