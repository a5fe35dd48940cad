"""Re-lays weights out: blocks as they are in the file -> the kernels' layout, at load.

A format is one function that reads a block and says for a column what its quant is, and per group
of 16 or 32 columns what its scale and offset are. A row is decoded into a small scratch (quants,
scales, offsets), then scattered into its lane of the cells. The layouts of the blocks are those of
ggml's ``ggml-common.h``; ``tests/reference/dequantize.py`` is the twin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_

from ...formats.quant import BY_NAME
from ..assembler import (
    Expr,
    Function,
    Local,
    Module,
    f32,
    i8x16,
    i32,
    i32x4,
    select,
    v128,
    v128_const,
)
from . import repack_grids
from .block import OFFSETS, SCALES, Block, half, moved_bits
from .packing import Dots, Packing, Piece, packing

_IQ4_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_MXFP4_LEVELS = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def _level(levels: tuple[int, ...], index: Expr) -> Expr:
    """Return ``levels[index]`` of 16 signed bytes, from constants."""
    table = v128_const(bytes(level & 255 for level in levels))
    picked = i8x16.swizzle(table, i32x4.splat(index))
    return i8x16.extract_lane_s(picked, 0)


def _levels(b: Block, offset: int, levels: tuple[int, ...]) -> None:
    with b.f.range(16) as i:
        both = b.f.let(b.byte(offset, i))
        b.put(i, _level(levels, both & 15))
        b.put(i + 16, _level(levels, both >> 4))


def _five_bits(b: Block, high: int, low: int) -> None:
    bits = b.f.let(i32x4.splat(i32.load(b.at, offset=high)))
    single = v128_const(bytes(1 << i % 8 for i in range(16)))
    for half_, nibbles in enumerate(b.nibbles(low)):
        # Byte i has the bits of its eight columns, of which it keeps its own.
        spread = i8x16.swizzle(bits, v128_const(bytes(2 * half_ + i // 8 for i in range(16))))
        is_set = i8x16.eq(v128.and_(spread, single), single)
        fifth = v128.and_(is_set, i32x4.const(0x10101010))
        b.put_vector(16 * half_, v128.or_(nibbles, fifth))


def _q4_0(b: Block) -> None:
    b.scale(0, b.half(0))
    b.put_nibbles(2, 0, 16)


def _q4_1(b: Block) -> None:
    b.scale(0, b.half(0))
    b.offset(0, b.half(2))
    b.put_nibbles(4, 0, 16)


def _q5_0(b: Block) -> None:
    b.scale(0, b.half(0))
    _five_bits(b, 2, 6)


def _q5_1(b: Block) -> None:
    b.scale(0, b.half(0))
    b.offset(0, b.half(2))
    _five_bits(b, 4, 8)


def _q8_0(b: Block) -> None:
    b.scale(0, b.half(0))
    for column in (0, 16):
        b.put_vector(column, v128.load(b.at, offset=2 + column))


def _k_scales(b: Block) -> None:
    """Q4_K and Q5_K: eight 6-bit scales and minima in 12 bytes after two halves."""
    d, least = b.half(0), b.half(2)
    with b.f.range(8) as g:
        low, high = b.byte(4, g & 3), b.byte(8, g & 3)
        more = b.f.let(b.byte(12, g & 3))
        first = g < 4
        scale = select(first, low & 63, (more & 15) | ((low >> 6) << 4))
        minimum = select(first, high & 63, (more >> 4) | ((high >> 6) << 4))
        b.scale(g, f32.convert_i32_s(scale) * d)
        b.offset(g, f32.neg(f32.convert_i32_s(minimum) * least))


def _q4_k(b: Block) -> None:
    _k_scales(b)
    for part in range(8):
        column = part // 2 * 64 + part % 2 * 16
        b.put_nibbles(16 + 16 * part, column, column + 32)


def _q5_k(b: Block) -> None:
    _k_scales(b)
    highs = [b.f.let(v128.load(b.at, offset=16 + 16 * n)) for n in range(2)]
    for part in range(8):
        for half_, nibbles in enumerate(b.nibbles(48 + 16 * part)):
            bit = moved_bits(highs[part % 2], part // 2 * 2 + half_, 4)
            column = part // 2 * 64 + half_ * 32 + part % 2 * 16
            b.put_vector(column, v128.or_(nibbles, bit))


def _q6_k(b: Block) -> None:
    d = b.half(208)
    with b.f.range(16) as g:
        b.scale(g, f32.convert_i32_s(b.signed(192, g)) * d)
    for part in range(4):
        place = part // 2 * 128 + part % 2 * 16
        high = b.f.let(v128.load(b.at, offset=128 + 16 * part))
        low = part // 2 * 64 + part % 2 * 16
        first, second = b.nibbles(low), b.nibbles(low + 32)
        for n, nibbles in enumerate((first[0], second[0], first[1], second[1])):
            b.put_vector(place + 32 * n, v128.or_(nibbles, moved_bits(high, 2 * n, 4, 2)))


def _q2_k(b: Block) -> None:
    d, least = b.half(80), b.half(82)
    with b.f.range(16) as g:
        both = b.f.let(b.byte(0, g))
        b.scale(g, f32.convert_i32_s(both & 15) * d)
        b.offset(g, f32.neg(f32.convert_i32_s(both >> 4) * least))
    _two_bits(b, 16)


def _two_bits(b: Block, offset: int, high: int | None = None) -> None:
    """Put 256 quants of two bits: 32 bytes hold 128 of them, four planes of 32."""
    with b.f.range(256) as i:
        byte = b.byte(offset, ((i >> 7) << 5) + (i & 31))
        quant = (byte >> (((i >> 5) & 3) << 1)) & 3
        if high is not None:
            quant = quant | (((b.byte(high, i & 31) >> (i >> 5)) & 1) << 2)
        b.put(i, quant)


def _q3_k(b: Block) -> None:
    d = b.half(108)
    with b.f.range(16) as g:
        low = (b.byte(96, g & 7) >> ((g >> 3) << 2)) & 15
        high = (b.byte(104, g & 3) >> ((g >> 2) << 1)) & 3
        b.scale(g, f32.convert_i32_s((low | (high << 4)) - 32) * d)
    _two_bits(b, 32, high=0)


def _iq4_nl(b: Block) -> None:
    b.scale(0, b.half(0))
    _levels(b, 2, _IQ4_LEVELS)


def _iq4_xs(b: Block) -> None:
    d = b.half(0)
    with b.f.range(8) as g:
        high = (i32.load16_u(b.at, offset=2) >> (g << 1)) & 3
        low = (b.byte(4, g >> 1) >> ((g & 1) << 2)) & 15
        b.scale(g, f32.convert_i32_s((low | (high << 4)) - 32) * d)
    with b.f.range(128) as i:
        both = b.f.let(b.byte(8, i))
        column = b.f.let(((i >> 4) << 5) + (i & 15))
        b.put(column, _level(_IQ4_LEVELS, both & 15))
        b.put(column + 16, _level(_IQ4_LEVELS, both >> 4))


def _mxfp4(b: Block) -> None:
    # 2 ** (e - 128): the levels are twice e2m1's; exponents below 2 make a subnormal float.
    e = b.f.let(b.byte(0))
    normal = (e - 1) << 23
    bits = select(i32.lt_u(e, i32.const(2)), i32.const(0x200000) << e, normal)
    b.scale(0, f32.reinterpret_i32(bits))
    _levels(b, 1, _MXFP4_LEVELS)


def _tq1_0(b: Block) -> None:
    with b.f.range(8) as g:
        b.scale(g, b.half(52))
    for offset, count, first, digits in ((0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4)):
        power = 1
        for digit in range(digits):
            with b.f.range(count) as i:
                shifted = (b.byte(offset, i) * power) & 255
                b.put(i + (first + digit * count), (shifted * 3) >> 8)
            power *= 3


def _tq2_0(b: Block) -> None:
    with b.f.range(8) as g:
        b.scale(g, b.half(64))
    _two_bits(b, 0)


_DECODERS: dict[str, Callable[[Block], None]] = {
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
    **repack_grids.DECODERS,
}


def add_repack(module: Module, quant: str, dots: Dots = "seven") -> Function:
    """Add ``repack_<quant>(raw, rows, blocks, target, first, scratch)``.

    Rows of ``blocks`` blocks become rows ``first ..`` of the matrix at ``target``. The scratch has
    ``block.SCRATCH_BYTES``; the format's tables (``repack_grids.tables``) lie in it.
    """
    block = BY_NAME[quant]
    form = packing(block, dots)
    assert form is not None
    f = module.function(f"repack_{quant}", ["i32"] * 6)
    raw, rows, blocks, target, first, scratch = f.parameters
    cells = block.block // 32
    pair = f.let(blocks * (cells * 2 * form.cell_bytes))
    with f.range(rows) as row:
        number = f.let(first + row)
        lane = f.let((number & 3) << 2)
        first_ = target + (number >> 3) * pair
        cell = f.let(first_ + ((number >> 2) & 1) * form.cell_bytes + lane)
        with f.range(blocks):
            _DECODERS[quant](Block(f, raw, scratch))
            for i in range(cells):
                _scatter(f, form, scratch, cell, lane, i)
                cell.set(cell + 2 * form.cell_bytes)
            raw.set(raw + block.nbytes)
    return f


def _scatter(
    f: Function, form: Packing, scratch: Local, cell: Local, lane: Local, number: int
) -> None:
    """Write one row's 32 columns into its lane of a cell."""
    quants = cell
    if form.quants == "byte":
        quants = f.let(cell - (lane >> 1))
    for vector in range(form.bits):
        words = [
            _moved(i32.load(scratch, offset=32 * number + 4 * piece.run), piece, form.bits)
            for piece in form.pieces
            if piece.vector == vector
        ]
        if form.quants == "eight" and not form.signed:  # signed bytes plus 128
            words = [word ^ 0x80808080 for word in words]
        if form.quants == "byte":
            f.do(i32.store16(quants, words[0], offset=16 * vector))
            f.do(i32.store16(quants, words[0] >> 16, offset=16 * vector + 8))
        else:
            f.do(i32.store(cell, reduce(or_, words), offset=16 * vector))
    parts = 32 // form.group
    for part in range(parts):
        at = 4 * (number * parts + part)
        scale = f32.load(scratch, offset=SCALES + at)
        f.do(f32.store(cell, scale, offset=form.scales_at + 16 * part))
        if form.offset:
            offset = f32.load(scratch, offset=OFFSETS + at)
            f.do(f32.store(cell, offset, offset=form.offsets_at + 16 * part))


def _moved(run: Expr, piece: Piece, bits: int) -> Expr:
    """Return a piece of a run's four quants where it belongs in a vector's bytes."""
    if piece.count < bits:
        run = (run >> piece.at) & (((1 << piece.count) - 1) * 0x01010101)
    return run << piece.bit if piece.bit else run


def add_repack_floats(module: Module, quant: str) -> Function:
    """Add ``repack_<quant>(raw, rows, columns, target, first, scratch)`` for F32, F16, BF16."""
    f = module.function(f"repack_{quant}", ["i32"] * 6)
    raw, rows, columns, target, first, _ = f.parameters
    size = BY_NAME[quant].nbytes
    with f.range(rows) as row:
        number = f.let(first + row)
        at = f.let(target + ((number >> 2) * columns << 4) + ((number & 3) << 2))
        with f.range(columns):
            if quant == "F32":
                value = f32.load(raw)
            elif quant == "F16":
                value = half(f, i32.load16_u(raw))
            else:
                value = f32.reinterpret_i32(i32.load16_u(raw) << 16)
            f.do(f32.store(at, value))
            at.set(at + 16)
            raw.set(raw + size)
    return f
