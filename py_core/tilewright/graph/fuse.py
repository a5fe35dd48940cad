"""Fusion: the plain graph of an architecture file -> fewer ops that compute the same.

Each pass is a pattern on neighbouring ops, switched by a flag of ``FusionPlan`` because the tuner
chooses among plans. No pass changes results beyond rounding. With all of them a dense decoder layer
is six ops: norm+QKV, QkvPrepare, Attention, output+residual, norm+gate+up+activation,
down+residual; where norms follow, the residual sums are in the prologues instead. Knows ops only:
nothing of devices or of architectures; which fused ops a lowering can execute (sizes, limits of the
device) it says itself, by ``accept``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from .fuse_attention import prepare, stack_qkv
from .fuse_experts import experts, gate_rows, stack_router
from .ops import (
    Activate,
    Add,
    Combine,
    ExpertLinear,
    GateRows,
    Graph,
    Linear,
    Norm,
    Op,
    Route,
    Value,
)
from .outputs import take_no_outputs, take_outputs_early
from .rewrite import Rewriter
from .stacking import is_plain, stack, stackable, stacked


@dataclass(frozen=True)
class FusionPlan:
    """Which fusions to make."""

    stack: bool = True
    """Weights of q, k, v in one Linear, those of gate and up, those of router and row gate."""
    activation: bool = True
    """Activation and gate into the Linear (gate and up only with ``stack``), and the gate of a
    shared expert (only with ``norm``: for few tokens)."""
    experts: bool = True
    """Gate, up and activation of experts into one ExpertLinear."""
    residual: bool = True
    """Residual sums into Linear, Norm, Combine and GateRows."""
    norm: bool = True
    """Norms into the Linears that read them."""
    prepare: bool = True
    """Norms of queries and keys, rotation and cache write of a layer into QkvPrepare."""
    post_norm: bool = True
    """Residual sums with a norm of what is added into the Linear that reads them first (only with
    ``norm``)."""
    outputs: Literal["late", "early", "all"] = "late"
    """Where rows are taken whose logits are wanted: before the output norm, right after the last
    attention (for prompts), or nowhere because all tokens of the step are, in order (decode)."""


def fuse(
    graph: Graph,
    plan: FusionPlan | None = None,
    *,
    accept: Callable[[Op], bool] = lambda op: True,
) -> Graph:
    """Return the graph with the fusions of ``plan`` (default: all) made.

    A fused op that ``accept`` denies is not made; the ops that it would replace stay.
    """
    plan = plan or FusionPlan()
    passes = (
        (plan.stack, stack_qkv),
        (plan.stack and plan.activation, _gate_and_up),
        (plan.stack, _stack_gate_and_up),
        (plan.activation, _activation),
        (plan.stack, stack_router),
        (plan.activation and plan.norm, gate_rows),
        (plan.experts, experts),
        (plan.residual, _residual),
        (plan.norm, _norm),
        (plan.norm and plan.post_norm, _post_norm),
        (plan.prepare, prepare),
    )
    if plan.outputs == "early":
        graph = take_outputs_early(graph)
    elif plan.outputs == "all":
        graph = take_no_outputs(graph)
    ops: tuple[Op, ...] = graph.ops
    for wanted, rewrite in passes:
        if wanted:
            ops = rewrite(Rewriter(graph, ops, accept))
    return replace(graph, ops=ops)


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
            and stackable(gate) == stackable(up)
            and all(is_plain(part) and graph.only_for(part.out, op) for part in (gate, up))
        ):
            found.append((op, gate, up))
    return found


def _gate_and_up(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for activate, gate, up in _pairs(graph):
        weight, bias = stacked((gate, up))
        new = Linear(gate.x, weight, activate.out, bias, activation=activate.activation, gated=True)
        if graph.accept(new):
            replaced[id(gate)] = replaced[id(up)] = None
            replaced[id(activate)] = new
    for op in graph.ops:
        if not isinstance(op, Activate) or op.up is None or id(op) in replaced:
            continue
        both = graph.maker(op.x.storage, Linear)
        halves = (op.x.base, op.up.base, op.x.start, op.up.start)
        if (
            both is not None
            and is_plain(both)
            and halves == (both.out, both.out, 0, op.x.width)
            and both.out.width == 2 * op.x.width
            and graph.only_for(both.out, op)
        ):
            new = replace(both, out=op.out, activation=op.activation, gated=True)
            if graph.accept(new):
                replaced[id(both)] = None
                replaced[id(op)] = new
    return graph.apply(replaced)


def _stack_gate_and_up(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    values: dict[Value, Value] = {}
    for _, gate, up in _pairs(graph):
        new, views = stack([gate, up])
        if graph.accept(new):
            replaced[id(gate)] = replaced[id(up)] = None
            replaced[id(graph.first((gate, up)))] = new
            values.update(views)
    return graph.apply(replaced, values)


def _activation(graph: Rewriter) -> tuple[Op, ...]:
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Activate) or op.up is not None:
            continue
        linear = graph.maker(op.x, Linear)
        if linear is not None and is_plain(linear) and graph.only_for(linear.out, op):
            new = replace(linear, out=op.out, activation=op.activation)
            if graph.accept(new):
                replaced[id(linear)] = None
                replaced[id(op)] = new
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
            new = replace(old, out=op.out, residual=residual)
            if isinstance(new, Linear):
                new = replace(new, scale=new.scale * op.scale)
            if not graph.accept(new):
                continue
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
        readers = [r for r in graph.readers(op.out) if isinstance(r, Linear | ExpertLinear)]
        if (
            op.norm.group == op.x.width
            and readers
            and len(readers) == len(graph.readers(op.out))
            and all(_can_norm(reader, op.out) for reader in readers)
        ):
            fused: list[Op] = [replace(reader, x=op.x, norm=op.norm) for reader in readers]
            if all(graph.accept(new) for new in fused):
                replaced[id(op)] = None
                replaced.update((id(old), new) for old, new in zip(readers, fused, strict=True))
    return graph.apply(replaced)


def _can_norm(reader: Linear | ExpertLinear, value: Value) -> bool:
    """Whether ``reader`` can norm ``value`` in its prologue, and needs it nowhere else."""
    if reader.x is not value or reader.norm is not None:
        return False
    if isinstance(reader, ExpertLinear):
        return not reader.per_expert_input
    return reader.residual is None or reader.residual.storage is not value


def _post_norm(graph: Rewriter) -> tuple[Op, ...]:
    """Let the first reader of x + norm(delta) compute it, and leave it for the others."""
    replaced: dict[int, Op | None] = {}
    for op in graph.ops:
        if not isinstance(op, Norm) or op.residual is None:
            continue
        spec, readers = op.norm, graph.readers(op.out)
        if spec.center or spec.weight is None or spec.bias is not None or not readers:
            continue
        first = graph.first(readers)
        if (
            spec.group == op.x.width
            and isinstance(first, Linear)
            and first.x is op.out
            and first.delta is None
            and readers.count(first) == 1
            # the logits' many workgroups would all compute the sum again
            and first.out not in graph.kept
        ):
            alone = graph.only_for(op.out, first)
            new = replace(
                first,
                x=op.residual,
                delta=op.x,
                post_norm=spec,
                out_x=None if alone else op.out,
            )
            if graph.accept(new):
                replaced[id(op)] = None
                replaced[id(first)] = new
    return graph.apply(replaced)
