"""What the wide and the swap kernel share: a thread's tile of weight rows by tokens.

See ``shaders/linear/tile.wgsl``. Both are for CPU adapters (``wide.py``, ``swap.py``).
"""

from __future__ import annotations

from typing import Protocol

from ..link import Binding, Constant, link
from .kernel import Capabilities, Kernel, ceil_div, spread
from .linear import LinearStructure, Roles

SMALL = 1 << 18
"""Weights of a matrix from which on the compile time is worth it without measuring."""


class TileTuning(Protocol):
    """How large a tile is."""

    @property
    def workgroup(self) -> int:
        """Threads of a workgroup."""
        ...

    @property
    def rows(self) -> int:
        """Weight rows per thread: 4 or 8."""
        ...

    @property
    def tile(self) -> int:
        """Tokens per thread: 1, 2, 4 or 8."""
        ...


def fits(structure: LinearStructure, tuning: TileTuning, capabilities: Capabilities) -> bool:
    """Return whether the activations can be read four at once, and staged for a prologue."""
    staged = 4 * structure.columns * tuning.tile if structure.has_prologue else 0
    return (
        capabilities.subgroups
        and structure.columns % 32 == 0
        and not any(
            span.stride % 4 or span.start % 4
            for span in (structure.x, structure.delta)
            if span is not None
        )
        and staged + 4 * tuning.workgroup <= capabilities.workgroup_memory
    )


def kernel(
    name: str,
    parts: Roles,
    structure: LinearStructure,
    tuning: TileTuning,
    capabilities: Capabilities,
    files: tuple[str, ...],
    bindings: tuple[Binding, ...],
    **constants: Constant,
) -> Kernel:
    """Return ``ops/matvec_<name>.wgsl`` linked with ``files`` and more ``constants``."""
    source = link(
        (f"ops/matvec_{name}.wgsl", "linear/tile.wgsl", *files),
        constants={
            "WORKGROUP": tuning.workgroup,
            "ROWS": tuning.rows,
            "TILE": tuning.tile,
            **constants,
            **parts.constants,
        },
        bindings=bindings,
        enables=("subgroups",),
    )
    outputs = tuning.workgroup * (tuning.rows // (2 if structure.gated else 1))
    groups = ceil_div(parts.outputs, outputs) * ceil_div(parts.tokens, tuning.tile)
    return Kernel(
        label=f"{name} {parts.label}",
        source=source,
        bindings=bindings,
        grid=spread(groups, capabilities),
        cost=parts.cost,
    )
