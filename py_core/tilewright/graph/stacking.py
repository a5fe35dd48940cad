"""Stacking: several Linears of one input as one, their weights on top of each other.

Weights are stacked only where formats agree and all have a bias or none has; nothing is copied
here, a ``Weight`` just names several tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

from .ops import Linear, Value, Weight


def stacked(linears: Iterable[Linear]) -> tuple[Weight, Weight | None]:
    """Return the weights on top of each other, and the biases one after the other."""
    members = list(linears)
    weights = [linear.weight for linear in members]
    biases = [linear.bias for linear in members if linear.bias is not None]
    bias = None
    if biases:
        bias = Weight(names_of(biases), 1, sum(part.columns for part in biases), biases[0].quant)
    rows = sum(part.rows for part in weights)
    return Weight(names_of(weights), rows, weights[0].columns, weights[0].quant), bias


def names_of(weights: Iterable[Weight]) -> tuple[str, ...]:
    """Return the tensors of all weights in order."""
    return tuple(name for weight in weights for name in weight.tensors)


def stackable(linear: Linear) -> tuple[object, ...]:
    """Return what has to agree for weights to be stacked."""
    bias = None if linear.bias is None else linear.bias.quant
    return (linear.x, linear.weight.quant, bias)


def is_plain(linear: Linear) -> bool:
    """Whether nothing has been folded into the Linear yet."""
    return (
        linear.norm is None
        and linear.delta is None
        and linear.activation is None
        and not linear.gated
        and linear.residual is None
        and linear.row_gate is None
        and linear.scale == 1.0
        and linear.softcap == 0.0
    )


def stack(linears: list[Linear]) -> tuple[Linear, dict[Value, Value]]:
    """Return one Linear for several, and the views that stand for their outputs."""
    first = linears[0]
    weight, bias = stacked(linears)
    out = Value(f"{weight.name}.out", first.out.rows, weight.rows)
    views, start = {}, 0
    for linear in linears:
        views[linear.out] = out.view(start, linear.out.width)
        start += linear.out.width
    return Linear(first.x, weight, out, bias), views
