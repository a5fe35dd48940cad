"""Weight times many tokens, rounded: tiles of codes in workgroup memory.

See ``rounded.py`` for what is computed, ``matmul.py`` for tiles. Knows nothing of graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..link import link
from .kernel import Capabilities, Kernel, spread
from .linear import LinearStructure, Roles
from .rounded import BLOCK, block_bytes, block_roles
from .split_tile import SplitTile


@dataclass(frozen=True)
class RoundedTileTuning(SplitTile):
    """Of codes, with a scale per 32 columns."""

    block_columns: int = 64

    def memory(self, structure: LinearStructure) -> int:
        """Return the bytes of workgroup memory: codes, scales, and the sums of a split."""
        per_pass = self.block_columns // BLOCK * block_bytes(structure)
        tiles = per_pass * (self.block_rows + self.block_tokens) * self.split
        return tiles + 4 * self.block_rows * self.block_tokens * (self.split - 1)

    @property
    def has_room(self) -> bool:
        """Whether the sums of a split have a place: they have their own."""
        return True


TILES = (
    RoundedTileTuning(32, 16, 64, 4),
    RoundedTileTuning(64, 16, 64, 4),
    RoundedTileTuning(32, 32, 32, 4),
    RoundedTileTuning(32, 32, 64, 4),
    RoundedTileTuning(64, 32, 64, 4),
    RoundedTileTuning(64, 64, 32, 4),
    RoundedTileTuning(64, 64, 64, 4),
    RoundedTileTuning(64, 64, 64, 8),
    RoundedTileTuning(64, 64, 128, 8),
    RoundedTileTuning(128, 64, 32, 8),
    RoundedTileTuning(64, 128, 32, 8),
)


def kernel(
    parts: Roles, structure: LinearStructure, tuning: RoundedTileTuning, capabilities: Capabilities
) -> Kernel:
    """Return the kernel of a dense linear map without prologue."""
    roles = block_roles(parts, structure)
    source = link(
        (
            "ops/matmul_rounded.wgsl",
            *roles.files,
            tuning.role,
        ),
        constants={
            "BLOCK_ROWS": tuning.block_rows,
            "BLOCK_TOKENS": tuning.block_tokens,
            "PASS_BLOCKS": tuning.block_columns // BLOCK,
            "THREAD_TOKENS": tuning.thread_tokens,
            "SPLIT": tuning.split,
            **roles.constants,
        },
        bindings=roles.bindings,
        enables=roles.enables,
    )
    grid = spread(tuning.groups(structure), capabilities)
    label = f"matmul {structure.arithmetic} {parts.label}"
    return Kernel(label, source, roles.bindings, grid, parts.cost)
