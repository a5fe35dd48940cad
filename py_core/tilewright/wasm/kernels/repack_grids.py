"""Decoders of the IQ1, IQ2 and IQ3 formats: a code names a point of 8 (or 4) weights in a table.

The tables are data of the formats (``formats/grids.py``); the loader puts those of a format behind
the scratch before its tensors come. A weight becomes an unsigned quant around the format's zero
point, exactly: IQ1's eighths too, as ``(8 * point + sign) * scale / 8``. Layouts of the blocks are
those of ggml's ``ggml-common.h``; ``tests/reference/dequantize.py`` is the twin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ...formats import grids
from ..assembler import Expr, f32, i32, select
from .block import TABLES, Block

_SIGNS, _GRID = TABLES, TABLES + 128
_GRIDS: dict[str, Callable[[], bytes]] = {
    "IQ1_S": grids.iq1s_grid,
    "IQ1_M": grids.iq1s_grid,
    "IQ2_XXS": grids.iq2xxs_grid,
    "IQ2_XS": grids.iq2xs_grid,
    "IQ2_S": grids.iq2s_grid,
    "IQ3_XXS": grids.iq3xxs_grid,
    "IQ3_S": grids.iq3s_grid,
}


@cache
def tables(quant: str) -> bytes:
    """Return what must lie at ``TABLES`` of the scratch while a format is decoded."""
    return grids.iq2_signs() + _GRIDS[quant]() if quant in _GRIDS else b""


def _points(b: Block, column: Expr, code: Expr, signs: Expr, zero: int, axes: int = 8) -> None:
    """Put the point of a code, with a sign bit per weight."""
    first, bits = b.f.let(b.scratch + code * axes), b.f.let(signs)
    with b.f.range(axes) as j:
        size = b.f.let(i32.load8_u(first + j, offset=_GRID))
        signed = select((bits >> j) & 1, i32.const(0) - size, size)
        b.put(column + j, signed + zero)


def _sign_byte(b: Block, code: Expr) -> Expr:
    return i32.load8_u(b.scratch + code, offset=_SIGNS)


def _scale(b: Block, group: Expr, d: Expr, bits: Expr, unit: float) -> None:
    b.scale(group, (f32.convert_i32_s(bits) + f32.const(0.5)) * d * f32.const(unit))


def _iq2_xxs(b: Block) -> None:
    """d, then per 32 weights: four codes and a word of four sign codes and a 4-bit scale."""
    d = b.half(0)
    with b.f.range(8) as g:
        word = b.f.let(i32.load(b.at + (g << 3), offset=6))
        _scale(b, g, d, word >> 28, 0.25)
        with b.f.range(4) as part:
            code = b.byte(2, (g << 3) + part)
            signs = _sign_byte(b, (word >> (part * 7)) & 127)
            _points(b, (g << 5) + (part << 3), code, signs, 43)


def _iq2_xs(b: Block) -> None:
    """d, codes[32] as u16 (9 bits point, 7 bits signs), scales[8] of two nibbles."""
    d = b.half(0)
    _nibble_scales(b, d, 66)
    with b.f.range(32) as i:
        word = b.f.let(i32.load16_u(b.at + (i << 1), offset=2))
        _points(b, i << 3, word & 511, _sign_byte(b, word >> 9), 43)


def _nibble_scales(b: Block, d: Expr, offset: int) -> None:
    """16 scales of 4 bits, of 16 weights each."""
    with b.f.range(16) as g:
        bits = (b.byte(offset, g >> 1) >> ((g & 1) << 2)) & 15
        _scale(b, g, d, bits, 0.25)


def _iq2_s(b: Block) -> None:
    """d, low code bytes[32], signs[32], high code bits[8] (2 each), scales[8] of two nibbles."""
    d = b.half(0)
    _nibble_scales(b, d, 74)
    with b.f.range(32) as i:
        high = (b.byte(66, i >> 2) >> ((i & 3) << 1)) & 3
        _points(b, i << 3, b.byte(2, i) | (high << 8), b.byte(34, i), 43)


def _iq3_xxs(b: Block) -> None:
    """d, codes[64] of four weights, words[8] of four sign codes and a 4-bit scale."""
    d = b.half(0)
    with b.f.range(8) as g:
        word = b.f.let(i32.load(b.at + (g << 2), offset=66))
        _scale(b, g, d, word >> 28, 0.5)
        with b.f.range(8) as part:
            signs = _sign_byte(b, (word >> ((part >> 1) * 7)) & 127) >> ((part & 1) << 2)
            _points(b, (g << 5) + (part << 2), b.byte(2, (g << 3) + part), signs, 62, 4)


def _iq3_s(b: Block) -> None:
    """d, low code bytes[64], ninth bits[8], signs[32], scales[4] of two nibbles (32 weights)."""
    d = b.half(0)
    with b.f.range(8) as g:
        bits = (b.byte(106, g >> 1) >> ((g & 1) << 2)) & 15
        b.scale(g, f32.convert_i32_s(bits * 2 + 1) * d)
    with b.f.range(64) as i:
        ninth = (b.byte(66, i >> 3) >> (i & 7)) & 1
        signs = b.byte(74, i >> 1) >> ((i & 1) << 2)
        _points(b, i << 2, b.byte(2, i) | (ninth << 8), signs, 15, 4)


def _eighths(b: Block, column: Expr, code: Expr, minus: Expr) -> None:
    """Put 8 * point + 1, or - 1, around 9."""
    first = b.f.let(b.scratch + (code << 3))
    delta = b.f.let(select(minus, i32.const(-1), i32.const(1)) + 9)
    with b.f.range(8) as j:
        b.put(column + j, (i32.load8_s(first + j, offset=_GRID) << 3) + delta)


def _iq1_s(b: Block) -> None:
    """d, low code bytes[32], words[8] as u16 (4 x 3 code bits, 3-bit scale, sign of delta)."""
    d = b.half(0)
    with b.f.range(8) as g:
        word = b.f.let(i32.load16_u(b.at + (g << 1), offset=34))
        scale = f32.convert_i32_s(((word >> 12) & 7) * 2 + 1)
        b.scale(g, scale * d * f32.const(0.125))
        with b.f.range(4) as part:
            high = (word >> (part * 3)) & 7
            code = b.byte(2, (g << 2) + part) | (high << 8)
            _eighths(b, (g << 5) + (part << 3), code, word >> 15)


def _iq1_m(b: Block) -> None:
    """Low code bytes[32], nibbles[16] (3 code bits, delta's sign), words[4] as u16.

    A word holds four 3-bit scales (16 weights each) and, in its top nibble, a quarter of d.
    """
    quarters = [b.byte(49 + 2 * n) >> 4 for n in range(4)]
    bits = quarters[0] | (quarters[1] << 4) | (quarters[2] << 8) | (quarters[3] << 12)
    d = b.half_of(bits)
    with b.f.range(16) as g:
        word = i32.load16_u(b.at + ((g >> 2) << 1), offset=48)
        scale = f32.convert_i32_s(((word >> ((g & 3) * 3)) & 7) * 2 + 1)
        b.scale(g, scale * d * f32.const(0.125))
    with b.f.range(32) as i:
        nibble = b.f.let((b.byte(32, i >> 1) >> ((i & 1) << 2)) & 15)
        _eighths(b, i << 3, b.byte(0, i) | ((nibble & 7) << 8), nibble >> 3)


DECODERS: dict[str, Callable[[Block], None]] = {
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s,
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
}
