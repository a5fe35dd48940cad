"""The numpy twin of ``tilewright/wasm/kernels/encode.py``: the same operations in the same order.

Every operation is one IEEE float32 operation, sums run over vectors of four lanes as there, so the
bytes must be equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tests.reference.quantize import quantize

from tilewright.formats.quant import BY_NAME
from tilewright.wasm.kernels.encode import Q4_K_FIRST, Q4_K_STEP, Q4_K_TRIES

Floats = NDArray[np.float32]
_F = np.float32


def encode(target: str, values: Floats) -> bytes:
    """Return ``float32[rows, columns]`` as blocks of Q8_0, Q4_0 or Q4_K."""
    if target != "Q4_K":
        return quantize(BY_NAME[target], values)
    return _q4_k(np.ascontiguousarray(values, _F).reshape(-1, 256)).tobytes()


def _inverse(values: Floats) -> Floats:
    return np.divide(_F(1), values, out=np.zeros_like(values), where=values != 0)


def _total(terms: Floats) -> Floats:
    """Sum ``float32[N, 32]`` as eight vectors of four lanes, then the lanes."""
    vectors = terms.reshape(-1, 8, 4)
    lanes = vectors[:, 0].copy()
    for number in range(1, 8):
        lanes += vectors[:, number]
    return ((lanes[:, 0] + lanes[:, 1]) + lanes[:, 2]) + lanes[:, 3]


def _fit(x: Floats) -> tuple[Floats, Floats]:
    low = np.minimum(x.min(axis=1), _F(0))
    span = np.maximum(x.max(axis=1), _F(0)) - low
    weight = np.abs(x) + np.sqrt(_total(x * x) / _F(32))[:, None]
    sum_w, sum_x = _total(weight), _total(weight * x)
    best_scale, best_low = span / _F(15), low
    best_error = np.full(len(x), 3.0e38, _F)
    for attempt in range(Q4_K_TRIES):
        steps = _F(attempt) * _F(Q4_K_STEP) + _F(Q4_K_FIRST)
        inverse = _inverse(span / steps)[:, None]
        q = np.rint((x - low[:, None]) * inverse).clip(0, 15)
        weighted = weight * q
        sum_q, sum_qq, sum_xq = _total(weighted), _total(weighted * q), _total(weighted * x)
        determinant = _inverse(np.maximum(sum_w * sum_qq - sum_q * sum_q, _F(0)))
        scale = (sum_w * sum_xq - sum_x * sum_q) * determinant
        offset = (sum_qq * sum_x - sum_q * sum_xq) * determinant
        above = offset > 0
        scale = np.where(above, sum_xq * _inverse(sum_qq), scale)
        offset = np.where(above, _F(0), offset)
        apart = scale[:, None] * q + offset[:, None] - x
        error = _total(weight * (apart * apart))
        better = (error < best_error) & (scale > 0)
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_low = np.where(better, offset, best_low)
    return best_scale, -best_low


def _q4_k(blocks: Floats) -> NDArray[np.uint8]:
    groups = blocks.reshape(-1, 8, 32)
    fitted = [part.reshape(-1, 8) for part in _fit(groups.reshape(-1, 32))]
    halves = [(part.max(axis=1) / _F(63)).astype(np.float16) for part in fitted]
    d, dmin = (half.astype(_F)[:, None] for half in halves)
    scales, minima = (
        np.rint(part * _inverse(factor)).clip(0, 63).astype(np.uint8)
        for part, factor in zip(fitted, (d, dmin), strict=True)
    )
    step, base = d * scales.astype(_F), dmin * minima.astype(_F)
    quants = np.rint((groups + base[..., None]) * _inverse(step)[..., None]).clip(0, 15)
    pairs = quants.astype(np.uint8).reshape(-1, 4, 2, 32)
    return np.concatenate(
        [
            *(half[:, None].view(np.uint8) for half in halves),
            scales[:, :4] | scales[:, 4:] >> 4 << 6,
            minima[:, :4] | minima[:, 4:] >> 4 << 6,
            scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4,
            (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128),
        ],
        axis=1,
    )
