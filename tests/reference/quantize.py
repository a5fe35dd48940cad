"""Weights in the file's formats, for tests: quantizers of three formats, random blocks of all.

Q8_0 and Q4_0 are what ggml's ``quantize_row_*_ref`` make, to the bit. Q4_K takes each sub-block's
range as it is, where ggml searches for a better one: right by construction, a little less accurate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilewright.formats.quant import QuantType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def quantize(quant: QuantType, weights: Floats) -> bytes:
    """Return ``float32[rows, columns]`` as the file's bytes. F32, F16, BF16, Q8_0, Q4_0, Q4_K."""
    flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
    if quant.name == "F32":
        return flat.tobytes()
    if quant.name == "F16":
        return flat.astype(np.float16).tobytes()
    if quant.name == "BF16":
        return _bf16(flat).tobytes()
    if weights.shape[-1] % quant.block:
        raise ValueError(f"{weights.shape[-1]} columns are no multiple of {quant.block}")
    blocks = flat.reshape(-1, quant.block)
    return {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_K": _q4_k}[quant.name](blocks).tobytes()


def random_blocks(
    quant: QuantType, rows: int, columns: int, generator: np.random.Generator
) -> bytes:
    """Return random bytes whose weights are finite and not much above 1: every code occurs.

    The scales are positive for some blocks and negative for others.
    """
    count = rows * quant.row_bytes(columns) // quant.nbytes
    if quant.block == 1:
        return quantize(quant, generator.standard_normal((rows, columns), np.float32))
    blocks = generator.integers(0, 256, (count, quant.nbytes), np.uint8)
    if quant.name == "MXFP4":
        blocks[:, 0] = generator.integers(118, 126, count)
        return blocks.tobytes()
    offsets, divisor = _SCALES[quant.name]
    for offset in offsets:
        scale = generator.uniform(0.2, 1.0, count) / divisor * generator.choice((-1, 1), count)
        half = scale.astype(np.float16)[:, None].view(np.uint8)
        if quant.name == "IQ1_M":
            _put_quarters(blocks, half)
        else:
            blocks[:, offset : offset + 2] = half
    return blocks.tobytes()


_SCALES: dict[str, tuple[tuple[int, ...], float]] = {
    "Q4_0": ((0,), 8),
    "Q4_1": ((0, 2), 15),
    "Q5_0": ((0,), 16),
    "Q5_1": ((0, 2), 31),
    "Q8_0": ((0,), 127),
    "IQ4_NL": ((0,), 127),
    "Q2_K": ((80, 82), 45),
    "Q3_K": ((108,), 128),
    "Q4_K": ((0, 2), 945),
    "Q5_K": ((0, 2), 1953),
    "Q6_K": ((208,), 4096),
    "IQ4_XS": ((0,), 4064),
    "TQ1_0": ((52,), 1),
    "TQ2_0": ((64,), 1),
    "IQ2_XXS": ((0,), 160),
    "IQ2_XS": ((0,), 160),
    "IQ2_S": ((0,), 160),
    "IQ3_XXS": ((0,), 480),
    "IQ3_S": ((0,), 480),
    "IQ1_S": ((0,), 15),
    "IQ1_M": ((48,), 15),
}
"""Where the f16 scales of a block lie, and what the largest code times the largest factor is."""


def _put_quarters(blocks: Bytes, half: Bytes) -> None:
    """IQ1_M keeps its f16 in the top nibbles of four u16 words, lowest nibble first."""
    nibbles = np.stack([half[:, 0] & 15, half[:, 0] >> 4, half[:, 1] & 15, half[:, 1] >> 4], axis=1)
    blocks[:, 49:56:2] = blocks[:, 49:56:2] & 15 | nibbles << 4


def _bf16(values: Floats) -> NDArray[np.uint16]:
    bits = values.view(np.uint32).astype(np.uint64)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)  # round to nearest even


def _inverse(scale: Floats) -> Floats:
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)


def _halves(scale: Floats) -> Bytes:
    return scale.astype(np.float16).view(np.uint8)


def _q8_0(blocks: Floats) -> Bytes:
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * _inverse(scale)
    codes = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.concatenate([_halves(scale), codes.view(np.uint8)], axis=1)


def _q4_0(blocks: Floats) -> Bytes:
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-8)
    codes = np.trunc(blocks * _inverse(scale) + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    return np.concatenate([_halves(scale), codes[:, :16] | codes[:, 16:] << 4], axis=1)


def _q4_k(blocks: Floats) -> Bytes:
    parts = blocks.reshape(-1, 8, 32)
    minimums = np.minimum(parts.min(axis=2), 0)
    scales = (np.maximum(parts.max(axis=2), 0) - minimums) / np.float32(15)
    d, dmin = (x.max(axis=1, keepdims=True) / np.float32(63) for x in (scales, -minimums))
    scale_codes = np.rint(scales * _inverse(d)).clip(0, 63).astype(np.uint8)
    minimum_codes = np.rint(-minimums * _inverse(dmin)).clip(0, 63).astype(np.uint8)
    # quantize with the scales as they will be read
    step = d.astype(np.float16).astype(np.float32) * scale_codes
    base = dmin.astype(np.float16).astype(np.float32) * minimum_codes
    codes = np.rint((parts + base[..., None]) * _inverse(step)[..., None]).clip(0, 15)
    pairs = codes.astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = np.concatenate(
        [
            scale_codes[:, :4] | scale_codes[:, 4:] >> 4 << 6,
            minimum_codes[:, :4] | minimum_codes[:, 4:] >> 4 << 6,
            scale_codes[:, 4:] & 15 | (minimum_codes[:, 4:] & 15) << 4,
        ],
        axis=1,
    )
    quants = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([_halves(d), _halves(dmin), packed, quants], axis=1)
