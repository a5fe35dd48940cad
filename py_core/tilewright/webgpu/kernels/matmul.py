"""Weight times many tokens (prefill): tiles in workgroup memory, or threads without sharing.

A tile's weights are dequantized once into workgroup memory and used for all its tokens. Where the
tiles are few, groups of threads of a workgroup may share the columns (``split``). On CPU adapters
the quad kernel of ``matvec.py`` is faster. A prologue (sum, norm) is refused (``supports``): the
lowering leaves it to matvec. Knows nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...errors import KernelError
from ..link import link
from . import rounded, rounded_tile, swap, wide
from .kernel import Capabilities, Kernel, spread
from .linear import DirectTuning, LinearStructure, dense_roles, direct, refusal
from .matvec import QuadTuning, quad, quad_default
from .rounded import RoundedLanesTuning
from .rounded_tile import RoundedTileTuning
from .split_tile import SplitTile
from .swap import SwapTuning
from .wide import WideTuning

__all__ = [
    "DirectTuning",
    "LinearStructure",
    "QuadTuning",
    "RoundedLanesTuning",
    "RoundedTileTuning",
    "SwapTuning",
    "TileTuning",
    "Tuning",
    "WideTuning",
    "default",
    "kernel",
    "naive",
    "space",
    "supports",
]


@dataclass(frozen=True)
class TileTuning(SplitTile):
    """Of weights and activations in f32."""

    def memory(self, structure: LinearStructure) -> int:
        """Return the bytes of workgroup memory."""
        return 4 * self.block_columns * (self.block_rows + self.block_tokens) * self.split

    @property
    def has_room(self) -> bool:
        """Whether the sums of a split fit where the weights of its tiles lay."""
        return (self.split - 1) * self.block_tokens <= self.split * self.block_columns


AnyTile = TileTuning | RoundedTileTuning
RoundedTuning = DirectTuning | RoundedLanesTuning | RoundedTileTuning
Tuning = RoundedTuning | QuadTuning | TileTuning | WideTuning | SwapTuning


def supports(structure: LinearStructure, capabilities: Capabilities) -> bool:
    """Return whether these kernels can compute ``structure``: not with a prologue."""
    return not structure.has_prologue and refusal(structure, capabilities) is None


def naive(structure: LinearStructure) -> Tuning:
    """Return the plain Tuning: one thread per output and token."""
    return DirectTuning()


def default(structure: LinearStructure, capabilities: Capabilities) -> Tuning:
    """Return the Tuning to start from where nothing has been measured."""
    if structure.arithmetic != "f32":
        return _rounded_default(structure, capabilities)
    if capabilities.software:
        wider = swap.default(structure, capabilities) or wide.default(structure, capabilities)
        return wider or quad_default(structure, structure.outputs, structure.tokens, capabilities)
    if structure.tokens <= 32:
        return TileTuning(32, 32, 32, 4)
    return TileTuning()


_TILES = (
    TileTuning(32, 16, 16, 4),
    TileTuning(32, 16, 32, 4),
    TileTuning(64, 16, 32, 4),
    TileTuning(32, 32, 16, 4),
    TileTuning(32, 32, 32, 4),
    TileTuning(32, 64, 16, 4),
    TileTuning(64, 32, 16, 4),
    TileTuning(64, 32, 32, 4),
    TileTuning(64, 64, 16, 4),
    TileTuning(64, 64, 16, 8),
    TileTuning(64, 64, 32, 4),
    TileTuning(64, 64, 32, 8),
    TileTuning(128, 64, 16, 8),
    TileTuning(64, 128, 16, 8),
)

_FEW_GROUPS = 128
"""Workgroups below which a GPU's processors have little to hide their waiting with."""


def _rounded_default(structure: LinearStructure, capabilities: Capabilities) -> RoundedTuning:
    if capabilities.software:
        return rounded.default(structure, capabilities)
    small = RoundedTileTuning(32, 32, 64, 4)
    return small if structure.tokens <= 32 else RoundedTileTuning()


