"""Route: choose experts per token and weigh them.

Bindings: step, logits, out_experts (u32), out_weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import KernelError
from ..link import Alias, link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread

Gating = Literal["softmax", "softmax_after_top", "sigmoid"]

MAX_EXPERTS = 512
"""More would need another selection than repeated maxima."""


@dataclass(frozen=True)
class Structure:
    """What is chosen: the ``used`` highest of ``logits f32[T, experts]``."""

    tokens: int
    experts: int
    used: int
    gating: str
    """A ``Gating``."""
    normalise: bool
    """Weights sum to 1 (before ``scale``)."""
    scale: float
    logits: Span
    out_experts: Span
    out_weights: Span


@dataclass(frozen=True)
class Tuning:
    """How: ``lanes`` threads share a token."""

    workgroup: int = 64
    lanes: int = 1
    reduction: str = "tree"


def naive(structure: Structure) -> Tuning:
    """One thread per token."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return Tuning(8, 1) if capabilities.software else Tuning(32, 32)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    found = [naive(structure), Tuning(8, 1), Tuning(8, 8, "flat"), Tuning(32, 32), Tuning(64, 64)]
    return [tuning for tuning in found if tuning.lanes <= max(32, structure.experts)]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel. Raises KernelError for an unknown gating or too many experts."""
    if structure.gating not in ("softmax", "softmax_after_top", "sigmoid"):
        raise KernelError(f"There is no expert gating {structure.gating!r}.")
    if not 0 < structure.used <= structure.experts <= MAX_EXPERTS:
        raise KernelError(
            f"Choosing {structure.used} of {structure.experts} experts is not supported: at most "
            f"{MAX_EXPERTS} experts, and no more used than there are."
        )
    bindings = (
        header.STEP,
        header.read("logits"),
        header.write("out_experts", "u32"),
        header.write("out_weights"),
    )
    source = link(
        [
            "ops/route.wgsl",
            *header.ROWS_FILES,
            "lib/activation.wgsl",
            header.lanes_file(tuning.lanes, tuning.reduction),
        ],
        constants={
            "Element": Alias("f32"),
            "ACTIVATION": 0,
            "EXPERTS": structure.experts,
            "USED": structure.used,
            "SOFTMAX_ALL": structure.gating == "softmax",
            "SOFTMAX_CHOSEN": structure.gating == "softmax_after_top",
            "SIGMOID": structure.gating == "sigmoid",
            "NORMALISE": structure.normalise,
            "FACTOR": structure.scale,
            "LOWEST": header.LOWEST,
            "HIGHEST": -header.LOWEST,
            "WORKGROUP": tuning.workgroup,
            "LANES": tuning.lanes,
            **header.rows("tokens", structure.tokens),
            **header.span("LOGITS", structure.logits),
            **header.span("OUT_EXPERTS", structure.out_experts),
            **header.span("OUT_WEIGHTS", structure.out_weights),
        },
        bindings=bindings,
    )
    return Kernel(
        f"route {structure.used}/{structure.experts}",
        source,
        bindings,
        spread(ceil_div(structure.tokens, tuning.workgroup // tuning.lanes), capabilities),
        Cost(
            4 * structure.tokens * (structure.experts + 2 * structure.used),
            structure.tokens * structure.experts * (structure.used + 2),
        ),
    )
