"""Rotation, and attention over the paged cache (``cache.py``).

Tables of blocks are ``u32[slots][max_blocks]``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..assembler import (
    Expr,
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
from .cache import KV_BLOCK, CacheStructure, add_weighted, products
from .lanes import LOWEST, exp, exp_scalar, max_lanes, softcap, sum_lanes


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
    """Add ``<name>(q, stride, positions, slots, tokens, tables, most, lengths, keys, values, out,
    stride, sinks, scratch, first head, end)``; scratch takes the 32 weights of a block.
    """  # noqa: D205
    f = module.function(name, ["i32"] * 16)
    (q, q_stride, positions, slots, tokens, tables, most, lengths) = f.parameters[:8]
    (keys, values, out, out_stride, sinks, scratch, first_head, end_head) = f.parameters[8:]
    cache = s.cache
    group = s.heads // cache.kv_heads
    with f.range(tokens) as token:
        position = f.let(i32.load(positions + (token << 2)))
        slot = f.let(i32.load(slots + (token << 2)))
        table = f.let(tables + ((slot * most) << 2))
        end = f.let(position + 1 if s.causal else i32.load(lengths + (slot << 2)))
        first = f.let(i32.const(0))
        if s.window:
            from_ = f.let(position + (1 - s.window))
            first.set(select(from_ > 0, from_, i32.const(0)))
        with f.range(end_head, start=first_head) as head:
            query = f.let(q + head * (4 * cache.head_size))
            target = f.let(out + head * (4 * cache.value_size))
            top = f.let(f32.load(sinks + (head << 2)) if s.sinks else f32.const(LOWEST))
            total = f.let(f32.const(1.0 if s.sinks else 0.0))
            _clear(f, target, cache.value_size)
            with f.range(end, start=first & -KV_BLOCK, step=KV_BLOCK) as start:
                block = i32.load(table + ((start >> 5) << 2)) * cache.kv_heads + head // group
                number = f.let(block)
                scores = _scores(f, s, query, keys + number * cache.key_bytes)
                _mask(f, scores, start, first, end)
                _weigh(f, scores, top, total, scratch, target, cache, values, number, end - start)
            _divide(f, target, cache.value_size, total)
        q.set(q + q_stride)
        out.set(out + out_stride)
    return f


def _scores(f: Function, s: Structure, query: Local, keys: Expr) -> list[Local]:
    scores = products(f, s.cache, query, keys)
    for score in scores:
        score.set(f32x4.mul(score, f32x4.const(s.scale)))
        if s.softcap:
            score.set(softcap(f, s.softcap, score))
    return scores


def _mask(f: Function, scores: list[Local], start: Local, first: Local, end: Local) -> None:
    """Hide positions outside ``first .. end``, where the block has any."""
    with f.if_((start < first) | (start + KV_BLOCK > end)):
        for i, score in enumerate(scores):
            lanes = v128_const(b"".join((4 * i + n).to_bytes(4, "little") for n in range(4)))
            place = f.let(i32x4.add(i32x4.splat(start), lanes))
            late = i32x4.lt_s(place, i32x4.splat(end))
            seen = v128.and_(late, i32x4.ge_s(place, i32x4.splat(first)))
            score.set(v128.bitselect(score, f32x4.const(LOWEST), seen))


def _weigh(
    f: Function,
    scores: list[Local],
    top: Local,
    total: Local,
    scratch: Local,
    target: Local,
    cache: CacheStructure,
    values: Local,
    number: Local,
    left: Expr,
) -> None:
    """Online softmax: add the block's values by their weights."""
    most = f.let(scores[0])
    for score in scores[1:]:
        most.set(f32x4.pmax(most, score))
    new = f.let(f32.max(top, max_lanes(most)))
    shrink = f.let(exp_scalar(f, top - new))
    top.set(new)
    peak = f.let(f32x4.splat(new))
    sums = f.let(f32x4.const(0.0))
    for i, score in enumerate(scores):
        # Hidden ones count as nothing at all, even where everything so far was hidden.
        shown = f32x4.gt(score, f32x4.const(LOWEST))
        weight = f.let(v128.and_(exp(f, f32x4.sub(score, peak)), shown))
        sums.set(f32x4.add(sums, weight))
        f.do(v128.store(scratch, weight, offset=16 * i))
    total.set(total * shrink + sum_lanes(sums))
    count = f.let(select(left < KV_BLOCK, left, i32.const(KV_BLOCK)) << 2)
    factor = f.let(f32x4.splat(shrink))
    block = values + number * cache.value_bytes
    add_weighted(f, cache, block, scratch, count, target, factor)


def _clear(f: Function, target: Local, size: int) -> None:
    with f.range(4 * size, step=4) as at:
        f.do(f32.store(target + at, 0.0))


def _divide(f: Function, target: Local, size: int, total: Local) -> None:
    factor = f.let(f32.const(1.0) / total)
    with f.range(4 * size, step=4) as at:
        f.do(f32.store(target + at, f32.load(target + at) * factor))
