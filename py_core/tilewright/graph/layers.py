"""A graph cut at the layers whose weights are not there all the time.

The matrices of a *streamed* layer come into room that all streamed layers share, just before the
layer runs. Weights outside layers (embedding, output) and vectors always stay. Or only single
experts are streamed: then a part begins where the router has chosen them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from .ops import Embed, ExpertLinear, Graph, Linear, Value, Weight

_BLOCK = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """Consecutive ops of a graph that need at most one streamed layer."""

    layer: int | None
    """The streamed layer whose matrices must be there; None: none."""
    graph: Graph
    chosen: Value | None = None
    """The experts of that layer that must be there, u32[T, used]; None: all that the layer has."""


def layer_of(weight: Weight) -> int | None:
    """Return the layer that a weight belongs to; None: to none."""
    found = _BLOCK.match(weight.tensors[0])
    return int(found[1]) if found else None


def role_of(weight: Weight) -> tuple[object, ...]:
    """Return what weights of two layers have in common that may share their room."""
    names = tuple(_BLOCK.sub("", name) for name in weight.tensors)
    return names, weight.rows, weight.columns, weight.quant.name


def matrices(graph: Graph) -> list[Weight]:
    """Return the weights that are multiplied or looked up, each once."""
    found: dict[Weight, None] = {}
    for op in graph.ops:
        if isinstance(op, Linear | ExpertLinear):
            found[op.weight] = None
        elif isinstance(op, Embed):
            found[op.table] = None
    return list(found)


def streamed_matrices(graph: Graph, layers: Collection[int]) -> dict[int, list[Weight]]:
    """Return the matrices of each of ``layers``, in the order of use."""
    found: dict[int, list[Weight]] = {layer: [] for layer in layers}
    for weight in matrices(graph):
        layer = layer_of(weight)
        if layer in found:
            found[layer].append(weight)
    return found


def expert_layers(graph: Graph) -> dict[int, list[ExpertLinear]]:
    """Return the ops of each layer that multiply by chosen experts, in the order of use."""
    found: dict[int, list[ExpertLinear]] = {}
    for op in graph.ops:
        layer = layer_of(op.weight) if isinstance(op, ExpertLinear) else None
        if isinstance(op, ExpertLinear) and layer is not None:
            found.setdefault(layer, []).append(op)
    return found


def parts(graph: Graph, layers: Collection[int], experts: Collection[Weight] = ()) -> list[Part]:
    """Cut ``graph`` where another of the streamed ``layers``, or streamed ``experts``, begins."""
    made: list[Part] = []
    begun, layer, chosen = 0, None, None
    for number, op in enumerate(graph.ops):
        weight = op.weight if isinstance(op, Linear | ExpertLinear) else None
        needed = None if weight is None else layer_of(weight)
        picked = op.experts if isinstance(op, ExpertLinear) and weight in experts else None
        if (picked is None and needed not in layers) or (needed, picked) == (layer, chosen):
            continue
        if number > begun:
            made.append(Part(layer, replace(graph, ops=graph.ops[begun:number]), chosen))
        begun, layer, chosen = number, needed, picked
    made.append(Part(layer, replace(graph, ops=graph.ops[begun:]), chosen))
    return made


def spread(count: int, layers: int) -> tuple[int, ...]:
    """Return ``count`` of ``layers`` at even distances: one is read while those between run."""
    return tuple(dict.fromkeys((2 * i + 1) * layers // (2 * count) for i in range(count)))
