"""Draws a token: the definition of ``tests/reference/sampling.py``, one row at a time.

``draw(logits, vocabulary, record, counts, bias, mask, scores, weights) -> id``: scores and weights
are scratch, f32[V] and three more. The record is ``pack_record``'s. Counts are u32[V] (bit 31: in
the prompt, the others: occurrences in the answer), bias f32[V], mask a bit per id. The noise of an
id depends on seed, position and id alone (PCG4D: Jarzynski and Olano, 2020): every backend draws
alike. ``draws`` does that for the rows of a step, each with the record and the tables of its slot.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from ..assembler import (
    Expr,
    Function,
    Local,
    Module,
    f32,
    f32x4,
    f64,
    f64x2,
    i32,
    i32x4,
    select,
    v128,
    v128_const,
)
from .lanes import LOWEST, exp, max_lanes, sum_lanes

PARAMETERS, PLACE = "<2f I 5f 3I", "<3I 8x"
"""The halves of a record: what a request asks for; position, slot, and the id to be counted."""
RECORD_BYTES = struct.calcsize(PARAMETERS) + struct.calcsize(PLACE)
CHOSEN = 56
"""Offset at which ``draws`` leaves the id."""
NONE = 0xFFFFFFFF
"""The id to be counted where there is none."""
UNLIMITED = 1.0e38
(_INVERSE, _NOISE, _TOP_K, _TOP_P, _REACH, _REPETITION, _FREQUENCY, _PRESENCE) = range(0, 32, 4)
(_USES, _SEED_LOW, _SEED_HIGH, _POSITION, _SLOT, _PREVIOUS) = range(32, 56, 4)
USES_PENALTIES, USES_BIAS, USES_MASK = 1, 2, 4
IN_PROMPT = 0x80000000

_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
"""Cephes' ``logf``."""


def pack_place(position: int, slot: int = 0, previous: int = NONE) -> bytes:
    """Return a record's second half: of the token to draw; ``previous`` joins the counts first."""
    return struct.pack(PLACE, position, slot, previous)


def pack_parameters(
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition: float,
    frequency: float,
    presence: float,
    uses: int,
    seed: int,
) -> bytes:
    """Return a record's first half."""
    greedy = temperature < 1e-4
    return struct.pack(
        PARAMETERS,
        1.0 if greedy else 1.0 / temperature,
        0.0 if greedy else 1.0,
        min(top_k, 0x7FFFFFFF),
        top_p,
        UNLIMITED if min_p <= 0.0 else -math.log(min_p),
        repetition,
        frequency,
        presence,
        uses,
        seed & 0xFFFFFFFF,
        seed >> 32 & 0xFFFFFFFF,
    )


def add_sampler(module: Module) -> Function:
    """Add ``draw``, ``mass`` and ``runner_up``; return ``draws``."""
    adjust = _add_adjust(module)
    reach = _add_reach(module)
    f = module.function("draw", ["i32"] * 8, "i32")
    logits, count, record, counts, bias, mask, scores, weights = f.parameters
    f.do(f.call(adjust, logits, count, record, counts, bias, mask, scores))
    # Up to three elements behind the last one take part in vectors: they can never win.
    with f.range(12, step=4) as at:
        f.do(f32.store(scores + (count << 2) + at, LOWEST))
    best = f.let(f32x4.const(LOWEST))
    bytes_ = f.let(count << 2)
    with f.range(bytes_, step=16) as at:
        best.set(f32x4.pmax(best, v128.load(scores + at)))
    top = f.let(max_lanes(best))
    noise = f.let(f32.load(record, offset=_NOISE))
    limit = f.let(f32.const(0.0))
    with f.if_(noise > 0.0):
        limit.set(f.call(reach, scores, count, record, top, weights))
    ids = f.let(i32x4.const(-1))
    best.set(f32x4.const(LOWEST))
    tops, limits = f.let(f32x4.splat(top)), f.let(f32x4.splat(limit))
    keys = _keys(f, record)
    with f.range(count, step=4) as first:
        value = f.let(v128.load(scores + (first << 2)))
        allowed = f32x4.gt(value, f32x4.const(LOWEST))
        near = f.let(v128.and_(f32x4.le(f32x4.sub(tops, value), limits), allowed))
        with f.if_(v128.any_true(near)):
            own = f.let(_numbers(first))
            with f.if_(noise > 0.0):
                v = _uniform(f, keys, own)
                # Noise is below -ln v: most ids cannot win, whatever its logarithms would be.
                near.set(v128.and_(near, f32x4.lt(v, _above_exp(f32x4.sub(value, best)))))
                with f.if_(v128.any_true(near)):
                    value.set(f32x4.add(value, _gumbel(f, v)))
            better = f.let(v128.and_(near, f32x4.gt(value, best)))
            best.set(v128.bitselect(value, best, better))
            ids.set(v128.bitselect(own, ids, better))
    winner, chosen = f.let(f32.const(LOWEST)), f.let(i32.const(0))
    for lane in range(4):
        score = f.let(f32x4.extract_lane(best, lane))
        own_id = f.let(i32x4.extract_lane(ids, lane))
        first_ = (score > winner) | (score.equals(winner) & (own_id < chosen))
        with f.if_((own_id >= 0) & first_):
            winner.set(score)
            chosen.set(own_id)
    f.result(chosen)
    _add_mass(module)
    _add_runner_up(module)
    return _add_draws(module, f)


