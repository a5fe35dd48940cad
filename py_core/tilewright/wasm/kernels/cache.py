"""The paged cache of keys and values: how a block lies in memory, reading and writing it.

A layer's cache is ``keys[block][kv_head][head_size][32]`` and
``values[block][kv_head][32][value_size]``: 32 positions of a block lie side by side in the keys, so
that scores need no sum across lanes. Elements are f32, f16, or (``q8_0``) int8 with an f32 scale
per position and 32 elements, all scales behind the block's integers.
"""

from __future__ import annotations

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
VECTORS = KV_BLOCK // 4
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


def products(f: Function, s: CacheStructure, query: Local, keys: Expr) -> list[Local]:
    """Return the dot products of a query and a block's keys, f32x4 per four positions."""
    scores = [f.let(f32x4.const(0.0)) for _ in range(VECTORS)]
    key = f.let(keys)
    if s.kind == "q8_0":
        _products_q8(f, s, query, key, scores)
        return scores
    with f.range(4 * s.head_size, step=4) as at:
        element = f.let(v128.load32_splat(query + at))
        for i, score in enumerate(scores):
            four = v128.load(key, offset=16 * i) if s.kind == "f32" else load_halves(key, 8 * i)
            score.set(f32x4.relaxed_madd(element, four, score))
        key.set(key + s.element * KV_BLOCK)
    return scores


def _products_q8(
    f: Function, s: CacheStructure, query: Local, key: Local, scores: list[Local]
) -> None:
    sums = [f.local("v128") for _ in scores]
    scale = f.let(key + KV_BLOCK * s.head_size)
    at = f.let(query)
    with f.range(s.head_size // GROUP):
        for own in sums:
            own.set(f32x4.const(0.0))
        with f.range(GROUP):
            element = f.let(v128.load32_splat(at))
            for i in range(0, VECTORS, 2):
                eight = f.let(v128.load8x8_s(key, offset=4 * i))
                halves = i32x4.extend_low_i16x8_s(eight), i32x4.extend_high_i16x8_s(eight)
                for own, half in zip(sums[i : i + 2], halves, strict=True):
                    own.set(f32x4.relaxed_madd(element, f32x4.convert_i32x4_s(half), own))
            key.set(key + KV_BLOCK)
            at.set(at + 4)
        for i, (score, own) in enumerate(zip(scores, sums, strict=True)):
            score.set(f32x4.relaxed_madd(own, v128.load(scale, offset=16 * i), score))
        scale.set(scale + 4 * KV_BLOCK)


def add_weighted(
    f: Function,
    s: CacheStructure,
    values: Expr,
    weights: Local,
    count: Local,
    target: Local,
    factor: Local,
) -> None:
    """Make ``target`` its ``factor`` times plus a block's values by their weights.

    ``weights``: address of f32[32], ``count``: bytes of those in use.
    """
    base = f.let(values)
    for (begin, end), vectors, step in _chunks(s.value_size):
        with f.range(end, start=begin, step=4 * step * vectors) as at:
            load = v128.load if step == 4 else v128.load32_zero
            place = f.let(target + at)
            source = f.let(base + (at if s.kind == "f32" else at >> (1 if s.kind == "f16" else 2)))
            sums = [f.let(f32x4.mul(load(place, offset=16 * i), factor)) for i in range(vectors)]
            scale = f.let(base + ((at >> 7) << 2) + KV_BLOCK * s.value_size)
            with f.range(count, step=4) as j:
                weight = f.let(v128.load32_splat(weights + j))
                if s.kind == "q8_0":
                    weight.set(f32x4.mul(weight, v128.load32_splat(scale)))
                    scale.set(scale + 4 * (s.value_size // GROUP))
                _add_row(f, s, source, step, weight, sums)
                source.set(source + s.element * s.value_size)
            for i, own in enumerate(sums):
                if step == 4:
                    f.do(v128.store(place, own, offset=16 * i))
                else:
                    f.do(f32.store(place, f32x4.extract_lane(own, 0)))


def _add_row(
    f: Function, s: CacheStructure, source: Local, step: int, weight: Local, sums: list[Local]
) -> None:
    if s.kind == "q8_0":
        for i in range(0, len(sums), 2):
            eight = f.let(v128.load8x8_s(source, offset=4 * i))
            halves = i32x4.extend_low_i16x8_s(eight), i32x4.extend_high_i16x8_s(eight)
            for own, half in zip(sums[i : i + 2], halves, strict=True):
                own.set(f32x4.relaxed_madd(weight, f32x4.convert_i32x4_s(half), own))
        return
    for i, own in enumerate(sums):
        if s.kind == "f16":  # behind the last element others lie, which are not kept
            four = load_halves(source, 8 * i)
        else:
            load = v128.load if step == 4 else v128.load32_zero
            four = load(source, offset=16 * i)
        own.set(f32x4.relaxed_madd(weight, four, own))


def _chunks(size: int) -> list[tuple[tuple[int, int], int, int]]:
    """Cut ``size`` floats into runs of 8, 4, 1 vectors, and of floats: (bytes, vectors, step)."""
    found, begin = [], 0
    for vectors, step in ((8, 4), (4, 4), (1, 4), (1, 1)):
        piece = vectors * step
        end = begin + (size - begin) // piece * piece
        if end > begin:
            found.append(((4 * begin, 4 * end), vectors, step))
        begin = end
    return found
