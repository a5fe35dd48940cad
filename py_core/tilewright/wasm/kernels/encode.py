"""Encodes weights: F32, F16 or BF16 -> blocks of Q8_0, Q4_0 or Q4_K as files have them.

WebAssembly's arithmetic is the same to the bit everywhere, so a model quantized while it loads in a
page equals the file that ``tilewright quantize`` writes. Q8_0 and Q4_0 are what ggml's
``quantize_row_*_ref`` make. Q4_K tries a few scales per group of 32, refits scale and minimum to
each by weighted least squares and keeps the best; the format is ggml's, the last bits are not
llama.cpp's. No relaxed instruction is used. ``tests/reference/encode.py`` is the twin.
"""

from __future__ import annotations

from collections.abc import Callable

from ..assembler import (
    Expr,
    Function,
    Local,
    Module,
    f32,
    f32x4,
    i8x16,
    i16x8,
    i32,
    i32x4,
    select,
    v128,
)
from .lanes import sum_lanes

Q4_K_TRIES = 8
Q4_K_FIRST, Q4_K_STEP = 13.8, 0.35
"""Try number i divides a group's range into ``Q4_K_FIRST + i * Q4_K_STEP`` steps."""

_GROUPS, _VALUES, _WEIGHTS, _SCALES, _MINIMA = 8, 0, 1024, 1152, 1184
SCRATCH_BYTES = 1216
"""Of Q4_K: 256 values, 32 weights, 8 scales, 8 minima."""

_SIGN = -0x80000000


def _load_f32(f: Function, at: Expr, number: int) -> Expr:
    return v128.load(at, offset=16 * number)


def _load_f16(f: Function, at: Expr, number: int) -> Expr:
    bits = f.let(v128.load16x4_u(at, offset=8 * number))
    size = i32x4.shl(v128.and_(bits, i32x4.const(0x7FFF)), 13)
    sign = i32x4.shl(v128.and_(bits, i32x4.const(0x8000)), 16)
    return v128.or_(f32x4.mul(size, f32x4.const(2.0**112)), sign)


def _load_bf16(f: Function, at: Expr, number: int) -> Expr:
    return i32x4.shl(v128.load16x4_u(at, offset=8 * number), 16)


_LOADS: dict[str, tuple[int, Callable[[Function, Expr, int], Expr]]] = {
    "F32": (4, _load_f32),
    "F16": (2, _load_f16),
    "BF16": (2, _load_bf16),
}


def half_bits(f: Function, value: Expr) -> Local:
    """Return the bits of the nearest half, ties to even, as i32; too large becomes infinity.

    The method is that of Marat Dukhan's FP16 library: scaling makes the f32 adder round.
    """
    x = f.let(value)
    bits = f.let(i32.reinterpret_f32(x))
    twice = f.let(bits + bits)
    exponent = f.let(twice & 0xFF000000)
    with f.if_(i32.lt_u(exponent, 0x71000000)):
        exponent.set(0x71000000)
    size = f32.abs(x) * 2.0**112 * 2.0**-110
    moved = f.let(i32.reinterpret_f32(f32.reinterpret_i32((exponent >> 1) + 0x07800000) + size))
    number = ((moved >> 13) & 0x7C00) + (moved & 0x0FFF)
    nan = i32.gt_u(twice, 0xFF000000)
    return f.let(((bits >> 16) & 0x8000) | select(nan, i32.const(0x7E00), number))


def half_value(bits: Expr) -> Expr:
    """Return the f32 that a half's bits stand for."""
    size = f32.reinterpret_i32((bits & 0x7FFF) << 13) * 2.0**112
    return f32.copysign(size, f32.reinterpret_i32(bits << 16))


def add_encode(module: Module, source: str, target: str) -> Function:
    """Add ``encode(source, blocks, out, scratch)``: consecutive blocks of ``target``."""
    f = module.function("encode", ["i32"] * 4)
    at, blocks, out, scratch = f.parameters
    item, load = _LOADS[source]
    with f.range(blocks):
        if target == "Q4_K":
            _q4_k(f, at, out, scratch, lambda group, i: load(f, at, 8 * group + i))
            at.set(at + 256 * item)
            out.set(out + 144)
        else:
            values = [f.let(load(f, at, i)) for i in range(8)]
            at.set(at + 32 * item)
            out.set(out + _BLOCKS[target](f, values, out))
    return f


def _inverse(value: Expr, f: Function) -> Local:
    """Return 1 / value, 0 where value is 0."""
    made = f.let(f32.const(0.0))
    with f.if_(f32.ne(value, f32.const(0.0))):
        made.set(f32.const(1.0) / value)
    return made


def _most(values: list[Local]) -> Expr:
    """Return the largest magnitude in each lane."""
    top: Expr = f32x4.abs(values[0])
    for value in values[1:]:
        top = f32x4.max(top, f32x4.abs(value))
    return top


