"""Tiles of weight rows by tokens that groups of threads of one workgroup may share.

See ``matmul.py`` (f32) and ``rounded_tile.py`` for what lies in them. Knows nothing of graphs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from .kernel import ceil_div
from .linear import LinearStructure


@dataclass(frozen=True)
class SplitTile(ABC):
    """A workgroup computes ``block_rows`` x ``block_tokens``."""

    block_rows: int = 64
    """Weight rows (gate and up rows alternating where gated)."""
    block_tokens: int = 64
    block_columns: int = 16
    """Columns per pass; a multiple of 8, of 32 where rounded."""
    thread_tokens: int = 4
    """Tokens per thread (4 or 8), by four rows."""
    split: int = 1
    """Groups of threads that take every ``split``-th pass over the columns and add up at the end,
    through workgroup memory: 1, 2 or 4."""

    @property
    def threads(self) -> int:
        """Threads of the workgroup."""
        each = self.block_rows // 4 * (self.block_tokens // self.thread_tokens)
        return each * self.split

    @abstractmethod
    def memory(self, structure: LinearStructure) -> int:
        """Return the bytes of workgroup memory."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether the sums of a split have a place."""

    @property
    def role(self) -> str:
        """The file that adds up, or does not."""
        return "linear/split.wgsl" if self.split > 1 else "linear/split_none.wgsl"

    def groups(self, structure: LinearStructure) -> int:
        """Return how many workgroups ``structure`` takes."""
        outputs = self.block_rows // (2 if structure.gated else 1)
        across = ceil_div(structure.outputs, outputs)
        return across * ceil_div(structure.tokens, self.block_tokens)
