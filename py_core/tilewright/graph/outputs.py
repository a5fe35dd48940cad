"""Where a step's rows are narrowed to those whose logits are wanted (TakeOutputs).

Architecture files take them late, before the output norm. Everything after the last attention works
row by row, so a prompt's step may take them right after it and saves most of the last layer; and a
decode step, all of whose tokens are outputs, needs not take them at all.
"""

from __future__ import annotations

from dataclasses import replace

from .ops import (
    Activate,
    Add,
    AddRow,
    Attention,
    Combine,
    ExpertLinear,
    GateRows,
    Graph,
    Linear,
    Norm,
    Op,
    Route,
    Rows,
    Scale,
    TakeOutputs,
    Value,
)
from .rewrite import substituted

_ROW_WISE = (
    *(Activate, Add, AddRow, Combine, ExpertLinear, GateRows),
    *(Linear, Norm, Route, Scale),
)


def take_outputs_early(graph: Graph) -> Graph:
    """Return the graph with rows taken right after the last attention, if that is possible."""
    take = _only_take(graph)
    attentions = [i for i, op in enumerate(graph.ops) if isinstance(op, Attention)]
    if take is None or not attentions:
        return graph
    start, end = attentions[-1] + 1, graph.ops.index(take)
    tail = graph.ops[start:end]
    made = {value for op in tail for value in op.outputs()}
    kept = {value.storage for value in (graph.hidden, graph.pooled) if value is not None}
    if take.x not in made or made & kept or not all(isinstance(op, _ROW_WISE) for op in tail):
        return graph
    narrowed: dict[Value, Value] = {}
    takes: list[Op] = []
    for op in tail:
        for value in op.inputs():
            if value.storage not in made and value.storage not in narrowed:
                narrowed[value.storage] = _narrowed(value.storage)
                takes.append(TakeOutputs(value.storage, narrowed[value.storage]))
    narrowed.update({value: _narrowed(value) for value in made})
    narrowed[take.x] = take.out
    return replace(
        graph,
        ops=(
            *graph.ops[:start],
            *takes,
            *(substituted(op, narrowed) for op in tail),
            *graph.ops[end + 1 :],
        ),
    )


def take_no_outputs(graph: Graph) -> Graph:
    """Return the graph for steps all of whose tokens are outputs, in their order."""
    take = _only_take(graph)
    if take is None:
        return graph
    ops = (substituted(op, {take.out: take.x}) for op in graph.ops if op is not take)
    return replace(graph, ops=tuple(ops))


def _only_take(graph: Graph) -> TakeOutputs | None:
    takes = [op for op in graph.ops if isinstance(op, TakeOutputs)]
    return takes[0] if len(takes) == 1 and takes[0].x.base is None else None


def _narrowed(value: Value) -> Value:
    return Value(f"{value.name}.outputs", Rows.OUTPUTS, value.width, value.dtype)