def _lanes(f: Function, values: Expr, pick: Callable[[Expr, Expr], Expr]) -> Local:
    kept = f.let(values)
    found: Expr = f32x4.extract_lane(kept, 0)
    for lane in range(1, 4):
        found = pick(found, f32x4.extract_lane(kept, lane))
    return f.let(found)


def _bytes(codes: list[Local]) -> Expr:
    """Narrow four vectors of i32 to sixteen bytes."""
    low, high = i16x8.narrow_i32x4_s(codes[0], codes[1]), i16x8.narrow_i32x4_s(codes[2], codes[3])
    return i8x16.narrow_i16x8_s(low, high)


def _q8_0(f: Function, values: list[Local], out: Expr) -> int:
    scale = f.let(_lanes(f, _most(values), f32.max) / 127.0)
    inverse = f32x4.splat(_inverse(scale, f))
    codes = []
    for value in values:
        scaled = f.let(f32x4.mul(value, inverse))
        half = v128.or_(v128.and_(scaled, i32x4.const(_SIGN)), f32x4.const(0.5))
        codes.append(f.let(i32x4.trunc_sat_f32x4_s(f32x4.add(scaled, half))))
    f.do(
        i32.store16(out, half_bits(f, scale)),
        v128.store(out, _bytes(codes[:4]), offset=2),
        v128.store(out, _bytes(codes[4:]), offset=18),
    )
    return 34


def _q4_0(f: Function, values: list[Local], out: Expr) -> int:
    most = _lanes(f, _most(values), f32.max)
    # The first of the largest: its sign is the scale's, turned round.
    largest, signs = f.let(i32.const(0)), f.let(i32.const(0))
    splat = f.let(f32x4.splat(most))
    for number, value in enumerate(values):
        same = i32x4.bitmask(f32x4.eq(f32x4.abs(value), splat))
        largest.set(largest | (same << (4 * number)))
        signs.set(signs | (i32x4.bitmask(value) << (4 * number)))
    negative = (signs >> i32.ctz(largest)) & 1
    scale = f.let(select(negative, most, f32.neg(most)) / 8.0)
    inverse = f32x4.splat(_inverse(scale, f))
    codes = []
    for value in values:
        shifted = f32x4.add(f32x4.mul(value, inverse), f32x4.const(8.5))
        code = i32x4.trunc_sat_f32x4_s(shifted)
        codes.append(f.let(i32x4.min_s(i32x4.max_s(code, i32x4.const(0)), i32x4.const(15))))
    both = v128.or_(_bytes(codes[:4]), i8x16.shl(_bytes(codes[4:]), 4))
    f.do(i32.store16(out, half_bits(f, scale)), v128.store(out, both, offset=2))
    return 18


_BLOCKS: dict[str, Callable[[Function, list[Local], Expr], int]] = {"Q8_0": _q8_0, "Q4_0": _q4_0}


def _clipped(value: Expr, most: float) -> Expr:
    """Round to the nearest whole number, ties to even, within 0 .. most; f32x4."""
    near = f32x4.nearest(value)
    return f32x4.min(f32x4.max(near, f32x4.const(0.0)), f32x4.const(most))


