"""A tile of a matrix times some tokens: the inner loop of ``linear.py``.

Weights of four rows (a strip) or of several meet the activations of a few tokens; per 32 columns
integer products are summed, scaled and added to the tile's sums.

A zero point is subtracted through the activations' sums. With 16-bit sums those start as minus
zero times the sum of the columns that meet in the lane: the final value fits 16 bits, and what
wraps on the way wraps back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from ..assembler import (
    Expr,
    Function,
    Local,
    Module,
    f32,
    f32x4,
    i16x8,
    i32x4,
    shuffle32,
    v128,
)
from .block import moved_bits
from .packing import Packing, Piece
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

SCRATCH_BYTES = 64
"""What a tile of four tokens stores of a strip."""


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
    stored: bool = False
    """A tile of several tokens takes its rows four by four, after one another, and integer sums go
    through memory. Cranelift moves arithmetic behind all loads up to the next store, and spills
    what was loaded; a splat whose only use comes before that store costs one instruction."""
    streams: int = 1
    """One token meets so many runs of eight rows in turn, cell by cell: a processor reads more
    bytes per second from several places of its memory at once than from one."""


def methods(structure: Structure) -> tuple[Method, ...]:
    """Return how products can be made: sums of 16 bits have no room for those of eight bits."""
    form = structure.packing
    if form.quants == "byte" or structure.wide:
        return ("dot16",)
    return ("dot16", "relaxed32") if form.quants == "eight" else ("dot16", "relaxed16", "relaxed32")


def can_store(structure: Structure, method: Method) -> bool:
    """Whether a tile's integer sums can be stored: there must be one vector of them."""
    form = structure.packing
    if form.quants == "byte":
        return structure.wide and method == "dot16"
    runs = form.group // 4
    fits = _fits(form, runs) >= runs or _wraps(form)
    return method == "relaxed16" and not structure.wide and fits


