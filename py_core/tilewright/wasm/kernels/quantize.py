"""Quantizes activations to int8 or int16, a scale per 32 columns, and sums what zero points need.

A block of 32 columns takes 64 bytes: int8[32]; f32 scale; i16[2] with the sums of the columns whose
number modulo 4 is 0 or 1, and 2 or 3; f32[3] scale times the sum of all, of the first and of the
last 16. Sums make a zero point of the weights cost one instruction per 32 columns.

The wide form takes 96 bytes: int16[32]; f32 scale; i32[3] sums of all, of the first and of the last
16; f32[3] the same times the scale.
"""

from __future__ import annotations

from ..assembler import Function, Local, Module, f32, f32x4, i8x16, i16x8, i32, i32x4, v128
from .lanes import max_lanes

BLOCK_BYTES = 64
SCALE, SUMS, TOTAL, HALF_TOTALS = 32, 36, 40, 44
"""Offsets in a block."""

WIDE_BYTES = 96
WIDE_SCALE, WIDE_SUM, WIDE_HALF_SUMS, WIDE_TOTAL, WIDE_HALF_TOTALS = 64, 68, 72, 80, 84

_MOST = 127.0
_WIDE_MOST = 32767.0


def activation_bytes(columns: int, *, wide: bool = False) -> int:
    """Return the bytes of a quantized row."""
    return columns // 32 * (WIDE_BYTES if wide else BLOCK_BYTES)


def add_quantize(module: Module) -> Function:
    """Add ``quantize(x, stride, blocks, rows, out)``: f32 rows ``stride`` bytes apart -> blocks."""
    f = module.function("quantize", ["i32"] * 5)
    x, stride, blocks, rows, out = f.parameters
    at, values = f.local("i32"), [f.local("v128") for _ in range(8)]
    with f.range(rows):
        at.set(x)
        with f.range(blocks):
            scale = _steps(f, at, values, _MOST)
            halves = []
            for part in range(2):
                a, b, c, d = values[4 * part : 4 * part + 4]
                low, high = i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d)
                packed = f.let(i8x16.narrow_i16x8_s(low, high))
                f.do(v128.store(out, packed, offset=16 * part))
                # Lanes: columns 0 and 1, 2 and 3 of each four.
                halves.append(f.let(i16x8.extadd_pairwise_i8x16_s(packed)))
            sums = []
            for half in halves:
                # The even lanes, then the odd ones, of the pairs.
                for mask in (0x00000001, 0x00010000):
                    four = f.let(i32x4.dot_i16x8_s(half, i32x4.const(mask)))
                    lanes = [i32x4.extract_lane(four, lane) for lane in range(4)]
                    sums.append(f.let(lanes[0] + lanes[1] + lanes[2] + lanes[3]))
            first, last = sums[0] + sums[1], sums[2] + sums[3]
            f.do(
                f32.store(out, scale, offset=SCALE),
                i32.store16(out, sums[0] + sums[2], offset=SUMS),
                i32.store16(out, sums[1] + sums[3], offset=SUMS + 2),
                f32.store(out, f32.convert_i32_s(first + last) * scale, offset=TOTAL),
                f32.store(out, f32.convert_i32_s(first) * scale, offset=HALF_TOTALS),
                f32.store(out, f32.convert_i32_s(last) * scale, offset=HALF_TOTALS + 4),
            )
            at.set(at + 128)
            out.set(out + BLOCK_BYTES)
        x.set(x + stride)
    return f


def _steps(f: Function, at: Local, values: list[Local], steps: float) -> Local:
    """Set ``values`` to 32 columns in steps of the returned scale, i32x4 each."""
    for i, value in enumerate(values):
        value.set(v128.load(at, offset=16 * i))
    top = f.let(f32x4.abs(values[0]))
    for value in values[1:]:
        top.set(f32x4.pmax(top, f32x4.abs(value)))
    most = f.let(max_lanes(top))
    scale = f.let(most / f32.const(steps))
    inverse = f.let(f32x4.splat(f32.const(0.0)))
    with f.if_(most > 0.0):
        inverse.set(f32x4.splat(f32.const(steps) / most))
    for value in values:
        value.set(i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(value, inverse))))
    return scale


def add_quantize_wide(module: Module) -> Function:
    """Add ``quantize_wide`` with the same parameters, for 16-bit activations."""
    f = module.function("quantize_wide", ["i32"] * 5)
    x, stride, blocks, rows, out = f.parameters
    at, values = f.local("i32"), [f.local("v128") for _ in range(8)]
    with f.range(rows):
        at.set(x)
        with f.range(blocks):
            scale = _steps(f, at, values, _WIDE_MOST)
            sums = []
            for part in range(2):
                a, b, c, d = values[4 * part : 4 * part + 4]
                f.do(
                    v128.store(out, i16x8.narrow_i32x4_s(a, b), offset=32 * part),
                    v128.store(out, i16x8.narrow_i32x4_s(c, d), offset=32 * part + 16),
                )
                four = f.let(i32x4.add(i32x4.add(a, b), i32x4.add(c, d)))
                lanes = [i32x4.extract_lane(four, lane) for lane in range(4)]
                sums.append(f.let(lanes[0] + lanes[1] + lanes[2] + lanes[3]))
            places = (
                (sums[0] + sums[1], WIDE_SUM, WIDE_TOTAL),
                (sums[0], WIDE_HALF_SUMS, WIDE_HALF_TOTALS),
                (sums[1], WIDE_HALF_SUMS + 4, WIDE_HALF_TOTALS + 4),
            )
            f.do(f32.store(out, scale, offset=WIDE_SCALE))
            for value, integer_at, float_at in places:
                f.do(
                    i32.store(out, value, offset=integer_at),
                    f32.store(out, f32.convert_i32_s(value) * scale, offset=float_at),
                )
            at.set(at + 128)
            out.set(out + WIDE_BYTES)
        x.set(x + stride)
    return f
