"""Fusion: the plain graph of an architecture file -> fewer ops that compute the same.

Each pass is a pattern on neighbouring ops, switched by a flag of ``FusionPlan`` because the tuner
chooses among plans. No pass changes results beyond rounding. With all of them a pre-norm dense
decoder layer is six ops: norm+QKV, QkvPrepare, Attention, output+residual, norm+gate+up+activation,
down+residual. Knows ops only: nothing of devices or of architectures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .ops import (
    Activate,
    Add,
    Attention,
    Combine,
    ExpertLinear,
    GateRows,
    Graph,
    KvWrite,
    Linear,
    Norm,
    Op,
    QkvPrepare,
    Rope,
    Route,
    Value,
    Weight,
)
from .rewrite import Rewriter


@dataclass(frozen=True)
class FusionPlan:
    """Which fusions to make."""

    stack: bool = True
    """Weights of q, k, v in one Linear, and those of gate and up."""
    activation: bool = True
    """Activation and gate into the Linear (gate and up only with ``stack``)."""
    experts: bool = True
    """Gate, up and activation of experts into one ExpertLinear."""
    residual: bool = True
    """Residual sums into Linear, Norm, Combine and GateRows."""
    norm: bool = True
    """Norms into the Linears that read them."""
    prepare: bool = True
    """Head norms, rotation and cache write of a layer into QkvPrepare."""


def fuse(graph: Graph, plan: FusionPlan | None = None) -> Graph:
    """Return the graph with the fusions of ``plan`` (default: all) made."""
    plan = plan or FusionPlan()
    passes = (
        (plan.stack, _stack_qkv),
        (plan.stack and plan.activation, _gate_and_up),
        (plan.stack and not plan.activation, _stack_gate_and_up),
        (plan.activation, _activation),
        (plan.experts, _experts),
        (plan.residual, _residual),
        (plan.norm, _norm),
        (plan.prepare, _prepare),
    )
    ops: tuple[Op, ...] = graph.ops
    for wanted, rewrite in passes:
        if wanted:
            ops = rewrite(Rewriter(graph, ops))
    return replace(graph, ops=ops)


def _stacked(linears: Iterable[Linear]) -> tuple[Weight, Weight | None]:
    """Return the weights on top of each other, and the biases one after the other."""
    members = list(linears)
    weights = [linear.weight for linear in members]
    biases = [linear.bias for linear in members if linear.bias is not None]
    bias = None
    if biases:
        bias = Weight(_names(biases), 1, sum(part.columns for part in biases), biases[0].quant)
    rows = sum(part.rows for part in weights)
    return Weight(_names(weights), rows, weights[0].columns, weights[0].quant), bias


def _names(weights: Iterable[Weight]) -> tuple[str, ...]:
    return tuple(name for weight in weights for name in weight.tensors)


def _stackable(linear: Linear) -> tuple[object, ...]:
    """Return what has to agree for weights to be stacked."""
    bias = None if linear.bias is None else linear.bias.quant
    return (linear.x, linear.weight.quant, bias)


def _plain(linear: Linear) -> bool:
    return (
        linear.norm is None
        and linear.activation is None
        and not linear.gated
        and linear.residual is None
        and linear.scale == 1.0
        and linear.softcap == 0.0
    )


def _stack(linears: list[Linear]) -> tuple[Linear, dict[Value, Value]]:
    """Return one Linear for several, and the views that stand for their outputs."""
    first = linears[0]
    weight, bias = _stacked(linears)
    out = Value(f"{weight.name}.out", first.out.rows, weight.rows)
    views, start = {}, 0
    for linear in linears:
        views[linear.out] = out.view(start, linear.out.width)
        start += linear.out.width
    return Linear(first.x, weight, out, bias), views


def _stack_qkv(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    values: dict[Value, Value] = {}
    for write, attention in _layers(graph):
        sources = [
            graph.maker(_source(graph, value), Linear)
            for value in (attention.q, write.key, write.value)
        ]
        linears = [
            source
            for source in sources
            if source is not None and _plain(source) and source.out not in graph.kept
        ]
        groups: dict[tuple[object, ...], list[Linear]] = {}
        for linear in linears:
            groups.setdefault(_stackable(linear), []).append(linear)
        for group in groups.values():
            if len(group) > 1:
                first = graph.first(group)
                replaced.update({id(linear): None for linear in group})
                replaced[id(first)], views = _stack(group)
                values.update(views)
    return graph.apply(replaced, values)


def _layers(graph: Rewriter) -> list[tuple[KvWrite, Attention]]:
    writes = {op.layer: op for op in graph.ops if isinstance(op, KvWrite)}
    attentions = [op for op in graph.ops if isinstance(op, Attention)]
    return [(writes[op.layer], op) for op in attentions if op.layer in writes]


def _source(graph: Rewriter, value: Value) -> Value:
    """Return what a query or key was before rotation and norm."""
    rope = graph.maker(value, Rope)
    value = rope.x if rope is not None else value
    norm = graph.maker(value, Norm)
    return norm.x if norm is not None else value


def _pairs(graph: Rewriter) -> list[tuple[Activate, Linear, Linear]]:
    """Return gated activations whose gate and up come from two Linears that can be stacked."""
    found = []
    for op in graph.ops:
        if not isinstance(op, Activate):
            continue
        gate, up = graph.maker(op.x, Linear), graph.maker(op.up, Linear)
        if (
            gate is not None
            and up is not None
            and gate is not up
            and _stackable(gate) == _stackable(up)
            and all(_plain(part) and graph.only_for(part.out, op) for part in (gate, up))
        ):
            found.append((op, gate, up))
    return found


def _gate_and_up(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for activate, gate, up in _pairs(graph):
        weight, bias = _stacked((gate, up))
        replaced[id(gate)] = replaced[id(up)] = None
        replaced[id(activate)] = Linear(
            gate.x, weight, activate.out, bias, activation=activate.activation, gated=True
        )
    for op in graph.ops:
        if not isinstance(op, Activate) or op.up is None or id(op) in replaced:
            continue
        both = graph.maker(op.x.storage, Linear)
        halves = (op.x.base, op.up.base, op.x.start, op.up.start)
        if (
            both is not None
            and _plain(both)
            and halves == (both.out, both.out, 0, op.x.width)
            and both.out.width == 2 * op.x.width
            and graph.only_for(both.out, op)
        ):
            replaced[id(both)] = None
            replaced[id(op)] = replace(both, out=op.out, activation=op.activation, gated=True)
    return graph.apply(replaced)


def _stack_gate_and_up(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    values: dict[Value, Value] = {}
    for _, gate, up in _pairs(graph):
        first = graph.first((gate, up))
        replaced[id(gate)] = replaced[id(up)] = None
        replaced[id(first)], views = _stack([gate, up])
        values.update(views)
    return graph.apply(replaced, values)


def _activation(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Activate) or op.up is not None:
            continue
        linear = graph.maker(op.x, Linear)
        if linear is not None and _plain(linear) and graph.only_for(linear.out, op):
            replaced[id(linear)] = None
            replaced[id(op)] = replace(linear, out=op.out, activation=op.activation)
    return graph.apply(replaced)


def _experts(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Activate):
            continue
        gate, up = graph.maker(op.x, ExpertLinear), graph.maker(op.up, ExpertLinear)
        if gate is None or gate.activation or gate.gated or not graph.only_for(gate.out, op):
            continue
        if op.up is None:
            replaced[id(gate)] = None
            replaced[id(op)] = replace(gate, out=op.out, activation=op.activation)
        elif (
            up is not None
            and not up.activation
            and (up.x, up.experts, up.expert_rows) == (gate.x, gate.experts, gate.expert_rows)
            and up.weight.quant == gate.weight.quant
            and graph.only_for(up.out, op)
        ):
            weight = Weight(
                _names((gate.weight, up.weight)),
                gate.weight.rows + up.weight.rows,
                gate.weight.columns,
                gate.weight.quant,
            )
            replaced[id(gate)] = replaced[id(up)] = None
            replaced[id(op)] = replace(
                gate,
                weight=weight,
                out=op.out,
                activation=op.activation,
                gated=True,
                gate_then_up=True,
            )
    return graph.apply(replaced)


def _residual(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Add):
            continue
        sides = [(op.y, op.x)] if op.scale != 1.0 else [(op.y, op.x), (op.x, op.y)]
        for term, residual in sides:
            old = _maker_without_residual(graph, term)
            if old is None or id(old) in replaced or not graph.only_for(term, op):
                continue
            if term is residual or not _scalable(graph, old, op.scale):
                continue
            if isinstance(old, Linear):
                new: Op = replace(old, out=op.out, residual=residual, scale=old.scale * op.scale)
            else:
                new = replace(old, out=op.out, residual=residual)
            if isinstance(old, Combine) and op.scale != 1.0:
                route = graph.maker(old.weights_of, Route)
                assert route is not None
                replaced[id(route)] = replace(route, scale=route.scale * op.scale)
            replaced[id(old)] = None
            replaced[id(op)] = new
            break
    return graph.apply(replaced)


def _maker_without_residual(
    graph: Rewriter, value: Value
) -> Linear | Norm | Combine | GateRows | None:
    """Return the op that makes ``value`` if a residual can still be added in it."""
    op = graph.maker(value, Op)
    if not isinstance(op, (Linear, Norm, Combine, GateRows)) or op.residual is not None:
        return None
    if isinstance(op, Linear) and (op.activation or op.gated or op.softcap):
        return None
    return op


def _scalable(graph: Rewriter, op: Op, factor: float) -> bool:
    """Whether ``op`` can multiply its result by ``factor``."""
    if factor == 1.0 or isinstance(op, Linear):
        return True
    if isinstance(op, Combine):
        route = graph.maker(op.weights_of, Route)
        return route is not None and graph.only_for(op.weights_of, op)
    return False


def _norm(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Norm) or op.residual is not None or op.out in graph.kept:
            continue
        readers = [reader for reader in graph.readers(op.out) if isinstance(reader, Linear)]
        if (
            op.norm.group == op.x.width
            and readers
            and len(readers) == len(graph.readers(op.out))
            and all(r.x is op.out and r.norm is None for r in readers)
            and all(r.residual is None or r.residual.storage is not op.out for r in readers)
        ):
            replaced[id(op)] = None
            for reader in readers:
                replaced[id(reader)] = replace(reader, x=op.x, norm=op.norm)
    return graph.apply(replaced)


def _prepare(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for write, attention in _layers(graph):
        q, k = _Side(graph, attention.q, attention), _Side(graph, write.key, write)
        q_rope, k_rope = q.rope(), k.rope()
        q_table, k_table = (None if r is None else r.table for r in (q_rope, k_rope))
        if q_table != k_table:
            continue
        q_norm, k_norm = q.norm(attention.head_size), k.norm(attention.head_size)
        if q_rope is None and q_norm is None and k_norm is None:
            continue
        for step in (q_rope, k_rope, q_norm, k_norm):
            if step is not None:
                replaced[id(step)] = None
        new_q = attention.q
        if q_rope is None and q_norm is None:
            new_q = Value(f"{attention.out.name}.q", attention.q.rows, attention.q.width)
            replaced[id(attention)] = replace(attention, q=new_q)
        replaced[id(write)] = QkvPrepare(
            q.value,
            k.value,
            write.value,
            new_q,
            write.layer,
            attention.heads,
            attention.kv_heads,
            attention.head_size,
            q_table,
            None if q_norm is None else q_norm.norm,
            None if k_norm is None else k_norm.norm,
        )
    return graph.apply(replaced)


class _Side:
    """The way of a query or key back from its reader: rotation, then norm, then projection."""

    def __init__(self, graph: Rewriter, value: Value, reader: Op) -> None:
        self.value = value
        self._graph = graph
        self._reader = reader

    def rope(self) -> Rope | None:
        """Step over a rotation that only the reader needs."""
        rope = self._graph.maker(self.value, Rope)
        if rope is None or not self._graph.only_for(self.value, self._reader):
            return None
        self.value, self._reader = rope.x, rope
        return rope

    def norm(self, head_size: int) -> Norm | None:
        """Step over a norm of heads that only the rotation (or the reader) needs."""
        norm = self._graph.maker(self.value, Norm)
        if norm is None or norm.residual is not None or norm.norm.group != head_size:
            return None
        if not self._graph.only_for(self.value, self._reader):
            return None
        self.value, self._reader = norm.x, norm
        return norm
