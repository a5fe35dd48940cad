"""Block quantization in numpy: F32, Q8_0, Q4_0 and Q4_K, to bytes and back.

Layouts are those of ggml (ggml-common.h: block_q8_0, block_q4_0, block_q4_K).  Q4_K's scales and
minima are found by a small search with a least-squares refit of our own, so files differ from
llama.cpp's in the last bits, not in format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BLOCKS = {"f32": (1, 4), "q8_0": (32, 34), "q4_0": (32, 18), "q4_k": (256, 144)}
"""(elements, bytes) of one block."""


def _half(values: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """float16 bytes u8[N, 2], and the values they stand for."""
    half = values.astype(np.float16)
    return half.reshape(-1, 1).view(np.uint8), half.astype(np.float32)


def _inverse(values: Floats) -> Floats:
    return np.divide(1.0, values, out=np.zeros_like(values), where=values != 0)


def encode_q8_0(x: Floats) -> bytes:
    """f32[..., 32 n] to blocks of f16 scale and 32 signed bytes."""
    blocks = x.reshape(-1, 32)
    raw, scale = _half(np.abs(blocks).max(1) / 127)
    quants = np.clip(np.rint(blocks * _inverse(scale)[:, None]), -127, 127).astype(np.int8)
    return np.hstack([raw, quants.view(np.uint8)]).tobytes()


def decode_q8_0(data: bytes) -> Floats:
    """Blocks to flat f32."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, 34)
    scale = raw[:, :2].copy().view(np.float16).astype(np.float32)
    return (raw[:, 2:].copy().view(np.int8).astype(np.float32) * scale).ravel()


def encode_q4_0(x: Floats) -> bytes:
    """f32[..., 32 n] to blocks of f16 scale and 16 bytes; the largest magnitude becomes -8."""
    blocks = x.reshape(-1, 32)
    peak = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(1)]
    raw, scale = _half(peak / -8)
    quants = np.clip(np.rint(blocks * _inverse(scale)[:, None] + 8), 0, 15).astype(np.uint8)
    return np.hstack([raw, quants[:, :16] | quants[:, 16:] << 4]).tobytes()


def decode_q4_0(data: bytes) -> Floats:
    """Blocks to flat f32."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, 18)
    scale = raw[:, :2].copy().view(np.float16).astype(np.float32)
    quants = np.hstack([raw[:, 2:] & 15, raw[:, 2:] >> 4]).astype(np.float32) - 8
    return (quants * scale).ravel()


def _fit_group(x: Floats) -> tuple[Floats, Floats]:
    """Scale and minimum (both >= 0) of f32[N, 32] for x = scale * q - minimum, q in 0..15.

    Tries a range of scales, refits scale and minimum to each rounding by weighted least squares
    (weights |x| + rms, since large weights matter more), keeps the best.
    """
    weight = np.abs(x) + np.sqrt(np.square(x).mean(1, keepdims=True))
    low = np.minimum(x.min(1), 0)
    span = np.maximum(x.max(1), 0) - low
    best_scale, best_low = span / 15, low
    best_error = np.full(len(x), np.inf, np.float32)
    total = weight.sum(1)
    sum_x = (weight * x).sum(1)
    for steps in np.linspace(13.6, 16.4, 15, dtype=np.float32):
        inverse = _inverse(span / steps)[:, None]
        q = np.clip(np.rint((x - low[:, None]) * inverse), 0, 15)
        sum_q, sum_qq, sum_xq = (
            (weight * q).sum(1),
            (weight * q * q).sum(1),
            (weight * x * q).sum(1),
        )
        determinant = total * sum_qq - sum_q * sum_q
        inverse_det = _inverse(np.maximum(determinant, 0))
        scale = (total * sum_xq - sum_x * sum_q) * inverse_det
        offset = (sum_qq * sum_x - sum_q * sum_xq) * inverse_det
        above = offset > 0
        scale = np.where(above, sum_xq * _inverse(sum_qq), scale)
        offset = np.where(above, 0, offset)
        error = (weight * np.square(scale[:, None] * q + offset[:, None] - x)).sum(1)
        better = (error < best_error) & (scale > 0)
        best_error = np.where(better, error, best_error)
        best_scale, best_low = (
            np.where(better, scale, best_scale),
            np.where(better, offset, best_low),
        )
    return best_scale.astype(np.float32), -best_low.astype(np.float32)


def encode_q4_k(x: Floats) -> bytes:
    """f32[..., 256 n] to super-blocks.

    Two f16 factors, eight six-bit scales and minima, 128 bytes of nibbles.
    """
    groups = x.reshape(-1, 8, 32)
    scale, minimum = (part.reshape(-1, 8) for part in _fit_group(groups.reshape(-1, 32)))
    raw_d, d = _half(scale.max(1) / 63)
    raw_m, dmin = _half(minimum.max(1) / 63)
    scales = np.clip(np.rint(scale * _inverse(d)[:, None]), 0, 63).astype(np.uint8)
    minima = np.clip(np.rint(minimum * _inverse(dmin)[:, None]), 0, 63).astype(np.uint8)
    step = d[:, None] * scales
    quants = np.rint((groups + (dmin[:, None] * minima)[..., None]) * _inverse(step)[..., None])
    quants = np.clip(quants, 0, 15).astype(np.uint8)
    packed = np.hstack(
        [
            scales[:, :4] | (scales[:, 4:] >> 4) << 6,
            minima[:, :4] | (minima[:, 4:] >> 4) << 6,
            (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4,
        ]
    )
    nibbles = (quants[:, 0::2] | quants[:, 1::2] << 4).reshape(-1, 128)
    return np.hstack([raw_d, raw_m, packed, nibbles]).tobytes()


def decode_q4_k(data: bytes) -> Floats:
    """Super-blocks to flat f32."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, 144)
    d, dmin = (raw[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    packed = raw[:, 4:16]
    scales = np.hstack([packed[:, :4] & 63, (packed[:, 8:] & 15) | (packed[:, :4] >> 6) << 4])
    minima = np.hstack([packed[:, 4:8] & 63, (packed[:, 8:] >> 4) | (packed[:, 4:8] >> 6) << 4])
    nibbles = raw[:, 16:].reshape(-1, 4, 32)
    quants = np.stack([nibbles & 15, nibbles >> 4], 2).reshape(-1, 8, 32).astype(np.float32)
    return (
        ((d * scales)[..., None] * quants - (dmin * minima)[..., None]).ravel().astype(np.float32)
    )


_CODECS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Floats]]] = {
    "f32": (lambda x: x.astype("<f4").tobytes(), lambda data: np.frombuffer(data, "<f4")),
    "q8_0": (encode_q8_0, decode_q8_0),
    "q4_0": (encode_q4_0, decode_q4_0),
    "q4_k": (encode_q4_k, decode_q4_k),
}


def encode(kind: str, x: Floats) -> bytes:
    """A tensor to the bytes of one type; its last axis must be a whole number of blocks."""
    if x.shape[-1] % BLOCKS[kind][0]:
        raise ValueError(f"{kind} needs rows of a multiple of {BLOCKS[kind][0]}, not {x.shape[-1]}")
    return _CODECS[kind][0](np.ascontiguousarray(x, np.float32))


def decode(kind: str, data: bytes, shape: tuple[int, ...]) -> Floats:
    """The values that those bytes stand for, f32[shape]."""
    return _CODECS[kind][1](data).reshape(shape)
