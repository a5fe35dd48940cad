"""Rotation, and attention over the paged cache (``cache.py``).

Tables of blocks are ``u32[slots][max_blocks]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ..assembler import (
    Function,
    Local,
    Module,
    f32,
    f32x4,
    i32,
    i32x4,
    memory_copy,
    select,
    v128,
    v128_const,
)
from .cache import (
    KV_BLOCK,
    CacheStructure,
    Weighted,
    add_weighted,
    products,
    shared_vectors,
)
from .lanes import LOWEST, exp, exp_scalar, max_lanes, softcap, sum_lanes

_TOGETHER = 4
"""Heads that share what is loaded: more have no registers."""
SCRATCH_BYTES = 4 * KV_BLOCK * _TOGETHER
"""A block's weights for as many heads."""


@dataclass(frozen=True)
class RopeStructure:
    """What is rotated."""

    head_size: int
    pairs: int
    interleaved: bool
    magnitude: float


def add_rope(module: Module, name: str, s: RopeStructure) -> Function:
    """Add ``<name>(x, stride, positions, tokens, heads, out, stride, table, scratch)``.

    ``table``: (cos, sin) of positions 0 to 255, then of multiples of 256, each ``f32[pairs][2]``;
    scratch takes one such row: the angles of the token's position, by angle addition.
    """
    f = module.function(name, ["i32"] * 9)
    x, x_stride, positions, tokens, heads, out, out_stride, table, scratch = f.parameters
    row = 8 * s.pairs
    with f.range(tokens) as token:
        position = f.let(i32.load(positions + (token << 2)))
        low = f.let(table + (position & 255) * row)
        high = f.let(table + ((position >> 8) + 256) * row)
        with f.range(row, step=8) as at:
            c, d = f.let(f32.load(low + at)), f.let(f32.load(high + at))
            a = f.let(f32.load(low + at, offset=4))
            b = f.let(f32.load(high + at, offset=4))
            magnitude = f32.const(s.magnitude)
            f.do(
                f32.store(scratch + at, (c * d - a * b) * magnitude),
                f32.store(scratch + at, (a * d + c * b) * magnitude, offset=4),
            )
        source, target = f.let(x), f.let(out)
        with f.range(heads):
            with f.range(s.pairs) as pair:
                if s.interleaved:
                    at, other = f.let(pair << 3), 4
                else:
                    at, other = f.let(pair << 2), 4 * s.pairs
                a = f.let(f32.load(source + at))
                b = f.let(f32.load(source + at, offset=other))
                angle = f.let(scratch + (pair << 3))
                c, d = f.let(f32.load(angle)), f.let(f32.load(angle, offset=4))
                f.do(
                    f32.store(target + at, a * c - b * d),
                    f32.store(target + at, a * d + b * c, offset=other),
                )
            rest = s.head_size - 2 * s.pairs
            if rest:
                f.do(memory_copy(target + row, source + row, 4 * rest))
            source.set(source + 4 * s.head_size)
            target.set(target + 4 * s.head_size)
        x.set(x + x_stride)
        out.set(out + out_stride)
    return f


@dataclass(frozen=True)
class Structure:
    """What attention computes; see ``graph.ops.Attention``."""

    cache: CacheStructure
    heads: int
    scale: float
    causal: bool = True
    window: int = 0
    softcap: float = 0.0
    sinks: bool = False


