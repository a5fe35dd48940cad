"""Test data: activations with padding rows and surrounding columns that must stay untouched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilewright.webgpu.kernels.kernel import Span

Array = NDArray[np.float32]
SENTINEL = np.float32(-77.25)


def step(tokens: int, outputs: int = 0, sequences: int = 1, first_slot: int = 0) -> Array:
    """Return the Step uniform."""
    return np.array([tokens, outputs, sequences, first_slot], np.uint32)


class Activation:
    """``f32[capacity, width]`` inside a wider buffer; rows from ``rows`` on are poison."""

    def __init__(
        self,
        generator: np.random.Generator,
        capacity: int,
        rows: int,
        width: int,
        *,
        before: int = 0,
        after: int = 0,
        scale: float = 1.0,
    ) -> None:
        self.rows, self.width = rows, width
        self.span = Span(before + width + after, before)
        self.buffer = np.full((capacity, self.span.stride), np.nan, np.float32)
        self.data = (scale * generator.standard_normal((rows, width))).astype(np.float32)
        self.buffer[:rows, before : before + width] = self.data


class Output:
    """A buffer of sentinels that a kernel writes some columns of."""

    def __init__(self, capacity: int, width: int, *, before: int = 0, after: int = 0) -> None:
        self.width = width
        self.span = Span(before + width + after, before)
        self.buffer = np.full((capacity, self.span.stride), SENTINEL, np.float32)

    def result(self, written: Array, rows: int) -> Array:
        """Return the rows of ``written``; everything around them must be as it was."""
        start = self.span.start
        around = written.copy()
        around[:rows, start : start + self.width] = SENTINEL
        assert (around == SENTINEL).all(), "padding was written"
        found: Array = written[:rows, start : start + self.width]
        return found
