"""A graph cut at the layers whose weights are not there all the time.

The matrices of a *streamed* layer come into room that all streamed layers share, just before the
layer runs. Weights outside layers (embedding, output) and vectors always stay.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from .ops import Embed, ExpertLinear, Graph, Linear, Weight

_BLOCK = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """Consecutive ops of a graph that need at most one streamed layer."""

    layer: int | None
    """The streamed layer whose matrices must be there; None: none."""
    graph: Graph


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


def parts(graph: Graph, layers: Collection[int]) -> list[Part]:
    """Cut ``graph`` where another of the streamed ``layers`` begins."""
    made: list[Part] = []
    begun, layer = 0, None
    for number, op in enumerate(graph.ops):
        weight = op.weight if isinstance(op, Linear | ExpertLinear) else None
        needed = None if weight is None else layer_of(weight)
        if needed not in layers or needed == layer:
            continue
        if number > begun:
            made.append(Part(layer, replace(graph, ops=graph.ops[begun:number])))
        begun, layer = number, needed
    made.append(Part(layer, replace(graph, ops=graph.ops[begun:])))
    return made


def spread(count: int, layers: int) -> tuple[int, ...]:
    """Return ``count`` of ``layers`` at even distances: one is read while those between run."""
    return tuple(dict.fromkeys((2 * i + 1) * layers // (2 * count) for i in range(count)))
