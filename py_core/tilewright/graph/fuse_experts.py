"""The fusions of mixtures of experts: gate and up of experts, the gate of a shared expert.

Passes of ``fuse.py``, apart because they start from ops that only such layers have.
"""

from __future__ import annotations

from dataclasses import replace

from .ops import Activate, ExpertLinear, GateRows, Linear, Op, Route, Value, Weight
from .rewrite import Rewriter
from .stacking import is_plain, names_of, stack, stackable


def stack_router(graph: Rewriter) -> tuple[Op, ...]:
    """Compute the router's logits and the shared expert's gate by one Linear."""
    replaced: dict[int, Op | None] = {}
    values: dict[Value, Value] = {}
    gates = {
        stackable(gate): gate
        for op in graph.ops
        if isinstance(op, GateRows) and (gate := graph.maker(op.gate, Linear)) is not None
    }
    for op in graph.ops:
        router = graph.maker(op.logits, Linear) if isinstance(op, Route) else None
        gate = None if router is None else gates.get(stackable(router))
        if router is None or gate is None or router is gate:
            continue
        pair = [router, gate]
        new, views = stack(pair)
        inner = all(is_plain(part) and part.out not in graph.kept for part in pair)
        if inner and graph.accept(new):
            replaced.update({id(part): None for part in pair})
            replaced[id(graph.first(pair))] = new
            values.update(views)
    return graph.apply(replaced, values)


def gate_rows(graph: Rewriter) -> tuple[Op, ...]:
    """Let the Linear before a GateRows multiply its rows by the gate."""
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, GateRows) or op.residual is not None:
            continue
        linear = graph.maker(op.x, Linear)
        if linear is not None and is_plain(linear) and graph.only_for(linear.out, op):
            new = replace(linear, out=op.out, row_gate=op.gate)
            if graph.accept(new):
                replaced[id(linear)] = None
                replaced[id(op)] = new
    return graph.apply(replaced)


def experts(graph: Rewriter) -> tuple[Op, ...]:
    """Make gate, up and activation of the chosen experts one ExpertLinear."""
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Activate):
            continue
        gate, up = graph.maker(op.x, ExpertLinear), graph.maker(op.up, ExpertLinear)
        if gate is None or gate.activation or gate.gated or not graph.only_for(gate.out, op):
            continue
        new = replace(gate, out=op.out, activation=op.activation)
        if op.up is not None:
            if up is None or not _expert_pair(gate, up) or not graph.only_for(up.out, op):
                continue
            weight = Weight(
                names_of((gate.weight, up.weight)),
                gate.weight.rows + up.weight.rows,
                gate.weight.columns,
                gate.weight.quant,
            )
            new = replace(new, weight=weight, gated=True, gate_then_up=True)
        if graph.accept(new):
            replaced[id(gate)] = None
            if up is not None:
                replaced[id(up)] = None
            replaced[id(op)] = new
    return graph.apply(replaced)


def _expert_pair(gate: ExpertLinear, up: ExpertLinear) -> bool:
    return (
        gate is not up
        and not up.activation
        and not up.gated
        and (up.x, up.experts, up.expert_rows) == (gate.x, gate.experts, gate.expert_rows)
        and up.weight.quant == gate.weight.quant
    )
