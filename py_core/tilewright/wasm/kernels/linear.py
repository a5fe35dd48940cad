"""Matrix times activations, both integers: one function per weight layout, for one token and many.

Structure is the layout (``packing.py``); Tuning is how the products are made and how many rows and
tokens one tile has. All candidates compute the same integers. Adds
``<name>(weights, cells, rows, x, x_row, tokens, out, stride)``: cells are columns / 32, rows of x
are ``x_row``, those of out ``stride`` bytes apart; x is what ``quantize`` wrote.

A zero point is subtracted through the activations' sums. With 16-bit sums those start as minus
zero times the sum of the columns that meet in the lane: the final value fits 16 bits, and what
wraps on the way wraps back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ...errors import KernelError
from ..assembler import (
    Expr,
    Function,
    Local,
    Module,
    f32,
    f32x4,
    i16x8,
    i32,
    i32x4,
    shuffle32,
    v128,
)
from .lanes import store_some
from .packing import LANES, Packing
from .quantize import (
    BLOCK_BYTES,
    HALF_TOTALS,
    SCALE,
    SUMS,
    TOTAL,
    WIDE_BYTES,
    WIDE_HALF_SUMS,
    WIDE_HALF_TOTALS,
    WIDE_SCALE,
    WIDE_SUM,
    WIDE_TOTAL,
)

Method = Literal["dot16", "relaxed16", "relaxed32"]
Splat = Literal["load", "shuffle"]

_CRUMBS = i32x4.const(0x03030303)
_NIBBLES = i32x4.const(0x0F0F0F0F)


@dataclass(frozen=True)
class Structure:
    """What is computed."""

    packing: Packing
    wide: bool = False
    """Activations have 16 bits: nearly exact, and for signed 8-bit weights no slower."""


@dataclass(frozen=True)
class Tuning:
    """How."""

    method: Method = "dot16"
    """Plain SIMD; relaxed dot products summed in 16 bits; relaxed dot products in 32 bits."""
    rows: int = 4
    """Rows of a tile: 4, 8 or 16."""
    tokens: int = 1
    """Tokens of a tile."""
    splat: Splat = "shuffle"
    """How four columns of x get into all lanes: a load each, or one load and shuffles. V8 likes the
    former; Cranelift makes three instructions of it."""


def naive(structure: Structure) -> Tuning:
    """Plain SIMD, one vector of rows."""
    return Tuning()


def default(structure: Structure, *, many: bool, relaxed: bool, splat: Splat = "shuffle") -> Tuning:
    """Return a good guess without measuring; ``many``: for a prompt rather than one token."""
    plain = structure.packing.quants == "byte" or structure.wide
    if not many:
        method: Method = "relaxed16" if relaxed and not plain else "dot16"
        return Tuning(method, 8, _together(splat), splat)
    if plain:  # twice the registers
        return Tuning("dot16", 8, 2, splat)
    return Tuning("relaxed16", 8, 4, splat) if relaxed else Tuning("dot16", 4, 4, splat)


def _together(splat: Splat) -> int:
    """Return the tokens of a tile in decode, where several sequences may share a step.

    One token alone takes the same code either way. In V8 two tokens by eight rows are a sixth
    faster than one by one; Cranelift spills what they have in common.
    """
    return 2 if splat == "load" else 1


def space(structure: Structure, *, many: bool, relaxed: bool) -> list[Tuning]:
    """Return the candidates worth timing, the naive one first."""
    methods: list[Method] = ["dot16"]
    if relaxed and structure.packing.quants != "byte" and not structure.wide:
        methods += ["relaxed16", "relaxed32"]
    tiles = [(16, 1), (4, 4), (8, 2), (8, 4)] if many else [(4, 0), (8, 0), (16, 0)]
    splats: list[Splat] = ["shuffle", "load"]
    found = [
        Tuning(method, rows, tokens or _together(splat), splat)
        for method in methods
        for rows, tokens in tiles
        for splat in splats
    ]
    return [Tuning(), *(t for t in found if t != Tuning())]


def add_linear(module: Module, name: str, structure: Structure, tuning: Tuning) -> Function:
    """Add the kernel to a module."""
    f = module.function(name, ["i32"] * 8)
    weights, cells, rows, x, x_row, tokens, out, stride = f.parameters
    form = structure.packing
    if tuning.method != "dot16" and (structure.wide or form.quants == "byte"):
        raise KernelError(f"{tuning.method} needs 8-bit activations and unsigned weights.")
    pair = f.let(cells * (2 * form.cell_bytes))
    row = f.local("i32")
    # The widest strips first, then those of four rows.
    for high in dict.fromkeys((tuning.rows // LANES, 1)):
        with f.while_(lambda high=high: row + (LANES * high - LANES) < rows):  # type: ignore[misc]
            token = f.let(i32.const(0))
            for wide in dict.fromkeys((tuning.tokens, 1)):
                with f.while_(lambda wide=wide, token=token: token + (wide - 1) < tokens):  # type: ignore[misc]
                    w = _strips(f, form, weights + (row >> 3) * pair, pair, row, high)
                    first = x + token * x_row
                    xs = [f.let(first + x_row * n) for n in range(wide)]
                    sums = _tile(f, structure, tuning, w, xs, cells)
                    target = f.let(out + token * stride + (row << 2))
                    for n in range(wide):
                        for g in range(high):
                            store_some(f, target, 16 * g, sums[g][n], rows - row - LANES * g)
                        if n + 1 < wide:
                            target.set(target + stride)
                    token.set(token + wide)
            row.set(row + LANES * high)
    return f


@dataclass(frozen=True)
class _Strip:
    """Four rows' cells."""

    pointer: Local
    offset: int

    def load(self, at: int) -> Expr:
        """Load a vector of the present cell."""
        return v128.load(self.pointer, offset=self.offset + at)

    def widened(self, at: int, signed: bool) -> Expr:
        """Load eight bytes of the present cell as i16x8."""
        load = v128.load8x8_s if signed else v128.load8x8_u
        return load(self.pointer, offset=self.offset + at)


