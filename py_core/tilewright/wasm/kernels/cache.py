"""The paged cache of keys and values: how a block lies in memory, reading and writing it.

A layer's cache is ``keys[block][kv_head][head_size][32]`` and
``values[block][kv_head][32][value_size]``: 32 positions of a block lie side by side in the keys, so
that scores need no sum across lanes. Elements are f32, f16, or (``q8_0``) int8 with an f32 scale
per position and 32 elements, all scales behind the block's integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import InvalidRequestError
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
)

KvKind = Literal["f32", "f16", "q8_0"]
KINDS: tuple[KvKind, ...] = get_args(KvKind)
KV_BLOCK = 32
"""Positions per block."""
GROUP = 32
"""Elements per scale of ``q8_0``."""
_BYTES = {"f32": 4, "f16": 2, "q8_0": 1}


def row_bytes(kind: KvKind, width: int) -> int:
    """Return the bytes of ``width`` elements of a position."""
    return width * _BYTES[kind] + (4 * (width // GROUP) if kind == "q8_0" else 0)


@dataclass(frozen=True)
class CacheStructure:
    """Sizes of one layer's cache."""

    kv_heads: int
    head_size: int
    value_size: int
    kind: KvKind = "f32"

    def __post_init__(self) -> None:
        """Raise InvalidRequestError where the scales of ``q8_0`` would not fit the heads."""
        if self.kind == "q8_0" and (self.head_size % GROUP or self.value_size % GROUP):
            raise InvalidRequestError(
                f"A q8_0 cache needs heads of a multiple of {GROUP} elements, this model has "
                f"{self.head_size} and {self.value_size}: choose f16 or f32.",
                field="kv",
            )

    @property
    def element(self) -> int:
        """Bytes of an element."""
        return _BYTES[self.kind]

    @property
    def key_bytes(self) -> int:
        """Bytes of one head's keys in one block."""
        return KV_BLOCK * row_bytes(self.kind, self.head_size)

    @property
    def value_bytes(self) -> int:
        """Bytes of one head's values in one block."""
        return KV_BLOCK * row_bytes(self.kind, self.value_size)


def load_halves(address: Expr, offset: int = 0) -> Expr:
    """Return four f16 as f32x4; infinities become 65536 and more."""
    bits = v128.load16x4_u(address, offset=offset)
    size = i32x4.shl(v128.and_(bits, i32x4.const(0x7FFF)), 13)
    sign = i32x4.shl(v128.and_(bits, i32x4.const(0x8000)), 16)
    return v128.or_(f32x4.mul(size, f32x4.const(2.0**112)), sign)


def half_bits(f: Function, value: Expr) -> Local:
    """Return the bits of the f16 nearest to an f32, ties to even."""
    bits = f.let(i32.reinterpret_f32(value))
    size = f.let(bits & 0x7FFFFFFF)
    found = f.let(i32.const(0))
    with f.if_(i32.ge_u(size, i32.const(0x47800000))):
        found.set(
            select(i32.gt_u(size, i32.const(0x7F800000)), i32.const(0x7E00), i32.const(0x7C00))
        )
    with f.else_():
        with f.if_(i32.lt_u(size, i32.const(0x38800000))):
            # One half more: the last bits of the sum are the subnormal number.
            found.set(i32.reinterpret_f32(f32.reinterpret_i32(size) + 0.5) - 0x3F000000)
        with f.else_():
            odd = (size >> 13) & 1
            found.set((size + odd - (112 << 23) + 0xFFF) >> 13)
    found.set(found | ((bits >> 16) & 0x8000))
    return found


def add_kv_write(module: Module, name: str, s: CacheStructure) -> Function:
    """Add ``<name>(k, stride, v, stride, positions, slots, tokens, tables, most, keys, values)``.

    ``most`` is the number of blocks in a row of the table.
    """
    f = module.function(name, ["i32"] * 11)
    k, k_stride, v, v_stride, positions, slots, tokens, tables, most, keys, values = f.parameters
    with f.range(tokens) as token:
        position = f.let(i32.load(positions + (token << 2)))
        slot = i32.load(slots + (token << 2))
        block = f.let(i32.load(tables + ((slot * most + (position >> 5)) << 2)) * s.kv_heads)
        inside = f.let(position & (KV_BLOCK - 1))
        key, value = f.let(keys + block * s.key_bytes), f.let(values + block * s.value_bytes)
        with f.range(s.kv_heads) as head:
            of_key, of_value = (
                f.let(k + head * (4 * s.head_size)),
                f.let(v + head * (4 * s.value_size)),
            )
            if s.kind == "q8_0":
                _write_q8(f, of_key, key, inside, s.head_size, across=True)
                _write_q8(f, of_value, value, inside, s.value_size, across=False)
            else:
                _write(f, s.kind, of_key, key, inside, s.head_size, across=True)
                _write(f, s.kind, of_value, value, inside, s.value_size, across=False)
            key.set(key + s.key_bytes)
            value.set(value + s.value_bytes)
        k.set(k + k_stride)
        v.set(v + v_stride)
    return f