def add_attention(module: Module, name: str, s: Structure) -> Function:
    """Add ``<name>(q, stride, positions, slots, tables, most, lengths, keys, values, out, stride,
    sinks, scratch, first unit, end)``; scratch takes ``SCRATCH_BYTES``.

    A unit is one token's heads that share keys and values; those of the first token come first. Its
    heads are taken a few at a time, so that what was loaded of the cache serves them all.
    """  # noqa: D205
    f = module.function(name, ["i32"] * 15)
    (q, q_stride, positions, slots, tables, most, lengths) = f.parameters[:7]
    (keys, values, out, out_stride, sinks, scratch, first_unit, end_unit) = f.parameters[7:]
    cache = s.cache
    group = s.heads // cache.kv_heads
    with f.range(end_unit, start=first_unit) as unit:
        token = f.let(unit // cache.kv_heads)
        kv_head = f.let(unit % cache.kv_heads)
        position = f.let(i32.load(positions + (token << 2)))
        slot = f.let(i32.load(slots + (token << 2)))
        table = f.let(tables + ((slot * most) << 2))
        end = f.let(position + 1 if s.causal else i32.load(lengths + (slot << 2)))
        first = f.let(i32.const(0))
        if s.window:
            from_ = f.let(position + (1 - s.window))
            first.set(select(from_ > 0, from_, i32.const(0)))
        query = f.let(q + token * q_stride + kv_head * (4 * cache.head_size * group))
        target = f.let(out + token * out_stride + kv_head * (4 * cache.value_size * group))
        sink = f.let(sinks + kv_head * (4 * group))
        for run in _runs(group):
            heads = [
                _Head(
                    f.let(query + 4 * cache.head_size * n),
                    f.let(f32.load(sink, offset=4 * n) if s.sinks else f32.const(LOWEST)),
                    f.let(f32.const(1.0 if s.sinks else 0.0)),
                    Weighted(
                        f.let(scratch + 4 * KV_BLOCK * place),
                        f.let(target + 4 * cache.value_size * n),
                        f.local("v128"),
                    ),
                )
                for place, n in enumerate(run)
            ]
            for head in heads:
                _scale(f, head.sums.target, cache.value_size, None)
            with f.range(end, start=first & -KV_BLOCK, step=KV_BLOCK) as start:
                number = f.let(
                    i32.load(table + ((start >> 5) << 2)) * cache.kv_heads + kv_head,
                )
                left = f.let(end - start)
                count = f.let(select(left < KV_BLOCK, left, i32.const(KV_BLOCK)))
                _score(
                    f, s, heads, f.let(keys + number * cache.key_bytes), start, first, end, count
                )
                bytes_ = f.let(count << 2)
                for head in heads:
                    _weigh(f, head, bytes_)
                block = f.let(values + number * cache.value_bytes)
                add_weighted(f, cache, block, [head.sums for head in heads], bytes_)
            for head in heads:
                factor = f.let(f32x4.splat(f32.const(1.0) / head.total))
                _scale(f, head.sums.target, cache.value_size, factor)
    return f


def _runs(group: int) -> list[range]:
    """Cut a group's heads into runs of about the same length that share what they load."""
    count = -(-group // _TOGETHER)
    edges = [group * n // count for n in range(count + 1)]
    return [range(*pair) for pair in pairwise(edges)]


@dataclass(frozen=True)
class _Head:
    """One query head, and how far its softmax is."""

    query: Local
    top: Local
    """The largest score so far."""
    total: Local
    """Sum of the weights so far."""
    sums: Weighted


def _score(
    f: Function,
    s: Structure,
    heads: list[_Head],
    keys: Local,
    start: Local,
    first: Local,
    end: Local,
    count: Local,
) -> None:
    """Store the scores of a block's first ``count`` positions where their weights will be."""
    vectors = shared_vectors(len(heads))
    with f.range(count, step=4 * vectors) as inside:
        scores = products(f, s.cache, [head.query for head in heads], keys, inside, vectors)
        for score in (score for own in scores for score in own):
            score.set(f32x4.mul(score, f32x4.const(s.scale)))
            if s.softcap:
                score.set(softcap(f, s.softcap, score))
        place = f.let(start + inside)
        with f.if_((place < first) | (place + 4 * vectors > end)):
            _mask(f, scores, place, first, end)
        for head, own in zip(heads, scores, strict=True):
            at = f.let(head.sums.weights + (inside << 2))
            for i, score in enumerate(own):
                f.do(v128.store(at, score, offset=16 * i))


def _mask(f: Function, scores: list[list[Local]], place: Local, first: Local, end: Local) -> None:
    """Hide positions outside ``first .. end``; the first score's is ``place``."""
    for i in range(len(scores[0])):
        lanes = v128_const(b"".join((4 * i + n).to_bytes(4, "little") for n in range(4)))
        places = f.let(i32x4.add(i32x4.splat(place), lanes))
        late = i32x4.lt_s(places, i32x4.splat(end))
        seen = f.let(v128.and_(late, i32x4.ge_s(places, i32x4.splat(first))))
        for own in scores:
            own[i].set(v128.bitselect(own[i], f32x4.const(LOWEST), seen))


def _weigh(f: Function, head: _Head, bytes_: Local) -> None:
    """Online softmax: turn a block's scores into weights; what was summed before shrinks."""
    weights = head.sums.weights
    most = f.let(f32x4.const(LOWEST))
    with f.range(bytes_, step=16) as at:
        most.set(f32x4.pmax(most, v128.load(weights + at)))
    new = f.let(f32.max(head.top, max_lanes(most)))
    shrink = f.let(exp_scalar(f, head.top - new))
    head.top.set(new)
    peak, sums = f.let(f32x4.splat(new)), f.let(f32x4.const(0.0))
    with f.range(bytes_, step=16) as at:
        place = f.let(weights + at)
        score = f.let(v128.load(place))
        # Hidden ones count as nothing at all, even where everything so far was hidden.
        shown = f32x4.gt(score, f32x4.const(LOWEST))
        weight = f.let(v128.and_(exp(f, f32x4.sub(score, peak)), shown))
        sums.set(f32x4.add(sums, weight))
        f.do(v128.store(place, weight))
    head.total.set(head.total * shrink + sum_lanes(sums))
    head.sums.factor.set(f32x4.splat(shrink))


def _scale(f: Function, target: Local, size: int, factor: Local | None) -> None:
    """Multiply ``size`` floats; without a factor: make them zero."""
    whole = size // 4 * 4
    if whole:
        with f.range(4 * whole, step=16) as at:
            four = f.let(target + at)
            zero = f32x4.const(0.0)
            value = zero if factor is None else f32x4.mul(v128.load(four), factor)
            f.do(v128.store(four, value))
    for n in range(whole, size):
        one = f32.const(0.0)
        if factor is not None:
            one = f32.load(target, offset=4 * n) * f32x4.extract_lane(factor, 0)
        f.do(f32.store(target, one, offset=4 * n))