def _add_draws(module: Module, draw: Function) -> Function:
    """Add ``draws(logits, stride, records, rows, V, counts, bias, mask, scores, weights)``.

    Counts, bias and mask are those of slot 0; the others' follow.
    """
    f = module.function("draws", ["i32"] * 10, export=False)
    logits, stride, record, rows, count, counts, bias, mask, scores, weights = f.parameters
    row, mask_row = f.let(count << 2), f.let(((count + 31) >> 5) << 2)
    with f.range(rows):
        slot = f.let(i32.load(record, offset=_SLOT))
        own = f.let(counts + slot * row)
        previous = f.let(i32.load(record, offset=_PREVIOUS))
        with f.if_(previous >= 0):
            at = f.let(own + (previous << 2))
            f.do(i32.store(at, i32.load(at) + 1))
        tables = (own, bias + slot * row, mask + slot * mask_row)
        chosen = f.call(draw, logits, count, record, *tables, scores, weights)
        f.do(i32.store(record, chosen, offset=CHOSEN))
        record.set(record + RECORD_BYTES)
        logits.set(logits + stride)
    return f


def _above_exp(x: Expr) -> Expr:
    """Return at least e**min(x, 0), by at most 6.5%: the chords of 2**n (Schraudolph, 1999)."""
    bits = f32x4.mul(f32x4.pmin(f32x4.const(0.0), x), f32x4.const(2.0**23 / math.log(2.0)))
    return i32x4.trunc_sat_f32x4_s(f32x4.add(bits, f32x4.const(float((127 << 23) + (1 << 14)))))


def _numbers(first: Expr) -> Expr:
    lanes = v128_const(b"".join(lane.to_bytes(4, "little") for lane in range(4)))
    return i32x4.add(i32x4.splat(first), lanes)


def _finite(x: Expr) -> Expr:
    return f32.min(f32.max(x, f32.const(-1.0e30)), f32.const(1.0e30))


def _add_adjust(module: Module) -> Function:
    """Add ``adjust``: penalties, bias, temperature, mask."""
    f = module.function("adjust", ["i32"] * 7, export=False)
    logits, count, record, counts, bias, mask, scores = f.parameters
    uses = f.let(i32.load(record, offset=_USES))
    inverse = f.let(f32.load(record, offset=_INVERSE))
    with f.if_(i32.eqz(uses)):
        factor = f.let(f32x4.splat(inverse))
        most = f32x4.const(1.0e30)
        with f.range(count << 2, step=16) as at:
            value = f32x4.min(f32x4.max(v128.load(logits + at), f32x4.neg(most)), most)
            f.do(v128.store(scores + at, f32x4.mul(value, factor)))
    with f.else_(), f.range(count) as token:
        at = f.let(token << 2)
        y = f.let(_finite(f32.load(logits + at)))
        with f.if_(uses & USES_PENALTIES):
            seen = f.let(i32.load(counts + at))
            answered = f.let(seen & 0x7FFFFFFF)
            repetition = f.let(f32.load(record, offset=_REPETITION))
            with f.if_(seen):
                y.set(select(y > 0.0, y / repetition, y * repetition))
            with f.if_(answered):
                often = f32.load(record, offset=_FREQUENCY) * f32.convert_i32_s(answered)
                y.set(y - (often + f32.load(record, offset=_PRESENCE)))
        with f.if_(uses & USES_BIAS):
            y.set(y + f32.load(bias + at))
        y.set(y * inverse)
        with f.if_(uses & USES_MASK):
            bit = (i32.load8_u(mask + (token >> 3)) >> (token & 7)) & 1
            y.set(select(bit, y, f32.const(LOWEST)))
        f.do(f32.store(scores + at, y))
    return f


