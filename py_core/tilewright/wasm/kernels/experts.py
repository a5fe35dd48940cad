"""Mixture of experts: choosing experts per token, rows of packed tables, and experts' matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from ..assembler import Expr, Function, Module, f32, i32
from .lanes import LOWEST, exp_scalar
from .packing import CELL_COLUMNS, RUNS, Packing


@dataclass(frozen=True)
class RouteStructure:
    """See ``graph.ops.Route``."""

    experts: int
    used: int
    gating: str
    normalise: bool
    scale: float


def add_route(module: Module, name: str, s: RouteStructure) -> Function:
    """Add ``<name>(logits, stride, tokens, experts, stride, weights, stride, scratch)``.

    Scratch takes the row's logits, from which chosen ones are struck out.
    """
    f = module.function(name, ["i32"] * 8)
    logits, stride, tokens, chosen, chosen_stride, weights, weights_stride, scratch = f.parameters
    top, total, best = f.local("f32"), f.local("f32"), f.local("f32")
    place = f.local("i32")
    with f.range(tokens):
        top.set(LOWEST)
        with f.range(4 * s.experts, step=4) as at:
            value = f.let(f32.load(logits + at))
            f.do(f32.store(scratch + at, value))
            top.set(f32.max(top, value))
        total.set(0.0)
        if s.gating == "softmax":
            with f.range(4 * s.experts, step=4) as at:
                total.set(total + exp_scalar(f, f32.load(logits + at) - top))
        with f.range(4 * s.used, step=4) as slot:
            best.set(f32.const(float("-inf")))
            place.set(0)
            with f.range(4 * s.experts, step=4) as at:
                value = f.let(f32.load(scratch + at))
                with f.if_(value > best):
                    best.set(value)
                    place.set(at)
            f.do(
                f32.store(scratch + place, float("-inf")),
                i32.store(chosen + slot, place >> 2),
            )
            if s.gating == "sigmoid":
                score = f32.const(1.0) / (f32.const(1.0) + exp_scalar(f, f32.neg(best)))
            else:
                score = exp_scalar(f, best - top)
                if s.gating == "softmax":
                    score = score / total
            f.do(f32.store(weights + slot, score))
        if s.gating == "softmax_after_top" or s.normalise:
            total.set(0.0)
            with f.range(4 * s.used, step=4) as slot:
                total.set(total + f32.load(weights + slot))
            if s.gating != "softmax_after_top":
                # The floor is llama.cpp's: the smallest normal half-precision number.
                total.set(f32.max(total, f32.const(2.0**-14)))
            with f.range(4 * s.used, step=4) as slot:
                f.do(f32.store(weights + slot, f32.load(weights + slot) / total))
        if s.scale != 1.0:
            with f.range(4 * s.used, step=4) as slot:
                f.do(f32.store(weights + slot, f32.load(weights + slot) * s.scale))
        logits.set(logits + stride)
        chosen.set(chosen + chosen_stride)
        weights.set(weights + weights_stride)
    return f


def add_experts(module: Module, linear: Function, *, listed: bool = False) -> Function:
    """Add ``experts_<linear>``: a linear map per token and chosen expert.

    Parameters: weights, bytes of an expert, count of experts, cells, rows, x, bytes of a token's x,
    bytes from one chosen expert's x to the next (0: shared), tokens, chosen, stride, used, out,
    bytes from one chosen expert's output to the next.

    ``listed``: experts do not lie one behind the other. The second parameter is the address of a
    table of their addresses, u32[experts], and the first one is added to what is found there.
    """
    f = module.function(f"{'listed' if listed else 'experts'}_{linear.name}", ["i32"] * 14)
    weights, size, count, cells, rows, x, x_token, x_used = f.parameters[:8]
    tokens, chosen, chosen_stride, used, out, out_used = f.parameters[8:]
    with f.range(tokens):
        source = f.let(x)
        with f.range(used) as slot:
            expert = f.let(i32.load(chosen + (slot << 2)))
            with f.if_(i32.ge_u(expert, count)):
                expert.set(0)
            place = i32.load(size + (expert << 2)) if listed else expert * size
            f.do(f.call(linear, weights + place, cells, rows, source, 0, 1, out, 0, 0))
            source.set(source + x_used)
            out.set(out + out_used)
        x.set(x + x_token)
        chosen.set(chosen + chosen_stride)
    return f


def add_embed(module: Module, name: str, form: Packing) -> Function:
    """Add ``<name>(table, cells, indices, rows, out, stride, scale, most)``: rows of a table.

    An index that is not below ``most`` reads row 0.
    """
    f = module.function(name, ["i32"] * 6 + ["f32", "i32"])
    table, cells, indices, rows, out, stride, scale, most = f.parameters
    with f.range(rows) as i:
        row = f.let(i32.load(indices + (i << 2)))
        with f.if_(i32.ge_u(row, most)):
            row.set(0)
        lane = f.let((row & 3) << 2)
        pair = table + (row >> 3) * cells * (2 * form.cell_bytes)
        cell = f.let(pair + ((row >> 2) & 1) * form.cell_bytes + lane)
        target = f.let(out)
        with f.range(cells):
            for run in range(RUNS):
                part = 16 * (4 * run // form.group)
                factor = f.let(f32.load(cell, offset=form.scales_at + part))
                with f.range(4) as column:
                    value = f32.convert_i32_s(_quant(cell, lane, column, form, run)) * factor
                    if form.offset:
                        value = value + f32.load(cell, offset=form.offsets_at + part)
                    f.do(f32.store(target + (column << 2), value * scale, offset=16 * run))
            cell.set(cell + 2 * form.cell_bytes)
            target.set(target + 4 * CELL_COLUMNS)
        out.set(out + stride)
    return f


def _quant(cell: Expr, lane: Expr, column: Expr, form: Packing, run: int) -> Expr:
    """Return a quant of a run, less its zero point; ``lane``: how far the row moved ``cell``."""
    if form.quants == "byte":
        at = cell - (lane >> 1) + (column & 1) + ((column & 2) << 2)
        return i32.load8_s(at, offset=16 * run)
    if form.signed:
        return i32.load8_s(cell + column, offset=16 * run)
    parts = [
        (
            (i32.load8_u(cell + column, offset=16 * piece.vector) >> piece.bit)
            & ((1 << piece.count) - 1)
        )
        << piece.at
        for piece in form.pieces
        if piece.run == run
    ]
    return reduce(or_, parts) - form.zero
