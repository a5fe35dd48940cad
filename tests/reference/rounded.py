"""The numpy twin of activations rounded to int8 or f16: 32 columns share a scale.

Products of int8 values with a weight's codes are exact integers; times both scales they are what
``linear`` computes from the values that ``rounded`` returns. In f16 products and sums of eight are
rounded as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
CLEAR = 2e-3
"""Distance from the border between two integers that no rounding in f32 bridges, also of a norm."""


def codes_of(x: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is rounded, in units of the scales, ``[T, K / 32, 32]``, and those scales."""
    blocks = x.astype(np.float64).reshape(len(x), -1, BLOCK)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / 127
    return np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales > 0), scales


def rounded(x: NDArray[np.floating], arithmetic: str = "int8") -> NDArray[np.float64]:
    """Return ``x[T, K]`` as it is after rounding (half to even)."""
    codes, scales = codes_of(x)
    if arithmetic == "f16":
        return ((codes / 127).astype(np.float16) * (scales * 127)).reshape(x.shape)
    return (np.rint(codes) * scales).reshape(x.shape)


def at_a_border(x: NDArray[np.floating], clear: float = CLEAR) -> NDArray[np.bool_]:
    """Return which of ``x[T, K]`` may be rounded either way by whoever computes them in f32."""
    codes, _ = codes_of(x)
    return (np.abs(np.abs(codes - np.rint(codes)) - 0.5) < clear).reshape(x.shape)