def _write(
    f: Function,
    kind: KvKind,
    source: Local,
    block: Local,
    inside: Local,
    size: int,
    *,
    across: bool,
) -> None:
    """Write one head's floats; ``across``: as a column of the block."""
    element = _BYTES[kind]
    if not across and kind == "f32":
        f.do(memory_copy(block + inside * (4 * size), source, 4 * size))
        return
    first = f.let(block + inside * (element if across else element * size))
    step = element * KV_BLOCK if across else element
    with f.range(size) as i:
        place, value = first + i * step, f32.load(source + (i << 2))
        if kind == "f32":
            f.do(f32.store(place, value))
        else:
            f.do(i32.store16(place, half_bits(f, value)))


def _write_q8(
    f: Function, source: Local, block: Local, inside: Local, size: int, *, across: bool
) -> None:
    groups = size // GROUP
    with f.range(groups) as group:
        first = f.let(source + group * (4 * GROUP))
        top = f.let(f32.const(0.0))
        with f.range(GROUP) as i:
            top.set(f32.max(top, f32.abs(f32.load(first + (i << 2)))))
        inverse = f.let(f32.const(0.0))
        with f.if_(top > 0.0):
            inverse.set(f32.const(127.0) / top)
        if across:
            scale = block + (group * (4 * KV_BLOCK) + (inside << 2))
            start, step = f.let(block + group * (GROUP * KV_BLOCK) + inside), KV_BLOCK
        else:
            scale = block + ((inside * groups + group) << 2)
            start, step = f.let(block + inside * size + group * GROUP), 1
        f.do(f32.store(scale, top / 127.0, offset=size * KV_BLOCK))
        with f.range(GROUP) as i:
            scaled = f32.nearest(f32.load(first + (i << 2)) * inverse)
            quants = i32x4.trunc_sat_f32x4_s(f32x4.splat(scaled))
            f.do(i32.store8(start + i * step, i32x4.extract_lane(quants, 0)))


def shared_vectors(heads: int) -> int:
    """Return how many vectors are loaded at once where ``heads`` use them: as registers allow."""
    return 4 if heads <= 3 else 2


def products(
    f: Function,
    s: CacheStructure,
    queries: Sequence[Local],
    keys: Local,
    first: Local,
    vectors: int,
) -> list[list[Local]]:
    """Return the dot products of queries and a block's keys from position ``first`` on.

    One f32x4 per query and four positions.
    """
    scores = [[f.let(f32x4.const(0.0)) for _ in range(vectors)] for _ in queries]
    if s.kind == "q8_0":
        _products_q8(f, s, queries, keys, first, scores)
        return scores
    key = f.let(keys + first * s.element)
    with f.range(4 * s.head_size, step=4) as at:
        if s.kind == "f32":
            fours = [f.let(v128.load(key, offset=16 * i)) for i in range(vectors)]
        else:
            fours = [f.let(load_halves(key, 8 * i)) for i in range(vectors)]
        _add_products(f, queries, at, fours, scores)
        key.set(key + s.element * KV_BLOCK)
    return scores


def _add_products(
    f: Function,
    queries: Sequence[Local],
    at: Local,
    fours: Sequence[Local],
    sums: Sequence[Sequence[Local]],
) -> None:
    for query, own in zip(queries, sums, strict=True):
        element = f.let(v128.load32_splat(query + at))
        for four, total in zip(fours, own, strict=True):
            total.set(f32x4.relaxed_madd(four, element, total))


