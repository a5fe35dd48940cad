"""The families of plans that share a model's weights and cache, and how large each may get.

``prefill`` (one sequence, many tokens, the last row's logits), ``all`` (the same with every row's
logits), ``decode`` (one token of several sequences) and ``embed`` (whole sequences). Knows graphs
and sizes; allocates nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..formats.model_file import ModelFile
from ..graph import lora
from ..graph.fuse import FusionPlan, fuse
from ..graph.ops import Graph, KvWrite, QkvPrepare, Rows
from ..models.registry import original_context
from ..webgpu import state as gpu_state
from ..webgpu.kernels import matvec
from ..webgpu.kernels.kernel import Capabilities
from ..webgpu.kernels.kv_write import KvKind
from ..webgpu.structures import accepts

DEFAULT_CONTEXT = 4096
"""Positions per sequence where neither the caller nor the model asks for fewer."""
PREFILL_BUCKETS = (8, 64, 256)
LOGITS_CHUNK = 64
RING = 8
"""Results that may be on their way."""
EXACT_CACHE = 64 << 20
"""Bytes up to which the KV cache is f32 where the caller does not choose."""

Family = Literal["prefill", "all", "decode", "embed", "prefill+", "all+", "decode+"]
"""With a plus: steps in which a sequence has an adapter (``adapters.py``)."""


def default_context(file: ModelFile) -> int:
    """Return the context that is used where none is asked for."""
    return min(original_context(file), DEFAULT_CONTEXT)


def kv_bytes(graph: Graph, kv: KvKind, tokens: int) -> int:
    """Return the bytes of a KV cache of ``tokens`` positions."""
    return gpu_state.kv_bytes(graph, kv, tokens)


def fused_graphs(
    plain: Graph, kv: KvKind, capabilities: Capabilities, fusion: FusionPlan | None = None
) -> dict[Family, Graph]:
    """Return the graph of each family of plans; they read the same weights.

    A matmul normalises its input once, not in every workgroup, so only decode folds norms into
    matrices. Prefill works on the wanted rows alone as early as it can.
    """
    plan = fusion or FusionPlan()
    apart = replace(plan, norm=False)

    def fused(wanted: FusionPlan) -> Graph:
        return fuse(
            plain, wanted, accept=lambda op: accepts(op, kv, capabilities, matvec.MAX_TOKENS)
        )

    if not plain.causal:
        return {"embed": fused(apart)}
    made: dict[Family, Graph] = {
        "prefill": fused(replace(apart, outputs="early")),
        "all": fused(replace(apart, outputs="all")),
        "decode": fused(replace(plan, outputs="all")),
    }
    if plain.pooled is not None:
        made["embed"] = fused(apart)
    return made


def until_cache(graph: Graph) -> Graph:
    """Cut everything after the last write to the cache: a step whose logits nobody wants."""
    last = max(i for i, op in enumerate(graph.ops) if isinstance(op, KvWrite | QkvPrepare))
    return replace(graph, ops=graph.ops[: last + 1], logits=None, hidden=None, pooled=None)


def capacities(family: Family, chunk: int, logits_chunk: int, many: int) -> dict[Rows, int]:
    """Return the most rows of each kind in a step; ``chunk`` tokens of a prompt, ``many`` slots."""
    found: dict[str, dict[Rows, int]] = {
        "prefill": {Rows.TOKENS: chunk, Rows.OUTPUTS: 1, Rows.SEQUENCES: 1},
        "all": dict.fromkeys((Rows.TOKENS, Rows.OUTPUTS), logits_chunk) | {Rows.SEQUENCES: 1},
        "decode": dict.fromkeys(Rows, many),
        "embed": {Rows.TOKENS: chunk, Rows.OUTPUTS: 1, Rows.SEQUENCES: many},
    }
    return found[family.rstrip("+")]


ADAPTED: tuple[Family, ...] = ("prefill+", "all+", "decode+")
"""Families of steps in which a sequence has an adapter."""


def adaptable(plain: Graph, kv: KvKind, capabilities: Capabilities) -> Graph:
    """Return the graph to which adapters are added (``graph.lora``)."""
    return fuse(
        plain, lora.FUSION, accept=lambda op: accepts(op, kv, capabilities, matvec.MAX_TOKENS)
    )


def prefill_capacity(tokens: int, most: int, *, encoder: bool) -> int:
    """Return the capacity of the plan for a prompt's ``tokens``."""
    if not encoder:
        return min(next(size for size in PREFILL_BUCKETS if size >= tokens), most)
    size = 16
    while size < tokens:
        size *= 2
    return min(size, most)


def batch_capacity(count: int) -> int:
    """Return the capacity of a decode plan for ``count`` sequences: 1, 2, 4, 8 ..."""
    size = 1
    while size < count:
        size *= 2
    return size


def prefill_chunk(context_length: int, *, encoder: bool) -> int:
    """Return the most tokens of a step: an encoder sees its whole text at once."""
    return context_length if encoder else min(PREFILL_BUCKETS[-1], context_length)
