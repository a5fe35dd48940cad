"""Pool: one embedding per sequence of a step.

Sequence ``b`` of a step is the ``b``-th run of tokens with equal slots. Bindings: step, x, slots,
out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import KernelError
from ..link import link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread

_KINDS = ("mean", "cls", "last")


@dataclass(frozen=True)
class Structure:
    """What is pooled: ``x f32[T, width]`` -> ``out f32[B, width]``."""

    tokens: int
    sequences: int
    """Capacity of B."""
    width: int
    kind: str
    """``mean``, ``cls`` (first token) or ``last``."""
    normalise: bool
    """Divide by the L2 norm."""
    x: Span
    out: Span


@dataclass(frozen=True)
class Tuning:
    """How: ``lanes`` threads share a sequence."""

    workgroup: int = 64
    lanes: int = 1
    reduction: str = "tree"


def naive(structure: Structure) -> Tuning:
    """One thread per sequence."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return Tuning(16, 16, "flat") if capabilities.software else Tuning(64, 64)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    found = [naive(structure), Tuning(16, 16, "flat"), Tuning(64, 64), Tuning(256, 256)]
    return [tuning for tuning in found if tuning.workgroup <= capabilities.max_invocations]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel. Raises KernelError for an unknown kind."""
    if structure.kind not in _KINDS:
        raise KernelError(f"There is no pooling {structure.kind!r}; known: {', '.join(_KINDS)}.")
    bindings = (header.STEP, header.read("x"), header.read("slots", "u32"), header.write("out"))
    source = link(
        [
            "ops/pool.wgsl",
            *header.ROWS_FILES,
            header.lanes_file(tuning.lanes, tuning.reduction),
        ],
        constants={
            **{name.upper(): number for number, name in enumerate(_KINDS)},
            "KIND": _KINDS.index(structure.kind),
            "NORMALISE": structure.normalise,
            "WIDTH": structure.width,
            "TOKENS_CAPACITY": structure.tokens,
            "WORKGROUP": tuning.workgroup,
            "LANES": tuning.lanes,
            **header.rows("sequences", structure.sequences),
            **header.span("X", structure.x),
            **header.span("OUT", structure.out),
        },
        bindings=bindings,
    )
    return Kernel(
        f"pool {structure.kind} {structure.width}",
        source,
        bindings,
        spread(ceil_div(structure.sequences, tuning.workgroup // tuning.lanes), capabilities),
        Cost(
            4 * structure.width * (structure.tokens + structure.sequences),
            structure.tokens * structure.width,
        ),
    )
