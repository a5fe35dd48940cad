"""The numpy twin of every weight format: blocks of bytes -> float32, bit for bit as ggml does it.

Written to be read beside the WGSL role files: one function per format, which gets ``uint8[N,
nbytes]`` (N whole blocks) and returns ``float32[N, block]``. The layouts are those of ggml's
``ggml-common.h``; the order of the float32 operations is that of ``dequantize_row_*`` in
``ggml-quants.c``, so that results are equal to the last bit (checked against the gguf package; the
golden file in ``tests/golden`` records that).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tilewright.formats import grids
from tilewright.formats.quant import QuantType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

SUPER = 256
"""Weights of a super-block (the K, IQ and TQ formats)."""


def dequantize(quant: QuantType, raw: bytes | Bytes, rows: int, columns: int) -> Floats:
    """Return the weights as ``float32[rows, columns]``.

    ``raw`` are the bytes of the whole matrix, row after row, as they lie in the file. ValueError
    where their number does not fit.
    """
    data = np.frombuffer(raw, np.uint8) if isinstance(raw, bytes) else raw.reshape(-1)
    expected = rows * quant.row_bytes(columns)
    if data.size != expected:
        raise ValueError(f"{rows}x{columns} {quant.name} takes {expected} bytes, not {data.size}")
    blocks = np.ascontiguousarray(data).reshape(-1, quant.nbytes)
    with np.errstate(invalid="ignore", over="ignore"):
        return _FORMATS[quant.name](blocks).astype(np.float32, copy=False).reshape(rows, columns)


def _fields(packed: Bytes, bits: int, group: int) -> Bytes:
    """Split bytes into ``bits`` wide fields, ``uint8[N, n] -> uint8[N, n * 8 / bits]``.

    Bytes are taken in groups: first the lowest fields of all bytes of a group, then the next
    higher ones, and so on; with ``group`` 1 the fields of a byte follow each other.
    """
    count = packed.shape[0]
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
    fields = packed.reshape(count, -1, 1, group) >> shifts & np.uint8((1 << bits) - 1)
    return fields.reshape(count, -1)


def _half(blocks: Bytes, offset: int) -> Floats:
    """Read the f16 at ``offset`` of each block, as ``float32[N, 1]``."""
    return _words(blocks[:, offset : offset + 2]).view(np.float16).astype(np.float32)


def _words(packed: Bytes) -> NDArray[np.uint16]:
    return np.ascontiguousarray(packed).view("<u2")


def _longs(packed: Bytes) -> NDArray[np.uint32]:
    return np.ascontiguousarray(packed).view("<u4")


def _spread(values: NDArray[np.generic], times: int) -> NDArray[np.generic]:
    """Repeat each value for the ``times`` weights it governs."""
    return np.repeat(values, times, axis=1)


def _table(data: bytes, axes: int, dtype: type = np.uint8) -> Floats:
    return np.frombuffer(data, dtype).reshape(-1, axes).astype(np.float32)


def _signs(bits: Bytes) -> Floats:
    """Turn sign bytes into factors, ``uint8[N, n] -> float32[N, 8n]``; a set bit is minus."""
    return np.where(_fields(bits, 1, 1), np.float32(-1), np.float32(1))


# Unquantized


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4")


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (_words(blocks).astype(np.uint32) << 16).view(np.float32)


# Blocks of 32: one scale d (and a minimum m)


def _q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_fields(blocks[:, 2:], 4, 16).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _fields(blocks[:, 4:], 4, 16) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    fifth = _fields(blocks[:, 2:6], 1, 1) << 4
    return _half(blocks, 0) * ((_fields(blocks[:, 6:], 4, 16) | fifth).astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    fifth = _fields(blocks[:, 4:8], 1, 1) << 4
    return _half(blocks, 0) * (_fields(blocks[:, 8:], 4, 16) | fifth) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8)


def _iq4_nl(blocks: Bytes) -> Floats:
    levels = np.array(grids.IQ4_VALUES, np.float32)
    return _half(blocks, 0) * levels[_fields(blocks[:, 2:], 4, 16)]


def _mxfp4(blocks: Bytes) -> Floats:
    exponent = blocks[:, :1].astype(np.uint32)
    # half of 2^(e-127), because the levels are doubled; below e = 2 it is a subnormal float32
    bits = np.where(exponent < 2, 0x00200000 << exponent, (exponent - 1) << 23)
    levels = np.array(grids.MXFP4_VALUES, np.float32)
    return bits.astype(np.uint32).view(np.float32) * levels[_fields(blocks[:, 1:], 4, 16)]


# Super-blocks of 256: scales of sub-blocks are quantized too


def _q2_k(blocks: Bytes) -> Floats:
    """scales[16] (4 bits scale, 4 bits minimum), quants[64], d, dmin."""
    scale = _half(blocks, 80) * (blocks[:, :16] & 15)
    minimum = _half(blocks, 82) * (blocks[:, :16] >> 4)
    return _spread(scale, 16) * _fields(blocks[:, 16:80], 2, 32) - _spread(minimum, 16)


def _q3_k(blocks: Bytes) -> Floats:
    """high bits[32], low two bits[64], scales[12] (6 bits each, minus 32), d."""
    low = _fields(blocks[:, 96:104], 4, 8)
    high = _fields(blocks[:, 104:108], 2, 4)
    scale = _half(blocks, 108) * ((low | high << 4).astype(np.float32) - 32)
    # a *clear* high bit means minus four
    quants = (_fields(blocks[:, 32:96], 2, 32) | _fields(blocks[:, :32], 1, 32) << 2).astype(
        np.float32
    ) - 4
    return _spread(scale, 16) * quants


def _scales_and_minimums(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Unpack the twelve bytes of Q4_K and Q5_K into eight scales and eight minimums of 6 bits.

    Bytes 0..3 and 4..7 hold scales and minimums 0..3 in their low six bits; bytes 8..11 hold the
    low nibbles of scales and minimums 4..7, whose high two bits are the top bits of bytes 0..7.
    """
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minimums = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return scales, minimums