def _q4_k(
    f: Function, at: Expr, out: Expr, scratch: Local, load: Callable[[int, int], Expr]
) -> None:
    for g in range(_GROUPS):
        for i in range(8):
            f.do(v128.store(scratch, load(g, i), offset=_VALUES + 128 * g + 16 * i))
    with f.range(_GROUPS) as group:
        _fit_group(f, f.let(scratch + (group << 7)), scratch, f.let(scratch + (group << 2)))
    scales, minima = (
        [f.let(f32.load(scratch, offset=first + 4 * g)) for g in range(_GROUPS)]
        for first in (_SCALES, _MINIMA)
    )
    halves, codes = [], []
    for number, parts in enumerate((scales, minima)):
        most: Expr = parts[0]
        for part in parts[1:]:
            most = f32.max(most, part)
        bits = half_bits(f, most / 63.0)
        f.do(i32.store16(out, bits, offset=2 * number))
        value = f.let(half_value(bits))
        inverse = _inverse(value, f)
        halves.append(value)
        codes.append([_code(f, part * inverse) for part in parts])
    for g in range(4):
        low, high = codes[0][g], codes[0][g + 4]
        m_low, m_high = codes[1][g], codes[1][g + 4]
        f.do(
            i32.store8(out, low | ((high >> 4) << 6), offset=4 + g),
            i32.store8(out, m_low | ((m_high >> 4) << 6), offset=8 + g),
            i32.store8(out, (high & 15) | ((m_high & 15) << 4), offset=12 + g),
        )
    for g in range(_GROUPS):
        step = f.let(halves[0] * f32.convert_i32_s(codes[0][g]))
        base = f.let(f32x4.splat(halves[1] * f32.convert_i32_s(codes[1][g])))
        factor = f.let(f32x4.splat(_inverse(step, f)))
        quants = []
        for i in range(8):
            x = v128.load(scratch, offset=_VALUES + 128 * g + 16 * i)
            scaled = f32x4.mul(f32x4.add(x, base), factor)
            quants.append(f.let(i32x4.trunc_sat_f32x4_s(_clipped(scaled, 15.0))))
        for which in range(2):
            offset = 16 + 32 * (g // 2) + 16 * which
            packed = _bytes(quants[4 * which : 4 * which + 4])
            if g % 2:
                packed = v128.or_(v128.load(out, offset=offset), i8x16.shl(packed, 4))
            f.do(v128.store(out, packed, offset=offset))


def _code(f: Function, value: Expr) -> Local:
    near = f32.min(f32.max(f32.nearest(value), f32.const(0.0)), f32.const(63.0))
    code = f.let(i32.const(0))
    kept = f.let(near)
    with f.if_(f32.eq(kept, kept)):  # a NaN stays 0
        code.set(i32.trunc_f32_s(kept))
    return code


def _fit_group(f: Function, x: Expr, scratch: Expr, place: Expr) -> None:
    """Store scale and minimum (both >= 0) of 32 values: x = scale * q - minimum, q in 0 .. 15."""

    def value(i: int) -> Expr:
        return v128.load(x, offset=_VALUES + 16 * i)

    def weight(i: int) -> Expr:
        return v128.load(scratch, offset=_WEIGHTS + 16 * i)

    def total(term: Callable[[int], Expr]) -> Local:
        found = f.let(term(0))
        for i in range(1, 8):
            found.set(f32x4.add(found, term(i)))
        return f.let(sum_lanes(found))

    least, most = f.let(value(0)), f.let(value(0))
    for i in range(1, 8):
        least.set(f32x4.min(least, value(i)))
        most.set(f32x4.max(most, value(i)))
    low = f.let(f32.min(_lanes(f, least, f32.min), f32.const(0.0)))
    span = f.let(f32.max(_lanes(f, most, f32.max), f32.const(0.0)) - low)
    mean = f32x4.splat(f32.sqrt(total(lambda i: f32x4.mul(value(i), value(i))) / 32.0))
    rms = f.let(mean)
    for i in range(8):
        f.do(v128.store(scratch, f32x4.add(f32x4.abs(value(i)), rms), offset=_WEIGHTS + 16 * i))
    sum_w = total(weight)
    sum_x = total(lambda i: f32x4.mul(weight(i), value(i)))
    best_scale, best_low = f.let(span / 15.0), f.let(low)
    best_error = f.let(f32.const(3.0e38))
    shift = f.let(f32x4.splat(low))
    sums = [f.local("v128") for _ in range(3)]
    quants = [f.local("v128") for _ in range(8)]
    with f.range(Q4_K_TRIES) as attempt:
        steps = f32.convert_i32_s(attempt) * Q4_K_STEP + f32.const(Q4_K_FIRST)
        inverse = f.let(f32x4.splat(_inverse(span / steps, f)))
        for i in range(8):
            scaled = f32x4.mul(f32x4.sub(value(i), shift), inverse)
            quants[i].set(_clipped(scaled, 15.0))
            weighted = f.let(f32x4.mul(weight(i), quants[i]))
            terms = (weighted, f32x4.mul(weighted, quants[i]), f32x4.mul(weighted, value(i)))
            for own, term in zip(sums, terms, strict=True):
                own.set(term if i == 0 else f32x4.add(own, term))
        sum_q, sum_qq, sum_xq = (f.let(sum_lanes(own)) for own in sums)
        determinant = _inverse(f32.max(sum_w * sum_qq - sum_q * sum_q, f32.const(0.0)), f)
        scale = f.let((sum_w * sum_xq - sum_x * sum_q) * determinant)
        offset = f.let((sum_qq * sum_x - sum_q * sum_xq) * determinant)
        with f.if_(offset > 0.0):
            scale.set(sum_xq * _inverse(sum_qq, f))
            offset.set(0.0)
        scales, offsets = f.let(f32x4.splat(scale)), f.let(f32x4.splat(offset))

        def squared(i: int, scales: Expr = scales, offsets: Expr = offsets) -> Expr:
            made = f32x4.add(f32x4.mul(scales, quants[i]), offsets)
            apart = f.let(f32x4.sub(made, value(i)))
            return f32x4.mul(weight(i), f32x4.mul(apart, apart))

        error = total(squared)
        with f.if_((error < best_error) & (scale > 0.0)):
            best_error.set(error)
            best_scale.set(scale)
            best_low.set(offset)
    f.do(
        f32.store(place, best_scale, offset=_SCALES),
        f32.store(place, f32.neg(best_low), offset=_MINIMA),
    )
