"""Turns a list of kernel calls into the functions of a step, shared among threads or not.

A call's operands are constants, counts of the step, or depend on the piece that a thread took:
``Moving`` addresses, ``START``, ``END`` and ``Count``, and ``Private`` scratch of the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from ..graph.ops import Rows
from .assembler import Expr, Function, Module, i32, select
from .pool import PIECES, Pool

Counts = Mapping[Rows, Expr]
Place = Literal["start", "end"]
START: Place = "start"
END: Place = "end"


@dataclass(frozen=True)
class Count:
    """How many rows the piece has, times a constant."""

    times: int = 1


COUNT = Count()


@dataclass(frozen=True)
class Moving:
    """An address that moves by ``step`` bytes from row to row."""

    base: int
    step: int


@dataclass(frozen=True)
class Private:
    """Scratch that every thread has for itself."""

    base: int
    each: int


@dataclass(frozen=True)
class Split:
    """What a call may be cut along: so many rows, in pieces of ``unit``."""

    total: int | Rows
    unit: int
    times: int = 1
    """Parts of each of the step's rows, where these are cut; they count as rows here."""

    def rows(self, counts: Counts) -> Expr:
        """Return the number of all rows."""
        every = _total(self.total, counts)
        return every if self.times == 1 else every * self.times

    def units(self, counts: Counts) -> Expr | int:
        """Return the number of pieces."""
        if isinstance(self.total, Rows):
            return (self.rows(counts) + (self.unit - 1)) // self.unit
        return -(-self.total // self.unit)


def row_split(rows: int, columns: int, work: int, multiple: int) -> Split:
    """Cut a matrix into runs of ``multiple`` rows with at least ``work`` products each."""
    least = max(multiple, -(-work // columns), -(-rows // PIECES))
    return Split(rows, -(-least // multiple) * multiple)


@dataclass(frozen=True)
class Call:
    """A kernel and its operands; without ``split`` thread 0 calls it once, for all ``rows``."""

    kernel: Function
    values: tuple[Any, ...]
    rows: int | Rows = 0
    split: Split | None = None
    apart: bool = False
    """Whether each of the step's rows is computed from what the same row has left, and from nothing
    that other rows leave in this step: calls in a row of which that is true need no waiting between
    them where several rows are shared among threads."""


class Steps:
    """The functions of one module's families."""

    def __init__(self, module: Module, pool: Pool | None) -> None:
        self._module = module
        self._pool = pool
        self._runs: list[Function] = []
        self._begin = None if pool is None else pool.add_begin()
        self._end = None if pool is None else pool.add_end()

    def add(self, name: str, calls: Sequence[Call]) -> Function:
        """Add ``step_<name>(tokens, outputs, sequences)``; with a pool it gives ``late()``."""
        if self._pool is None or self._begin is None or self._end is None:
            f = self._module.function(f"step_{name}", ["i32"] * 3)
            counts = _counts(f.parameters)
            for call in calls:
                _whole(f, call, counts, i32.const(0))
            return f
        run = self._module.function(f"run_{name}", ["i32"] * 5, export=False)
        numbered = _Walk(run, self._pool).walk(calls)
        f = self._module.function(f"step_{name}", ["i32"] * 3, "i32")
        first = f.call(self._begin, len(self._runs), *f.parameters)
        f.do(f.call(run, *f.parameters, first, 0), f.call(self._end, numbered))
        f.result(self._pool.late())
        self._runs.append(run)
        return f

    def finish(self) -> None:
        """Add ``work``, ``rest`` and ``quit``; after the last family."""
        if self._pool is None or self._begin is None:
            return
        self._pool.add_work(self._runs)
        rest = self._pool.add_rest()
        f = self._module.function("quit")
        f.do(f.call(self._begin, -1, 0, 0, 0), f.call(rest, 0))


def _counts(parameters: Sequence[Expr]) -> Counts:
    return dict(zip((Rows.TOKENS, Rows.OUTPUTS, Rows.SEQUENCES), parameters, strict=True))


def _total(rows: int | Rows, counts: Counts) -> Expr:
    return counts[rows] if isinstance(rows, Rows) else i32.const(rows)


def _whole(f: Function, call: Call, counts: Counts, worker: Expr) -> None:
    total = call.split.rows(counts) if call.split else _total(call.rows, counts)
    _emit(f, call, counts, worker, i32.const(0), total, total)


def _emit(
    f: Function, call: Call, counts: Counts, worker: Expr, start: Expr, count: Expr, end: Expr
) -> None:
    # A loop over every row begins at 0: its addresses are the bases.
    zero = start.code == i32.const(0).code
    given: list[Any] = []
    for value in call.values:
        if isinstance(value, str):
            given.append(start if value == START else end)
        elif isinstance(value, Count):
            given.append(count if value.times == 1 else count * value.times)
        elif isinstance(value, Moving):
            still = zero or value.step == 0
            given.append(value.base if still else start * value.step + value.base)
        elif isinstance(value, Private):
            given.append(worker * value.each + value.base)
        else:
            given.append(value(counts) if callable(value) else value)
    f.do(f.call(call.kernel, *given))


class _Walk:
    """The body of one family's ``run(tokens, outputs, sequences, first call, thread)``."""

    def __init__(self, f: Function, pool: Pool) -> None:
        self._f = f
        self._pool = pool
        *counts, self._first, self._thread = f.parameters
        self._counts = _counts(counts)
        self._piece, self._start, self._size = (f.local("i32") for _ in range(3))
        self._units = f.local("i32")
        self._number = 0
        """Of the last shared call."""
        self._alone: list[Callable[[], None]] = []
        """What only thread 0 does, until the next shared call."""

    def walk(self, calls: Sequence[Call]) -> int:
        """Append all calls; return how many are numbered."""
        for (rows, apart), group in groupby(calls, lambda call: (call.rows, call.apart)):
            if apart and isinstance(rows, Rows):
                self._chain(list(group), rows)
            else:
                self._one_by_one(group)
        self._flush()
        return self._number

    def _chain(self, calls: Sequence[Call], rows: Rows) -> None:
        """Append calls that keep rows apart: where there are several, a row's go together."""
        self._flush()
        with self._f.if_(self._counts[rows] > 1):
            self._shared(calls, Split(rows, 1), self._counts[rows])
            self._flush()
        with self._f.else_():
            self._one_by_one(calls)
            self._flush()

    def _one_by_one(self, calls: Iterable[Call]) -> None:
        for call in calls:
            units = 1 if call.split is None else call.split.units(self._counts)
            if call.split is None or (isinstance(units, int) and units < 2):
                self._alone.append(lambda call=call: self._single(call))  # type: ignore[misc]
                continue
            if isinstance(units, int):
                self._shared([call], call.split, i32.const(units))
                continue
            self._flush()
            self._units.set(units)
            with self._f.if_(self._units > 1):
                self._shared([call], call.split, self._units)
                self._flush()
            with self._f.else_():
                self._alone.append(lambda call=call: self._single(call))  # type: ignore[misc]
                self._flush()

    def _single(self, call: Call) -> None:
        _whole(self._f, call, self._counts, i32.const(0))

    def _flush(self) -> None:
        """Let thread 0 do what has come together."""
        if not self._alone:
            return
        with self._f.if_(self._thread.equals(0)):
            for emit in self._alone:
                emit()
        self._alone.clear()

    def _shared(self, calls: Sequence[Call], split: Split, units: Expr) -> None:
        f, pool = self._f, self._pool
        self._number += 1
        mine = (self._first + self._number) & 0xFFFFF
        self._alone.append(lambda: f.do(f.call(pool.open, mine)))
        self._flush()
        take = f.call(pool.take, mine, units)
        self._piece.set(take)
        with f.while_(lambda: self._piece >= 0):
            self._run_piece(calls, split)
            f.do(f.call(pool.finish, self._piece >> 12))
            self._piece.set(take)
        self._alone.append(lambda: f.do(f.call(pool.join, units)))

    def _run_piece(self, calls: Sequence[Call], split: Split) -> None:
        start, size = self._start, self._size
        start.set((self._piece & PIECES) * split.unit)
        size.set((self._piece >> 12) * split.unit)
        left = split.rows(self._counts) - start
        size.set(select(size < left, size, left))
        for call in calls:
            parts = call.split.times // split.times if call.split else 1
            place = [value * parts if parts > 1 else value for value in (start, size, start + size)]
            _emit(self._f, call, self._counts, self._thread, *place)


def of(rows: Rows) -> Callable[[Counts], Expr]:
    """Return the operand that is a count of the step."""
    return lambda counts: counts[rows]