def _q4_k(blocks: Bytes) -> Floats:
    """d, dmin, scales and minimums[12], quants[128]."""
    scales, minimums = _scales_and_minimums(blocks[:, 4:16])
    scale, minimum = _half(blocks, 0) * scales, _half(blocks, 2) * minimums
    return _spread(scale, 32) * _fields(blocks[:, 16:], 4, 32) - _spread(minimum, 32)


def _q5_k(blocks: Bytes) -> Floats:
    """d, dmin, scales and minimums[12], fifth bits[32], quants[128]."""
    scales, minimums = _scales_and_minimums(blocks[:, 4:16])
    scale, minimum = _half(blocks, 0) * scales, _half(blocks, 2) * minimums
    quants = _fields(blocks[:, 48:], 4, 32) | _fields(blocks[:, 16:48], 1, 32) << 4
    return _spread(scale, 32) * quants - _spread(minimum, 32)


def _q6_k(blocks: Bytes) -> Floats:
    """low nibbles[128], high two bits[64], int8 scales[16], d."""
    scale = _half(blocks, 208) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    quants = _fields(blocks[:, :128], 4, 64) | _fields(blocks[:, 128:192], 2, 32) << 4
    return _spread(scale, 16) * (quants.astype(np.float32) - 32)


def _iq4_xs(blocks: Bytes) -> Floats:
    """d, high bits of scales (2 bits each)[2], low nibbles of scales[4], quants[128]."""
    high = _fields(blocks[:, 2:4], 2, 1)
    scale = _half(blocks, 0) * ((_fields(blocks[:, 4:8], 4, 1) | high << 4).astype(np.float32) - 32)
    levels = np.array(grids.IQ4_VALUES, np.float32)
    return _spread(scale, 32) * levels[_fields(blocks[:, 8:], 4, 16)]


# Ternary


def _tq1_0(blocks: Bytes) -> Floats:
    """quants[52] (five base-3 digits a byte; the last four bytes hold four), d.

    A byte is the ceiling of digits * 256 / 243; multiplying it by a power of three (mod 256) brings
    a digit to the top, where times three, divided by 256, reads it.
    """

    def digits(packed: Bytes, group: int, count: int) -> Bytes:
        powers = np.array([1, 3, 9, 27, 81][:count], np.uint8).reshape(1, 1, -1, 1)
        tops = packed.reshape(len(packed), -1, 1, group) * powers
        return (tops.astype(np.uint16) * 3 >> 8).astype(np.uint8).reshape(len(packed), -1)

    quants = [digits(blocks[:, :32], 32, 5), digits(blocks[:, 32:48], 16, 5)]
    quants.append(digits(blocks[:, 48:52], 4, 4))
    return _half(blocks, 52) * (np.concatenate(quants, axis=1).astype(np.float32) - 1)


def _tq2_0(blocks: Bytes) -> Floats:
    """quants[64], d."""
    return _half(blocks, 64) * (_fields(blocks[:, :64], 2, 32).astype(np.float32) - 1)


# Grid formats: a code names a point of 8 (or 4) weights


def _points(grid: Floats, codes: NDArray[np.integer]) -> Floats:
    return grid[codes].reshape(len(codes), -1)


def _sign_bytes(words: NDArray[np.uint32]) -> Bytes:
    """Look up four 7-bit sign codes per word, ``uint32[N, n] -> uint8[N, 4n]``."""
    codes = words[:, :, None] >> np.array([0, 7, 14, 21], np.uint32) & np.uint32(127)
    return np.frombuffer(grids.iq2_signs(), np.uint8)[codes].reshape(len(words), -1)