def _strips(
    f: Function, form: Packing, first: Expr, pair: Local, row: Local, high: int
) -> list[_Strip]:
    """Return the strips that begin at ``row``: one, or whole pairs."""
    if high == 1:
        return [_Strip(f.let(first + ((row >> 2) & 1) * form.cell_bytes), 0)]
    pointers = [f.let(first + pair * g) for g in range(high // 2)]
    return [_Strip(pointers[g // 2], g % 2 * form.cell_bytes) for g in range(high)]


def _tile(
    f: Function, s: Structure, tuning: Tuning, w: list[_Strip], xs: list[Local], cells: Local
) -> list[list[Local]]:
    """Return the sums ``[strip][token]``, each f32x4, of whole rows."""
    form = s.packing
    scale_at = WIDE_SCALE if s.wide else SCALE
    total_at = WIDE_TOTAL if s.wide else TOTAL
    half_at = WIDE_HALF_TOTALS if s.wide else HALF_TOTALS
    zero = f32x4.const(0.0)
    totals = [[f.let(zero) for _ in xs] for _ in w]
    products = _Products(f, s, tuning, w, xs)
    with f.range(cells):
        for part, quants in enumerate(_parts(form)):
            integers = products.sums(part, quants)
            for g, strip in enumerate(w):
                scale = f.let(strip.load(form.scales_at + 16 * part))
                for n, x in enumerate(xs):
                    factor = f32x4.mul(scale, f32x4.splat(f32.load(x, offset=scale_at)))
                    value = f32x4.convert_i32x4_s(integers[g][n])
                    totals[g][n].set(f32x4.relaxed_madd(value, factor, totals[g][n]))
                if form.offset:
                    offset = f.let(strip.load(form.offsets_at + 16 * part))
                    sum_at = total_at if form.group == 32 else half_at + 4 * part
                    for n, x in enumerate(xs):
                        total = f32x4.splat(f32.load(x, offset=sum_at))
                        totals[g][n].set(f32x4.relaxed_madd(offset, total, totals[g][n]))
        for pointer in dict.fromkeys(strip.pointer for strip in w):
            pointer.set(pointer + 2 * form.cell_bytes)
        for x in xs:
            x.set(x + (WIDE_BYTES if s.wide else BLOCK_BYTES))
    return totals


def _parts(form: Packing) -> list[list[int]]:
    """Return the runs of four columns (0 to 7) that share a scale."""
    return [list(range(8))] if form.group == 32 else [[0, 1, 2, 3], [4, 5, 6, 7]]


class _Products:
    """Integer sums of one cell's products."""

    def __init__(
        self, f: Function, s: Structure, tuning: Tuning, w: list[_Strip], xs: list[Local]
    ) -> None:
        self._f, self._form, self._method = f, s.packing, tuning.method
        self._w, self._xs = w, xs
        self._shuffles = tuning.splat == "shuffle"
        self._vectors = [[f.local("v128") for _ in range(4 if s.wide else 2)] for _ in xs]
        self._wide = s.wide
        self._x = [f.local("v128") for _ in xs]
        self._quads = [f.local("v128") for _ in w]
        wide = 2 if tuning.method == "dot16" else 1
        self._sums = [[[f.local("v128") for _ in range(wide)] for _ in xs] for _ in w]
        self._more = [[f.local("v128") for _ in xs] for _ in w]
        self._low, self._high = f.local("v128"), f.local("v128")

    def sums(self, part: int, runs: list[int]) -> list[list[Expr]]:
        """Return i32x4 per strip and token: sum over the runs' columns of (quant - zero) * x."""
        if self._shuffles:
            each = 2 if self._wide else 4
            for vectors, x in zip(self._vectors, self._xs, strict=True):
                for number in dict.fromkeys(run // each for run in runs):
                    vectors[number].set(v128.load(x, offset=16 * number))
        if self._method == "relaxed16":
            return self._sixteen(part, runs)
        return self._thirty_two(part, runs)

    def _visits(self, runs: list[int]) -> Iterator[tuple[int, list[Expr]]]:
        """Yield each run with the weights of every strip."""
        form = self._form
        if form.quants == "crumb":
            for run in runs:
                if run % 4 == 0:
                    for quad, strip in zip(self._quads, self._w, strict=True):
                        quad.set(strip.load(4 * run))
                shift = 2 * (run % 4)
                shifted = [i16x8.shr_u(quad, shift) if shift else quad for quad in self._quads]
                yield run, [v128.and_(four, _CRUMBS) for four in shifted]
            return
        if form.quants != "nibble":
            for run in runs:
                for quad, strip in zip(self._quads, self._w, strict=True):
                    quad.set(strip.load(16 * run))
                yield run, list(self._quads)
            return
        for j in range(4):
            for quad, strip in zip(self._quads, self._w, strict=True):
                quad.set(strip.load(16 * j))
            yield j, [v128.and_(quad, _NIBBLES) for quad in self._quads]
            yield j + 4, [v128.and_(i16x8.shr_u(quad, 4), _NIBBLES) for quad in self._quads]

    def _columns(self, n: int, run: int) -> Expr:
        """Return token n's columns 4 run .. in all lanes: four bytes, or four 16-bit numbers."""
        x = self._xs[n]
        if not self._shuffles:
            load = v128.load64_splat if self._wide else v128.load32_splat
            return load(x, offset=(8 if self._wide else 4) * run)
        if self._wide:
            vector, lane = self._vectors[n][run // 2], run % 2 * 2
            return shuffle32(vector, vector, (lane, lane + 1) * 2)
        vector, lane = self._vectors[n][run // 4], run % 4
        return shuffle32(vector, vector, (lane,) * 4)

    def _correction(self, x: Local, part: int) -> Expr:
        """Return i32x4 of minus zero times the sum of x over the part's columns."""
        zero = i32x4.const(-self._form.zero)
        if self._wide:
            at = WIDE_SUM if self._form.group == 32 else WIDE_HALF_SUMS + 4 * part
            return i32x4.mul(v128.load32_splat(x, offset=at), zero)
        if self._form.group == 32:
            pair = i32x4.extadd_pairwise_i16x8_s(v128.load32_splat(x, offset=SUMS))
            return i32x4.mul(pair, zero)
        # Halves are kept as floats times the scale; their integers are summed here.
        ones = i16x8.const(1)
        eight = i16x8.extadd_pairwise_i8x16_s(v128.load(x, offset=16 * part))
        four = self._f.let(i32x4.dot_i16x8_s(eight, ones))
        two = self._f.let(i32x4.add(four, shuffle32(four, four, (1, 0, 3, 2))))
        return i32x4.mul(i32x4.add(two, shuffle32(two, two, (2, 3, 0, 1))), zero)

    def _sixteen(self, part: int, runs: list[int]) -> list[list[Expr]]:
        """Sum products of pairs in 16 bits as long as they fit, then in 32."""
        form = self._form
        fits = min(len(runs), 32767 // (2 * 127 * form.largest))
        wraps = (
            form.group == 32
            and form.zero
            and 127 * 16 * max(form.zero, form.largest - form.zero) < 32768
        )
        if wraps:
            fits = len(runs)
            minus = i16x8.const(-form.zero)
            for n, x in enumerate(self._xs):
                start = i16x8.mul(v128.load32_splat(x, offset=SUMS), minus)
                self._sums[0][n][0].set(start)
                for g in range(1, len(self._w)):
                    self._sums[g][n][0].set(self._sums[0][n][0])
        spilled = False
        for turn, (run, quads) in enumerate(self._visits(runs)):
            for n, own in enumerate(self._x):
                own.set(self._columns(n, run))
            for g, quad in enumerate(quads):
                weight: Expr = quad
                if len(self._xs) > 1 and not isinstance(quad, Local):
                    self._low.set(quad)
                    weight = self._low
                for n, own in enumerate(self._x):
                    product = i16x8.relaxed_dot_i8x16_i7x16_s(own, weight)
                    total = self._sums[g][n][0]
                    fresh = turn % fits == 0 and not wraps
                    if fresh and turn:
                        widened = i32x4.extadd_pairwise_i16x8_s(total)
                        more = self._more[g][n]
                        more.set(i32x4.add(more, widened) if spilled else widened)
                    total.set(product if fresh else i16x8.add(total, product))
            spilled = spilled or (turn > 0 and turn % fits == 0 and not wraps)
        results: list[list[Expr]] = []
        for g in range(len(self._w)):
            row: list[Expr] = []
            for n, x in enumerate(self._xs):
                whole = i32x4.extadd_pairwise_i16x8_s(self._sums[g][n][0])
                if spilled:
                    whole = i32x4.add(whole, self._more[g][n])
                if form.zero and not wraps:
                    whole = i32x4.add(whole, self._correction(x, part))
                row.append(whole)
            results.append(row)
        return results

    def _thirty_two(self, part: int, runs: list[int]) -> list[list[Expr]]:
        form = self._form
        relaxed = self._method == "relaxed32"
        signed = form.quants == "byte"
        direct = form.quants in ("byte", "seven") and not relaxed
        started = False
        visits = ((run, self._quads) for run in runs) if direct else self._visits(runs)
        for run, quads in visits:
            for n, own in enumerate(self._x):
                four = self._columns(n, run)
                own.set(four if relaxed or self._wide else i16x8.extend_low_i8x16_s(four))
            for g, quad in enumerate(quads):
                if relaxed:
                    self._low.set(quad)
                elif direct:
                    self._low.set(self._w[g].widened(16 * run, signed))
                    self._high.set(self._w[g].widened(16 * run + 8, signed))
                else:
                    self._low.set(i16x8.extend_low_i8x16_u(quad))
                    self._high.set(i16x8.extend_high_i8x16_u(quad))
                for n, own in enumerate(self._x):
                    sums = self._sums[g][n]
                    if relaxed:
                        before = sums[0] if started else i32x4.const(0)
                        sums[0].set(i32x4.relaxed_dot_i8x16_i7x16_add_s(own, self._low, before))
                        continue
                    for total, weight in zip(sums, (self._low, self._high), strict=True):
                        product = i32x4.dot_i16x8_s(own, weight)
                        total.set(i32x4.add(total, product) if started else product)
            started = True
        results: list[list[Expr]] = []
        for g in range(len(self._w)):
            row: list[Expr] = []
            for n, x in enumerate(self._xs):
                sums = self._sums[g][n]
                whole: Expr = sums[0]
                if not relaxed:
                    even = shuffle32(sums[0], sums[1], (0, 2, 4, 6))
                    whole = i32x4.add(even, shuffle32(sums[0], sums[1], (1, 3, 5, 7)))
                if form.zero:
                    whole = i32x4.add(whole, self._correction(x, part))
                row.append(whole)
            results.append(row)
        return results
