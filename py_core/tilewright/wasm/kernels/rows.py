"""Kernels that map rows to rows: element by element, norms, and taking rows.

``Map`` is every element-wise op: vectors read at the same column from several streams, and scalars
of the row. Its function is ``<name>(count, rows, [pointer, stride] per vector, ... per scalar,
out, stride)``; strides in bytes, 0 for a row that all tokens share. All sizes are run-time values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..assembler import Expr, Function, Local, Module, f32, f32x4, i32, memory_copy, v128
from .lanes import activate, sigmoid, softcap, store_some, sum_lanes

Body = Callable[[Function, Sequence[Expr], Sequence[Expr]], Expr]
"""(function, vectors, scalars as f32x4) -> f32x4."""


def add_map(module: Module, name: str, vectors: int, scalars: int, body: Body) -> Function:
    """Add an element-wise kernel."""
    f = module.function(name, ["i32"] * (2 + 2 * (vectors + scalars + 1)))
    count, rows, *streams = f.parameters
    pointers, strides = streams[0::2], streams[1::2]
    with f.range(rows):
        factors = [f.let(v128.load32_splat(p)) for p in pointers[vectors:-1]]
        with f.range(count, step=4) as column:
            at = f.let(column << 2)
            values = [f.let(v128.load(p + at)) for p in pointers[:vectors]]
            result = f.let(body(f, values, factors))
            store_some(f, pointers[-1] + at, 0, result, count - column)
        for pointer, stride in zip(pointers, strides, strict=True):
            pointer.set(pointer + stride)
    return f


@dataclass(frozen=True)
class Epilogue:
    """What a linear map does with its products: y, [up], [bias, [bias of up]], [residual]."""

    bias: bool = False
    activation: str | None = None
    gated: bool = False
    scale: float = 1.0
    residual: bool = False
    softcap: float = 0.0

    @property
    def nothing(self) -> bool:
        """Whether the products are the result."""
        return self == Epilogue()

    @property
    def vectors(self) -> int:
        """How many streams it reads."""
        return (1 + self.gated) * (1 + self.bias) + self.residual

    def body(self, f: Function, vectors: Sequence[Expr], scalars: Sequence[Expr]) -> Expr:
        """Emit it."""
        streams = iter(vectors)
        y = [next(streams) for _ in range(1 + self.gated)]
        if self.bias:
            y = [f.let(f32x4.add(value, next(streams))) for value in y]
        result = activate(f, self.activation, y[0])
        if self.gated:
            result = f32x4.mul(result, y[1])
        if self.scale != 1.0:
            result = f32x4.mul(result, f32x4.const(self.scale))
        if self.residual:
            result = f32x4.add(result, next(streams))
        return softcap(f, self.softcap, f.let(result)) if self.softcap else result


def weighted(count: int, residual: bool) -> Body:
    """Return the body of a sum of ``count`` vectors by as many scalars (experts' outputs)."""

    def body(f: Function, vectors: Sequence[Expr], scalars: Sequence[Expr]) -> Expr:
        total = f32x4.mul(vectors[0], scalars[0])
        for vector, scalar in zip(vectors[1:count], scalars[1:], strict=True):
            total = f32x4.relaxed_madd(vector, scalar, total)
        return f32x4.add(total, vectors[count]) if residual else total

    return body


def gated_rows(residual: bool) -> Body:
    """Return the body of x * sigmoid(scalar of the row) (+ residual)."""

    def body(f: Function, vectors: Sequence[Expr], scalars: Sequence[Expr]) -> Expr:
        y = f32x4.mul(vectors[0], sigmoid(f, scalars[0]))
        return f32x4.add(y, vectors[1]) if residual else y

    return body


def scaled_sum(factor: float) -> Body:
    """Return the body of x + factor * y."""

    def body(f: Function, vectors: Sequence[Expr], scalars: Sequence[Expr]) -> Expr:
        y = vectors[1]
        return f32x4.add(vectors[0], y if factor == 1.0 else f32x4.mul(y, f32x4.const(factor)))

    return body


@dataclass(frozen=True)
class NormStructure:
    """What a norm computes; see ``graph.ops.NormSpec``."""

    group: int
    epsilon: float
    center: bool = False
    weight: int = 0
    """Elements of the weight, 0: none."""
    bias: int = 0
    offset: float = 0.0
    residual: bool = False


def add_norm(module: Module, name: str, s: NormStructure) -> Function:
    """Add ``<name>(x, stride, rows, groups, out, stride, weight, bias, residual, stride)``."""
    f = module.function(name, ["i32"] * 10)
    x, x_stride, rows, groups, out, out_stride, weight, bias, residual, r_stride = f.parameters
    step = 4 if s.group % 4 == 0 else 1
    width = 4 * s.group

    def load(at: Expr) -> Expr:
        return v128.load(at) if step == 4 else v128.load32_zero(at)

    mean, inverse = f.local("v128"), f.local("v128")
    with f.range(rows):
        with f.range(groups) as group:
            start = f.let(group * width)
            total = f.let(f32x4.const(0.0))
            if s.center:
                with f.range(width, step=4 * step) as at:
                    total.set(f32x4.add(total, load(x + start + at)))
                mean.set(f32x4.splat(sum_lanes(total, step) / float(s.group)))
                total.set(f32x4.const(0.0))
            with f.range(width, step=4 * step) as at:
                value = f.let(load(x + start + at))
                if s.center:
                    value.set(f32x4.sub(value, mean))
                total.set(f32x4.relaxed_madd(value, value, total))
            variance = sum_lanes(total, step) / float(s.group) + s.epsilon
            inverse.set(f32x4.splat(f32.const(1.0) / f32.sqrt(variance)))
            with f.range(width, step=4 * step) as at:
                value = f.let(load(x + start + at))
                if s.center:
                    value.set(f32x4.sub(value, mean))
                value.set(f32x4.mul(value, inverse))
                if s.weight:
                    factor = load(weight + (at if s.weight == s.group else start + at))
                    if s.offset:
                        factor = f32x4.add(factor, f32x4.const(s.offset))
                    value.set(f32x4.mul(value, factor))
                if s.bias:
                    more = load(bias + (at if s.bias == s.group else start + at))
                    value.set(f32x4.add(value, more))
                if s.residual:
                    value.set(f32x4.add(value, load(residual + start + at)))
                _store(f, out + start + at, value, step)
        for pointer, stride in ((x, x_stride), (out, out_stride), (residual, r_stride)):
            pointer.set(pointer + stride)
    return f


def _store(f: Function, at: Expr, value: Local, step: int) -> None:
    if step == 4:
        f.do(v128.store(at, value))
    else:
        f.do(f32.store(at, f32x4.extract_lane(value, 0)))


def add_take(module: Module) -> Function:
    """Add ``take(x, stride, indices, rows, nbytes, out, stride)``: rows by their number."""
    f = module.function("take", ["i32"] * 7)
    x, x_stride, indices, rows, nbytes, out, stride = f.parameters
    with f.range(rows) as row:
        index = i32.load(indices + (row << 2))
        f.do(memory_copy(out + row * stride, x + index * x_stride, nbytes))
    return f


def add_pool(module: Module, kind: str, normalise: bool) -> Function:
    """Add ``pool_<kind>(x, stride, slots, tokens, count, out, stride)``: a row per run of slots."""
    f = module.function(f"pool_{kind}_{int(normalise)}", ["i32"] * 7)
    x, x_stride, slots, tokens, count, out, stride = f.parameters
    token = f.local("i32")
    first = f.local("i32")
    with f.while_(lambda: token < tokens):
        first.set(token)
        slot = f.let(i32.load(slots + (token << 2)))
        # One past the end is compared too: the step's inputs have a spare word that matches none.
        same = (token < tokens) & i32.load(slots + (token << 2)).equals(slot)
        with f.while_(lambda same=same: same):  # type: ignore[misc]
            token.set(token + 1)
        begin = first if kind in ("mean", "cls") else token - 1
        end = first + 1 if kind == "cls" else token
        rows = f.let(end - begin)
        source = f.let(x + begin * x_stride)
        squares = f.let(f32x4.const(0.0))
        with f.range(count) as column:
            at = f.let(column << 2)
            total = f.let(f32.const(0.0))
            with f.range(rows) as row:
                total.set(total + f32.load(source + at + row * x_stride))
            total.set(total / f32.convert_i32_s(rows))
            value = f32x4.splat(total)
            squares.set(f32x4.relaxed_madd(value, value, squares))
            f.do(f32.store(out + at, total))
        if normalise:
            length = f.let(f32.sqrt(f32x4.extract_lane(squares, 0)))
            with f.if_(length > 0.0), f.range(count) as column:
                at = f.let(out + (column << 2))
                f.do(f32.store(at, f32.load(at) / length))
        out.set(out + stride)
    return f
