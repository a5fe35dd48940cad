"""Elementwise ops: Add, AddRow, Scale, Activate, GateRows, TakeOutputs and Combine.

One kernel with a role file per operation. Bindings: step, then what the operation reads (see
``_OPERATIONS``), then out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ...errors import KernelError
from ..link import Alias, Binding, Constant, link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread

Operation = Literal["add", "add_row", "scale", "activate", "gate_rows", "take_outputs", "combine"]

_OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "add": ("x", "y"),
    "add_row": ("x", "row"),
    "scale": ("x",),
    "activate": ("x",),
    "gate_rows": ("x", "gate"),
    "take_outputs": ("x", "outputs"),
    "combine": ("y", "weights"),
}
"""What each operation reads; ``up`` and ``residual`` come after these where they are given."""


@dataclass(frozen=True)
class Structure:
    """What is computed: ``out f32[rows, width]``. Unused fields keep their defaults."""

    operation: Operation
    tokens: int
    """Capacity of rows."""
    width: int
    out: Span
    x: Span | None = None
    y: Span | None = None
    """Add: the second term; Combine: ``f32[T, used * width]``."""
    up: Span | None = None
    """Activate: factor on the activated value."""
    gate: Span | None = None
    """GateRows: one f32 per row."""
    weights: Span | None = None
    """Combine: ``f32[T, used]``."""
    residual: Span | None = None
    """GateRows and Combine: added last."""
    rows_from: header.RowsFrom = "tokens"
    factor: float = 1.0
    """Add: on y; Scale: on x."""
    activation: str | None = None
    used: int = 0
    """Combine: experts per token."""


@dataclass(frozen=True)
class Tuning:
    """How: one thread per element, or per four of them."""

    workgroup: int = 64
    vector: bool = False
    """Four columns per thread; needs widths, strides and starts that are multiples of 4."""


def naive(structure: Structure) -> Tuning:
    """One thread per element."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return Tuning(64, _may_vector(structure))


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    sizes = [size for size in (64, 32, 128, 256) if size <= capabilities.max_invocations]
    found = [Tuning(size) for size in sizes]
    if _may_vector(structure):
        found += [Tuning(size, vector=True) for size in sizes]
    return found


def _wide(structure: Structure) -> dict[str, Span]:
    """Return the spans that are read or written by the column."""
    named = {
        "x": structure.x,
        "y": structure.y,
        "up": structure.up,
        "residual": structure.residual,
        "out": structure.out,
    }
    return {name: place for name, place in named.items() if place is not None}


def _may_vector(structure: Structure) -> bool:
    numbers = [structure.width]
    for place in _wide(structure).values():
        numbers += [place.stride, place.start]
    return all(number % 4 == 0 for number in numbers)


def _role(structure: Structure) -> str:
    if structure.operation == "activate" and structure.up is not None:
        return "elementwise/activate_gated.wgsl"
    return f"elementwise/{structure.operation}.wgsl"


def _files(structure: Structure) -> list[str]:
    files = ["ops/elementwise.wgsl", *header.ROWS_FILES, _role(structure)]
    if structure.operation in ("activate", "gate_rows"):
        files.append("lib/activation.wgsl")
    if structure.operation in ("gate_rows", "combine"):
        files.append("lib/residual.wgsl" if structure.residual else "lib/residual_none.wgsl")
    return files


def _bindings(structure: Structure, element: str) -> list[Binding]:
    kinds = {"gate": "f32", "weights": "f32", "outputs": "u32"}
    names = list(_OPERATIONS[structure.operation])
    names += [name for name in ("up", "residual") if name in _wide(structure)]
    found = [header.read(name, kinds.get(name, element)) for name in names]
    return [header.STEP, *found, header.write("out", element)]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel. Raises KernelError for a vector Tuning that the spans do not allow."""
    if tuning.vector and not _may_vector(structure):
        raise KernelError(f"{structure.operation}: these spans cannot be read four at a time.")
    unit = 4 if tuning.vector else 1
    element = "vec4f" if tuning.vector else "f32"
    constants: dict[str, Constant] = {
        "Element": Alias(element),
        "WORKGROUP": tuning.workgroup,
        "WIDTH": structure.width // unit,
        "FACTOR": structure.factor,
        "ACTIVATION": header.activation(structure.activation),
        "USED": structure.used,
        **header.rows(structure.rows_from, structure.tokens),
    }
    for name, place in _wide(structure).items():
        constants |= header.span(name.upper(), place, unit)
    if structure.gate is not None:
        constants |= header.span("GATE", structure.gate)
    if structure.weights is not None:
        constants |= header.span("WEIGHTS", structure.weights)
    bindings = _bindings(structure, element)
    elements = structure.tokens * structure.width
    reads = max(structure.used, 1) + len(bindings) - 3
    return Kernel(
        f"{structure.operation} {structure.width}",
        link(_files(structure), constants=constants, bindings=bindings),
        tuple(bindings),
        spread(ceil_div(elements // unit, tuning.workgroup), capabilities),
        Cost(4 * elements * (1 + reads), elements * reads),
    )