def space(structure: LinearStructure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing, naive first, then the default."""
    found = [naive(structure), default(structure, capabilities)]
    if structure.arithmetic != "f32":
        if capabilities.packed_dot or structure.arithmetic == "f16":
            found += _tiles(structure, rounded_tile.TILES, capabilities)
        return list(dict.fromkeys(found))
    swapping = swap.space(structure, capabilities)
    if swapping:  # always faster than anything else
        return list(dict.fromkeys([*found, *swapping]))
    found.append(DirectTuning(64, 4))
    wider = wide.space(structure, capabilities)
    if wider:  # always faster than any other kernel on a CPU
        quad_guess = quad_default(structure, structure.outputs, structure.tokens, capabilities)
        return list(dict.fromkeys([*found, quad_guess, *wider]))
    workgroups = (8, 16, 32, 64) if capabilities.software else (64,)
    found += [QuadTuning(size, 4) for size in workgroups]
    found += _tiles(structure, _TILES, capabilities)
    return list(dict.fromkeys(found))


def _tiles(
    structure: LinearStructure, given: Sequence[AnyTile], capabilities: Capabilities
) -> list[AnyTile]:
    """Return the tiles of ``given`` that are worth timing, split over the columns where that is."""
    shapes = list(given)
    if not capabilities.software:  # there a barrier costs more than it saves
        shapes += [split for shape in given for split in _splits(structure, shape)]
    most = min(capabilities.max_invocations, 128 if capabilities.software else 1024)
    return [
        shape
        for shape in shapes
        if shape.threads <= most
        and shape.memory(structure) <= capabilities.workgroup_memory
        # else half of the tile would be padding
        and (shape.block_tokens <= 32 or structure.tokens > shape.block_tokens // 2)
    ]


def _splits(structure: LinearStructure, shape: AnyTile) -> list[AnyTile]:
    """Return ``shape`` split over the columns, where that may pay.

    Two groups of threads where the grid is below ``_FEW_GROUPS``, four where it is below half of
    that, and only where each has at least two passes: a split brings more threads to the
    same tiles, for a barrier and a sum at the end.
    """
    found = [
        replace(shape, split=split)
        for split in (2, 4)
        if shape.groups(structure) * split < 2 * _FEW_GROUPS
        and structure.columns >= 2 * split * shape.block_columns
    ]
    return [tuning for tuning in found if tuning.has_room]


def kernel(structure: LinearStructure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel of a dense linear map without prologue.

    KernelError where ``tuning`` is for another kind.
    """
    parts = dense_roles(structure)
    if structure.arithmetic != "f32" and isinstance(tuning, DirectTuning | RoundedLanesTuning):
        return rounded.kernel(parts, structure, tuning, capabilities)
    if structure.arithmetic != "f32" and isinstance(tuning, RoundedTileTuning):
        return rounded_tile.kernel(parts, structure, tuning, capabilities)
    if structure.arithmetic != "f32" or isinstance(tuning, RoundedLanesTuning | RoundedTileTuning):
        raise KernelError(f"{tuning} does not compute in {structure.arithmetic}.")
    if isinstance(tuning, WideTuning):
        return wide.kernel(parts, structure, tuning, capabilities)
    if isinstance(tuning, SwapTuning):
        return swap.kernel(parts, structure, tuning, capabilities)
    if isinstance(tuning, DirectTuning):
        return direct(parts, tuning, capabilities)
    if isinstance(tuning, QuadTuning):
        return quad(parts, tuning, capabilities)
    source = link(
        (
            "ops/matmul.wgsl",
            *parts.files,
            tuning.role,
        ),
        constants={
            "BLOCK_ROWS": tuning.block_rows,
            "BLOCK_TOKENS": tuning.block_tokens,
            "BLOCK_UNITS": tuning.block_columns // 8,
            "THREAD_TOKENS": tuning.thread_tokens,
            "SPLIT": tuning.split,
            **parts.constants,
        },
        bindings=parts.bindings,
    )
    return Kernel(
        label=f"matmul {parts.label}",
        source=source,
        bindings=parts.bindings,
        grid=spread(tuning.groups(structure), capabilities),
        cost=parts.cost,
    )