def _fits(form: Packing, runs: int) -> int:
    """Return for how many runs of four columns sums of two products fit 16 bits."""
    return min(runs, 32767 // (2 * 127 * form.largest))


def _wraps(form: Packing) -> bool:
    """Whether sums of 16 products fit 16 bits once the zero point is subtracted."""
    most = 127 * 16 * max(form.zero, form.largest - form.zero)
    return form.group == 32 and form.zero > 0 and most < 32768


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


def add_strips(
    f: Function, form: Packing, first: Expr, pair: Local, row: Local, high: int
) -> list[_Strip]:
    """Return the strips that begin at ``row``: one, or whole pairs."""
    if high == 1:
        return [_Strip(f.let(first + ((row >> 2) & 1) * form.cell_bytes), 0)]
    pointers = [f.let(first + pair * g) for g in range(high // 2)]
    return [_Strip(pointers[g // 2], g % 2 * form.cell_bytes) for g in range(high)]


def add_tile(
    f: Function,
    s: Structure,
    tuning: Tuning,
    w: list[_Strip],
    xs: list[Local],
    cells: Local,
    scratch: Local | None = None,
    together: int = 4,
) -> list[list[Local]]:
    """Return the sums ``[strip][token]``, each f32x4, of whole rows.

    ``together``: how many strips share what is loaded of the activations; they take turns.
    ``scratch``: where the only strip's integer sums are stored meanwhile, a vector per token.
    """
    form = s.packing
    scale_at = WIDE_SCALE if s.wide else SCALE
    total_at = WIDE_TOTAL if s.wide else TOTAL
    half_at = WIDE_HALF_TOTALS if s.wide else HALF_TOTALS
    zero = f32x4.const(0.0)
    totals = [[f.let(zero) for _ in xs] for _ in w]
    products = _Products(f, s, tuning, w[:together], xs)
    with f.range(cells):
        turns = [range(g, min(g + together, len(w))) for g in range(0, len(w), together)]
        for turn, part in product(turns, range(len(_parts(form)))):
            quants = _parts(form)[part]
            products.use([w[g] for g in turn])
            if scratch is not None:
                products.store(part, quants, scratch)
                integers = [products.stored(part, scratch)]
            else:
                integers = products.sums(part, quants)
            for g, sums in zip(turn, integers, strict=True):
                scale = f.let(w[g].load(form.scales_at + 16 * part))
                for n, x in enumerate(xs):
                    factor = f32x4.mul(scale, f32x4.splat(f32.load(x, offset=scale_at)))
                    value = f32x4.convert_i32x4_s(sums[n])
                    totals[g][n].set(f32x4.relaxed_madd(value, factor, totals[g][n]))
                if form.offset:
                    offset = f.let(w[g].load(form.offsets_at + 16 * part))
                    sum_at = total_at if form.group == 32 else half_at + 4 * part
                    for n, x in enumerate(xs):
                        total = f32x4.splat(f32.load(x, offset=sum_at))
                        totals[g][n].set(f32x4.relaxed_madd(offset, total, totals[g][n]))
        for pointer in dict.fromkeys(strip.pointer for strip in w):
            pointer.set(pointer + 2 * form.cell_bytes)
        for x in xs:
            x.set(x + (WIDE_BYTES if s.wide else BLOCK_BYTES))
    return totals


def add_stored_tile(module: Module, name: str, s: Structure, tuning: Tuning) -> Function:
    """Add ``<name>(strip, cells, x, x_row, out, stride, scratch)``: four whole rows.

    By the Tuning's tokens. A function of its own has all registers for itself.
    """
    f = module.function(name, ["i32"] * 7, export=False)
    strip, cells, x, x_row, out, stride, scratch = f.parameters
    xs = [x]
    for _ in range(1, tuning.tokens):
        xs.append(f.let(xs[-1] + x_row))
    (sums,) = add_tile(f, s, tuning, [_Strip(strip, 0)], xs, cells, scratch)
    for total in sums:
        f.do(v128.store(out, total))
        out.set(out + stride)
    return f


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
        apart = dict.fromkeys(p.run for p in self._form.pieces if p.count < self._form.bits)
        self._rest = {run: [f.local("v128") for _ in w] for run in apart}
        """Quants that are pieced together meanwhile."""

    def use(self, w: list[_Strip]) -> None:
        """Take the products of other strips, as many as there were."""
        self._w = w

    def sums(self, part: int, runs: list[int]) -> list[list[Expr]]:
        """Return i32x4 per strip and token: sum over the runs' columns of (quant - zero) * x."""
        if self._shuffles:
            each = 2 if self._wide else 4
            for vectors, x in zip(self._vectors, self._xs, strict=True):
                for number in dict.fromkeys(run // each for run in runs):
                    vectors[number].set(v128.load(x, offset=16 * number))
        if self._form.quants == "byte":
            return self._signed(runs)
        if self._method == "relaxed16":
            return self._sixteen(part, runs)
        return self._thirty_two(part, runs)

    def store(self, part: int, runs: list[int], scratch: Local) -> None:
        """Store the only strip's sums, a vector for each token: before zero points, or in 16 bits.

        A token's sums are complete before the next one's begin, so that few vectors are needed.
        """
        f = self._f
        if self._method == "relaxed16":
            quads = [(run, f.let(four)) for run, (four,) in self._visits(runs)]
            for n, x in enumerate(self._xs):
                sums: list[Expr] = []
                for run, quad in quads:
                    four = v128.load32_splat(x, offset=4 * run)
                    sums.append(i16x8.relaxed_dot_i8x16_i7x16_s(four, quad))
                if _wraps(self._form):
                    minus = i16x8.const(-self._form.zero)
                    sums.insert(0, i16x8.mul(v128.load32_splat(x, offset=SUMS), minus))
                f.do(v128.store(scratch, _in_pairs(sums, i16x8.add), offset=16 * n))
            return
        for first in range(0, 2 * len(runs), 8):
            pairs = range(first, first + 8)
            weights = [f.let(self._w[0].widened(8 * pair, True)) for pair in pairs]
            for n, x in enumerate(self._xs):
                vectors = [f.let(v128.load(x, offset=4 * pair)) for pair in pairs[::4]]
                twos = [
                    f.let(shuffle32(vector, vector, (lane,) * 4))
                    for vector in vectors
                    for lane in range(4)
                ]
                products = [
                    i32x4.dot_i16x8_s(two, weight)
                    for two, weight in zip(twos, weights, strict=True)
                ]
                whole = _in_pairs(products, i32x4.add)
                if first:
                    whole = i32x4.add(whole, v128.load(scratch, offset=16 * n))
                f.do(v128.store(scratch, whole, offset=16 * n))

    def stored(self, part: int, scratch: Local) -> list[Expr]:
        """Return what ``store`` has stored, as ``sums`` does for the only strip."""
        found: list[Expr] = []
        for n, x in enumerate(self._xs):
            whole: Expr = v128.load(scratch, offset=16 * n)
            if self._method == "relaxed16":
                whole = i32x4.extadd_pairwise_i16x8_s(whole)
                if self._form.zero and not _wraps(self._form):
                    whole = i32x4.add(whole, self._correction(x, part))
            found.append(whole)
        return found

    def _visits(self, runs: list[int]) -> Iterator[tuple[int, list[Expr]]]:
        """Yield each run with the weights of every strip."""
        form = self._form
        due = [run for run in runs if run in self._rest]
        for vector in range(form.bits):
            pieces = [piece for piece in form.pieces if piece.vector == vector]
            if pieces[0].run not in runs:
                continue
            for quad, strip in zip(self._quads, self._w, strict=True):
                quad.set(strip.load(16 * vector))
            for piece in pieces:
                found = [_taken(quad, piece) for quad in self._quads]
                if piece.run not in self._rest:
                    yield piece.run, found
                    continue
                rest = self._rest[piece.run]
                for own, bits in zip(rest, found, strict=True):
                    own.set(v128.or_(own, bits) if piece.at else bits)
                if piece.run in due and piece.at + piece.count == form.bits:
                    due.remove(piece.run)
                    yield piece.run, list(rest)
        for run in due:  # complete since the part before
            yield run, list(self._rest[run])

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

    def _two_columns(self, n: int, pair: int) -> Expr:
        """Return token n's columns 2 pair, 2 pair + 1 in all lanes: two 16-bit numbers."""
        x = self._xs[n]
        if not self._wide:
            return i16x8.extend_low_i8x16_s(v128.load16_splat(x, offset=2 * pair))
        if not self._shuffles:
            return v128.load32_splat(x, offset=4 * pair)
        vector, lane = self._vectors[n][pair // 4], pair % 4
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
        fits, wraps = _fits(form, len(runs)), _wraps(form)
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

    def _signed(self, runs: list[int]) -> list[list[Expr]]:
        """Sum products of signed weights, two columns of four rows at a time."""
        for pair in range(2 * len(runs)):
            for quad, strip in zip(self._quads, self._w, strict=True):
                quad.set(strip.widened(8 * pair, True))
            for n, own in enumerate(self._x):
                own.set(self._two_columns(n, pair))
                for g, quad in enumerate(self._quads):
                    product = i32x4.dot_i16x8_s(own, quad)
                    total = self._sums[g][n][0]
                    total.set(i32x4.add(total, product) if pair else product)
        return [[total[0] for total in row] for row in self._sums]

    def _thirty_two(self, part: int, runs: list[int]) -> list[list[Expr]]:
        form = self._form
        relaxed = self._method == "relaxed32"
        direct = form.bits == 8 and not relaxed
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
                    self._low.set(self._w[g].widened(16 * run, form.signed))
                    self._high.set(self._w[g].widened(16 * run + 8, form.signed))
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
                    whole = _rows_of(*sums)
                if form.zero:
                    whole = i32x4.add(whole, self._correction(x, part))
                row.append(whole)
            results.append(row)
        return results


def _taken(quad: Local, piece: Piece) -> Expr:
    """Return a piece's bits of a vector where they belong in the quants."""
    if piece.count == 8:
        return quad
    return moved_bits(quad, piece.bit, piece.at, piece.count)


def _rows_of(low: Local, high: Local) -> Expr:
    """Return the sums of four rows, of which two lanes each are given."""
    even = shuffle32(low, high, (0, 2, 4, 6))
    return i32x4.add(even, shuffle32(low, high, (1, 3, 5, 7)))


def _in_pairs(values: Sequence[Expr], add: Callable[[Expr, Expr], Expr]) -> Expr:
    """Return the sum, added in pairs: integers, which do not mind, in fewer steps."""
    rest = list(values)
    while len(rest) > 1:
        rest = [
            add(*rest[n : n + 2]) if n + 1 < len(rest) else rest[n] for n in range(0, len(rest), 2)
        ]
    return rest[0]
