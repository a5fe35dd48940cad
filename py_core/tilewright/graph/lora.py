"""Adds LoRA adapters to a graph: y = W x becomes y + strength[t] * B[a] (A[a] x), a = adapter of t.

The pairs of all adapters are stacked like experts, so that each token of a batch may use its own
adapter with the ops that there are: ExpertLinear twice, then Combine. A matrix that stacks several
tensors (queries, keys, values) gets one A with all their rows and one B of diagonal blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ..errors import UnsupportedModelError
from ..formats.quant import F32
from .fuse import FusionPlan
from .ops import Adapters, Combine, ExpertLinear, Graph, Linear, Op, Rows, Value, Weight
from .stacking import is_plain

FUSION = FusionPlan(activation=False, residual=False, norm=False, post_norm=False, outputs="late")
"""Fusions that leave every Linear plain and name the same weights as all the others do."""


@dataclass(frozen=True)
class Place:
    """Where a Linear's changes go: the weights to fill, and the tensors in their order."""

    tensors: tuple[str, ...]
    """All that the Linear stacks."""
    rows: tuple[int, ...]
    """Of each of them."""
    changed: tuple[str, ...]
    """Those that an adapter changes: ``rank`` rows of A and columns of B each."""
    a: Weight
    """``f32[adapters * rank * len(changed), K]``."""
    b: Weight
    """``f32[adapters * N, rank * len(changed)]``."""


def with_adapters(
    graph: Graph,
    targets: Collection[str],
    rows: Mapping[str, int],
    *,
    rank: int,
    count: int,
    version: int,
) -> tuple[Graph, list[Place]]:
    """Return ``graph`` (fused with ``FUSION``) with ``count`` adapters of up to ``rank``.

    ``targets``: tensors that any adapter changes; ``rows``: of every tensor; ``version`` makes the
    weights' names new.
    UnsupportedModelError where one of them is not the matrix of a plain Linear over all tokens.
    """
    which = Value("adapters", Rows.TOKENS, 1, "u32")
    strength = Value("strengths", Rows.TOKENS, 1)
    ops: list[Op] = [Adapters(which, strength)]
    places: list[Place] = []
    left = set(targets)
    for op in graph.ops:
        changed = tuple(t for t in op.weight.tensors if t in left) if isinstance(op, Linear) else ()
        if not isinstance(op, Linear) or not changed:
            ops.append(op)
            continue
        if not is_plain(op) or op.out.rows is not Rows.TOKENS:
            raise UnsupportedModelError(
                f"An adapter cannot change {changed[0]} here: merge it into the model."
            )
        sizes = tuple(rows[name] for name in op.weight.tensors)
        left -= set(changed)
        name, columns = op.weight.name, rank * len(changed)
        a = Weight((f"lora.{version}.{name}.a",), count * columns, op.weight.columns, F32)
        b = Weight((f"lora.{version}.{name}.b",), count * op.weight.rows, columns, F32)
        plain = Value(f"{op.out.name}.plain", Rows.TOKENS, op.out.width)
        inner = Value(f"{op.out.name}.low", Rows.TOKENS, columns)
        change = Value(f"{op.out.name}.change", Rows.TOKENS, op.out.width)
        ops += [
            replace(op, out=plain),
            ExpertLinear(op.x, a, which, columns, 1, inner),
            ExpertLinear(inner, b, which, op.weight.rows, 1, change),
            Combine(change, strength, 1, op.out, residual=plain),
        ]
        places.append(Place(op.weight.tensors, sizes, changed, a, b))
    if left:
        raise UnsupportedModelError(
            f"An adapter changes {', '.join(sorted(left)[:3])}, which is no plain matrix of this "
            "model (embeddings and experts cannot be adapted): merge it into the model."
        )
    return replace(graph, ops=tuple(ops)), places