def _add_reach(module: Module) -> Function:
    """Add ``reach``: how far below the best score an id may be, after min_p, top_k and top_p.

    Distances are not negative, so their bits are ordered like they are: bisection over the bits is
    exact after 31 passes.
    """
    f = module.function("reach", ["i32", "i32", "i32", "f32", "i32"], "f32", export=False)
    scores, count, record, top, weights = f.parameters
    limit = f.let(f32.load(record, offset=_REACH))
    tops = f.let(f32x4.splat(top))
    bytes_ = f.let(count << 2)

    def distance(at: Expr) -> Expr:
        return f32x4.sub(tops, v128.load(scores + at))

    top_k = f.let(i32.load(record, offset=_TOP_K))
    with f.if_((top_k > 0) & (top_k < count)):

        def enough(bound: Local) -> Expr:
            found, bounds = f.let(i32x4.const(0)), f.let(f32x4.splat(bound))
            with f.range(bytes_, step=16) as at:
                found.set(i32x4.sub(found, f32x4.le(distance(at), bounds)))
            lanes = [i32x4.extract_lane(found, lane) for lane in range(4)]
            return (lanes[0] + lanes[1] + lanes[2] + lanes[3]) >= top_k

        limit.set(f32.min(limit, _bisect(f, enough)))
    top_p = f.let(f32.load(record, offset=_TOP_P))
    with f.if_(top_p < 1.0):
        limits = f.let(f32x4.splat(limit))
        with f.range(bytes_, step=16) as at:
            far = f.let(distance(at))
            weight = v128.and_(exp(f, f32x4.neg(far)), f32x4.le(far, limits))
            f.do(v128.store(weights + at, weight))

        def mass(bounds: Local) -> Expr:
            """Sum in f64: rounding must not move the border."""
            total = f.let(f64x2.splat(f64.const(0.0)))
            with f.range(bytes_, step=16) as at:
                inside = f32x4.le(distance(at), bounds)
                weight = f.let(v128.and_(v128.load(weights + at), inside))
                upper = f32x4.splat(f32x4.extract_lane(weight, 2))
                upper = f32x4.replace_lane(upper, f32x4.extract_lane(weight, 3), 1)
                low, high = (f64x2.promote_low_f32x4(part) for part in (weight, upper))
                total.set(f64x2.add(total, f64x2.add(low, high)))
            return f64x2.extract_lane(total, 0) + f64x2.extract_lane(total, 1)

        wanted = f.let(mass(limits) * f64.promote_f32(top_p))

        def reached(bound: Local) -> Expr:
            return mass(f.let(f32x4.splat(bound))) >= wanted

        limit.set(f32.min(limit, _bisect(f, reached)))
    f.result(limit)
    return f


def _bisect(f: Function, enough: object) -> Expr:
    """Return the smallest f32 not below 0 for which ``enough(bound)`` is true."""
    low, high = f.let(i32.const(-1)), f.let(i32.const(0x7F7FFFFF))
    middle, bound = f.local("i32"), f.local("f32")
    with f.while_(lambda: (high - low) > 1):
        middle.set(low + ((high - low) >> 1))
        bound.set(f32.reinterpret_i32(middle))
        with f.if_(enough(bound)):  # type: ignore[operator]
            high.set(middle)
        with f.else_():
            low.set(middle)
    return f32.reinterpret_i32(high)


def _log(f: Function, x: Expr) -> Expr:
    """Return ln x of positive normal f32x4."""
    bits = f.let(x)
    shift = i32x4.sub(bits, i32x4.const(0x3F3504F3))
    exponent = f.let(i32x4.shr_s(shift, 23))
    mantissa = i32x4.sub(bits, i32x4.shl(exponent, 23))
    m = f.let(f32x4.sub(mantissa, f32x4.const(1.0)))
    e = f.let(f32x4.convert_i32x4_s(exponent))
    square = f.let(f32x4.mul(m, m))
    total: Expr = f32x4.const(_LOG[0])
    for value in _LOG[1:]:
        total = f32x4.relaxed_madd(total, m, f32x4.const(value))
    y = f.let(f32x4.mul(f32x4.mul(total, m), square))
    y.set(f32x4.relaxed_madd(e, f32x4.const(-2.12194440e-4), y))
    y.set(f32x4.sub(y, f32x4.mul(square, f32x4.const(0.5))))
    return f.let(f32x4.relaxed_madd(e, f32x4.const(0.693359375), f32x4.add(m, y)))