def _products_q8(
    f: Function,
    s: CacheStructure,
    queries: Sequence[Local],
    keys: Local,
    first: Local,
    scores: list[list[Local]],
) -> None:
    sums = [[f.local("v128") for _ in own] for own in scores]
    key = f.let(keys + first)
    scale = f.let(keys + (first << 2) + KV_BLOCK * s.head_size)
    with f.range(4 * s.head_size, step=4 * GROUP) as start:
        for total in (total for own in sums for total in own):
            total.set(f32x4.const(0.0))
        with f.range(start + 4 * GROUP, start=start, step=4) as at:
            fours = [four for i in range(0, len(scores[0]), 2) for four in _eight(f, key, 4 * i)]
            _add_products(f, queries, at, fours, sums)
            key.set(key + KV_BLOCK)
        for i in range(len(scores[0])):
            factor = f.let(v128.load(scale, offset=16 * i))
            for own, totals in zip(scores, sums, strict=True):
                own[i].set(f32x4.relaxed_madd(totals[i], factor, own[i]))
        scale.set(scale + 4 * KV_BLOCK)


def _eight(f: Function, at: Local, offset: int) -> list[Local]:
    """Return eight int8 as two f32x4."""
    eight = f.let(v128.load8x8_s(at, offset=offset))
    halves = i32x4.extend_low_i16x8_s(eight), i32x4.extend_high_i16x8_s(eight)
    return [f.let(f32x4.convert_i32x4_s(half)) for half in halves]


@dataclass(frozen=True)
class Weighted:
    """A sum of values by weights."""

    weights: Local
    """Address of f32[32]: those of a block's positions."""
    target: Local
    """Address of the sum."""
    factor: Local
    """What the sum so far is multiplied by, f32x4."""


def add_weighted(
    f: Function, s: CacheStructure, values: Local, sums: Sequence[Weighted], count: Local
) -> None:
    """Make each target its factor times itself plus a block's values by their weights.

    ``count``: bytes of the weights in use.
    """
    for (begin, end), vectors, step in _chunks(s.value_size, shared_vectors(len(sums))):
        load = v128.load if step == 4 else v128.load32_zero
        with f.range(end, start=begin, step=4 * step * vectors) as at:
            offset = at if s.kind == "f32" else at >> (1 if s.kind == "f16" else 2)
            source = f.let(values + offset)
            places = [f.let(own.target + at) for own in sums]
            totals = [
                [f.let(f32x4.mul(load(p, offset=16 * i), own.factor)) for i in range(vectors)]
                for p, own in zip(places, sums, strict=True)
            ]
            scale = f.let(values + ((at >> 7) << 2) + KV_BLOCK * s.value_size)
            with f.range(count, step=4) as j:
                fours = _row(f, s, source, step, vectors)
                factor = f.let(v128.load32_splat(scale)) if s.kind == "q8_0" else None
                for own, total in zip(sums, totals, strict=True):
                    weight = f.let(v128.load32_splat(own.weights + j))
                    if factor is not None:
                        weight.set(f32x4.mul(weight, factor))
                    for four, sum_ in zip(fours, total, strict=True):
                        sum_.set(f32x4.relaxed_madd(four, weight, sum_))
                scale.set(scale + 4 * (s.value_size // GROUP))
                source.set(source + s.element * s.value_size)
            for place, total in zip(places, totals, strict=True):
                for i, sum_ in enumerate(total):
                    if step == 4:
                        f.do(v128.store(place, sum_, offset=16 * i))
                    else:
                        f.do(f32.store(place, f32x4.extract_lane(sum_, 0)))


def _row(f: Function, s: CacheStructure, source: Local, step: int, vectors: int) -> list[Local]:
    """Return a position's next elements as f32x4."""
    if s.kind == "q8_0":
        return [four for i in range(0, vectors, 2) for four in _eight(f, source, 4 * i)]
    if s.kind == "f16":  # behind the last element others lie, which are not kept
        return [f.let(load_halves(source, 8 * i)) for i in range(vectors)]
    load = v128.load if step == 4 else v128.load32_zero
    return [f.let(load(source, offset=16 * i)) for i in range(vectors)]


def _chunks(size: int, most: int) -> list[tuple[tuple[int, int], int, int]]:
    """Cut ``size`` floats into runs of ``most`` vectors, of one, and of floats.

    Each is (bytes, vectors, floats of a vector).
    """
    found, begin = [], 0
    for vectors, step in ((most, 4), (1, 4), (1, 1)):
        piece = vectors * step
        end = begin + (size - begin) // piece * piece
        if end > begin:
            found.append(((4 * begin, 4 * end), vectors, step))
        begin = end
    return found
