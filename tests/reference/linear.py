"""The numpy twins of the linear kernels, and random weight blocks to feed them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tests.reference.dequantize import dequantize

from tilewright.formats.quant import QuantType

Floats = NDArray[np.float32]

_HALVES: dict[str, tuple[int, ...]] = {
    "Q4_1": (0, 2),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}
"""Where f16 scales lie in a block; (0,) for those not named."""


def random_weight(
    rng: np.random.Generator, quant: QuantType, rows: int, columns: int
) -> tuple[bytes, Floats]:
    """Return random raw rows as they lie in a file, with sane scales, and their float32 values."""
    if quant.block == 1:
        values = rng.standard_normal((rows, columns)).astype(np.float32)
        raw = {
            "F32": values.tobytes(),
            "F16": values.astype(np.float16).tobytes(),
            "BF16": (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
        }[quant.name]
        return raw, dequantize(quant, raw, rows, columns)
    count = rows * columns // quant.block
    blocks = rng.integers(0, 256, (count, quant.nbytes), dtype=np.uint8)
    if quant.name == "MXFP4":
        blocks[:, 0] = rng.integers(118, 124, count)
    elif quant.name == "IQ1_M":
        scale = _scales(rng, count).view(np.uint16)
        words = blocks[:, 48:56].copy().view(np.uint16)
        nibbles = scale[:, None] >> np.array([0, 4, 8, 12], np.uint16) & 15
        words = words & 0x0FFF | (nibbles << 12).astype(np.uint16)
        blocks[:, 48:56] = words.astype(np.uint16).view(np.uint8)
    else:
        for offset in _HALVES.get(quant.name, (0,)):
            scale = _scales(rng, count)
            blocks[:, offset : offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    raw = blocks.tobytes()
    return raw, dequantize(quant, raw, rows, columns)


def _scales(rng: np.random.Generator, count: int) -> NDArray[np.float16]:
    signs = rng.choice([-1.0, 1.0], count)
    return ((rng.random(count) * 0.01 + 0.001) * signs).astype(np.float16)


def _erf(y: NDArray[np.float64]) -> NDArray[np.float64]:
    from math import erf

    return np.vectorize(erf)(y)


ACTIVATIONS = {
    None: lambda y: y,
    "silu": lambda y: y / (1 + np.exp(-y)),
    "gelu": lambda y: 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))),
    "gelu_erf": lambda y: 0.5 * y * (1 + _erf(y / np.sqrt(2))),
    "relu": lambda y: np.maximum(y, 0),
    "tanh": np.tanh,
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
}


@dataclass(frozen=True)
class Epilogue:
    """What is done with the products, in this order."""

    bias: Floats | None = None
    activation: str | None = None
    gated: bool = False
    scale: float = 1.0
    row_gate: Floats | None = None
    residual: Floats | None = None
    softcap: float = 0.0


def normalised(
    x: NDArray[np.floating], kind: str, weight: Floats, bias: Floats | None, epsilon: float
) -> NDArray[np.float64]:
    """Return the ``rms`` or ``layer`` norm of each row of ``x[T, K]``."""
    rows = x.astype(np.float64)
    if kind == "layer":
        rows = rows - rows.mean(axis=1, keepdims=True)
    rows = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + epsilon) * weight
    return rows if bias is None else rows + bias


def linear(x: NDArray[np.floating], weight: Floats, epilogue: Epilogue) -> NDArray[np.float64]:
    """Return ``epilogue(x[T, K] @ weight[N, K].T)`` in double precision."""
    y = x.astype(np.float64) @ weight.astype(np.float64).T
    if epilogue.bias is not None:
        y = y + epilogue.bias
    half = y.shape[1] // 2 if epilogue.gated else y.shape[1]
    gate = ACTIVATIONS[epilogue.activation](y[:, :half])
    y = (gate * y[:, half:] if epilogue.gated else gate) * epilogue.scale
    if epilogue.row_gate is not None:
        y = y * ACTIVATIONS["sigmoid"](epilogue.row_gate.astype(np.float64))[:, None]
    if epilogue.residual is not None:
        y = y + epilogue.residual
    return epilogue.softcap * np.tanh(y / epilogue.softcap) if epilogue.softcap else y