def _iq2_xxs(blocks: Bytes) -> Floats:
    """d, then per 32 weights: four grid codes[4], a word of four sign codes and a 4-bit scale."""
    groups = blocks[:, 2:].reshape(len(blocks), 8, 8)
    words = _longs(groups[:, :, 4:])[:, :, 0]
    scale = _half(blocks, 0) * (np.float32(0.5) + (words >> 28).astype(np.float32))
    scale = scale * np.float32(0.25)
    points = _points(_table(grids.iq2xxs_grid(), 8), groups[:, :, :4].reshape(len(blocks), -1))
    return _spread(scale, 32) * points * _signs(_sign_bytes(words))


def _iq2_xs(blocks: Bytes) -> Floats:
    """d, codes[32] as u16 (9 bits point, 7 bits signs), scales[8] (4 bits per 16 weights)."""
    codes = _words(blocks[:, 2:66])
    scale = _half(blocks, 0) * (np.float32(0.5) + _fields(blocks[:, 66:], 4, 1))
    scale = scale * np.float32(0.25)
    points = _points(_table(grids.iq2xs_grid(), 8), codes & 511)
    signs = np.frombuffer(grids.iq2_signs(), np.uint8)[codes >> 9]
    return _spread(scale, 16) * points * _signs(signs)


def _iq2_s(blocks: Bytes) -> Floats:
    """d, low code bytes[32], signs[32], high code bits[8] (2 each), scales[8]."""
    codes = blocks[:, 2:34].astype(np.uint16)
    codes |= _fields(blocks[:, 66:74], 2, 1).astype(np.uint16) << 8
    scale = _half(blocks, 0) * (np.float32(0.5) + _fields(blocks[:, 74:], 4, 1))
    scale = scale * np.float32(0.25)
    points = _points(_table(grids.iq2s_grid(), 8), codes)
    return _spread(scale, 16) * points * _signs(blocks[:, 34:66])


def _iq3_xxs(blocks: Bytes) -> Floats:
    """d, codes[64] (4 weights each), words[8] (four sign codes, 4-bit scale; per 32 weights)."""
    words = _longs(blocks[:, 66:])
    scale = _half(blocks, 0) * (np.float32(0.5) + (words >> 28).astype(np.float32))
    scale = scale * np.float32(0.5)
    points = _points(_table(grids.iq3xxs_grid(), 4), blocks[:, 2:66])
    return _spread(scale, 32) * points * _signs(_sign_bytes(words))


def _iq3_s(blocks: Bytes) -> Floats:
    """d, low code bytes[64], ninth code bits[8], signs[32], scales[4] (4 bits per 32 weights)."""
    codes = blocks[:, 2:66].astype(np.uint16)
    codes |= _fields(blocks[:, 66:74], 1, 1).astype(np.uint16) << 8
    scale = _half(blocks, 0) * (1 + 2 * _fields(blocks[:, 106:], 4, 1))
    points = _points(_table(grids.iq3s_grid(), 4), codes)
    return _spread(scale, 32) * points * _signs(blocks[:, 74:106])


def _delta(minus: NDArray[np.bool_]) -> Floats:
    return np.where(minus, np.float32(-0.125), np.float32(0.125))


def _iq1_s(blocks: Bytes) -> Floats:
    """d, low code bytes[32], words[8] as u16 (4 x 3 code bits, 3-bit scale, sign of delta)."""
    words = _words(blocks[:, 34:])
    high = (words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7).reshape(len(blocks), -1)
    points = _points(_table(grids.iq1s_grid(), 8, np.int8), blocks[:, 2:34] | high << 8)
    scale = _half(blocks, 0) * (2 * (words >> 12 & 7) + 1)
    return _spread(scale, 32) * (points + _spread(_delta(words >> 15 > 0), 32))


def _iq1_m(blocks: Bytes) -> Floats:
    """low code bytes[32], nibbles[16] (3 code bits, delta's sign), words[4] as u16.

    A word holds four 3-bit scales (16 weights each) and, in its top nibble, a quarter of d.
    """
    words = _words(blocks[:, 48:])
    quarters = (words >> 12) << np.array([0, 4, 8, 12], np.uint16)
    d = np.bitwise_or.reduce(quarters, axis=1, keepdims=True).astype("<u2").view(np.float16)
    scales = (words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7).reshape(len(blocks), -1)
    scale = d.astype(np.float32) * (2 * scales + 1)
    nibbles = _fields(blocks[:, 32:48], 4, 1)
    codes = blocks[:, :32] | (nibbles & 7).astype(np.uint16) << 8
    points = _points(_table(grids.iq1s_grid(), 8, np.int8), codes)
    return _spread(scale, 16) * (points + _spread(_delta(nibbles > 7), 8))


_FORMATS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s,
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
}