def _keys(f: Function, record: Local) -> list[Local]:
    """Return what the hashes of all ids begin with: seed and position, scrambled once."""
    seeds = (_SEED_LOW, _SEED_HIGH, _POSITION)
    return [f.let(_scrambled(v128.load32_splat(record, offset=at))) for at in seeds]


def _scrambled(part: Expr) -> Expr:
    return i32x4.add(i32x4.mul(part, i32x4.const(1664525)), i32x4.const(1013904223))


def _uniform(f: Function, keys: Sequence[Local], ids: Local) -> Local:
    """Return v in (0, 1), the hash of seed, position and id."""
    x, y, z, w = (f.let(part) for part in (*keys, _scrambled(ids)))
    for turn in range(2):
        for target, a, b in ((x, y, w), (y, z, x), (z, x, y), (w, y, z)):
            target.set(i32x4.add(target, i32x4.mul(a, b)))
        if not turn:
            for part in (x, y, z, w):
                part.set(v128.xor(part, i32x4.shr_u(part, 16)))
    unit = f32x4.add(f32x4.convert_i32x4_u(x), f32x4.const(0.5))
    return f.let(f32x4.mul(unit, f32x4.const(2.0**-32)))


def _gumbel(f: Function, v: Local) -> Expr:
    """Return -ln(-ln(1 - v))."""
    one = f32x4.const(1.0)
    plain = f32x4.neg(_log(f, f32x4.pmax(f32x4.const(6.0e-8), f32x4.sub(one, v))))
    # Where v is small, 1 - v loses its digits: the series of -ln(1 - v).
    cubic = f32x4.add(f32x4.const(0.5), f32x4.mul(v, f32x4.const(1.0 / 3.0)))
    series = f32x4.mul(v, f32x4.add(one, f32x4.mul(v, cubic)))
    small = f32x4.lt(v, f32x4.const(0.01))
    return f32x4.neg(_log(f, v128.bitselect(series, plain, small)))


def _add_mass(module: Module) -> None:
    """Add ``mass(logits, vocabulary, out)``: f32 maximum, f32 sum of e**(logit - maximum)."""
    f = module.function("mass", ["i32"] * 3)
    logits, count, out = f.parameters
    whole = f.let((count & -4) << 2)
    best = f.let(f32x4.const(LOWEST))
    with f.range(whole, step=16) as at:
        best.set(f32x4.pmax(best, v128.load(logits + at)))
    top = f.let(max_lanes(best))
    with f.range(count << 2, start=whole, step=4) as at:
        top.set(f32.max(top, f32.load(logits + at)))
    tops, total = f.let(f32x4.splat(top)), f.let(f32x4.const(0.0))
    with f.range(whole, step=16) as at:
        total.set(f32x4.add(total, exp(f, f32x4.sub(v128.load(logits + at), tops))))
    summed = f.let(sum_lanes(total))
    with f.range(count << 2, start=whole, step=4) as at:
        one = exp(f, f32x4.splat(f32.load(logits + at) - top))
        summed.set(summed + f32x4.extract_lane(one, 0))
    f.do(f32.store(out, top), f32.store(out, summed, offset=4))


def _add_runner_up(module: Module) -> None:
    """Add ``runner_up(logits, vocabulary, value, id) -> id``: the best after (value, id).

    Falling by value, equal ones by rising id; -1 where there is none.
    """
    f = module.function("runner_up", ["i32", "i32", "f32", "i32"], "i32")
    logits, count, value, before = f.parameters
    best, chosen = f.let(f32.const(float("-inf"))), f.let(i32.const(-1))
    with f.range(count) as token:
        own = f.let(f32.load(logits + (token << 2)))
        later = (own < value) | (own.equals(value) & (token > before))
        with f.if_((own > best) & later):
            best.set(own)
            chosen.set(token)
    f.result(chosen)
