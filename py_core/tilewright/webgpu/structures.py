"""What a kernel has to compute for an op: the Structures of ops that fusion makes.

``accepts`` tells ``graph/fuse.py`` which fused ops have a kernel on a device; ``lower.py`` binds
the same Structures to buffers. Knows no buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..graph.ops import (
    Attention,
    ExpertLinear,
    Linear,
    NormSpec,
    Op,
    QkvPrepare,
    Rows,
    Value,
    Weight,
)
from .kernels import attention, expert, kv_write, matvec, qkv_prepare
from .kernels.header import RowsFrom
from .kernels.kernel import Capabilities, Span
from .kernels.linear import Arithmetic, LinearStructure
from .kernels.packing import packing
from .state import KV_BLOCK

ROWS_FROM: Mapping[Rows, RowsFrom] = {
    Rows.TOKENS: "tokens",
    Rows.OUTPUTS: "outputs",
    Rows.SEQUENCES: "sequences",
}


def qkv_structure(op: QkvPrepare, layout: kv_write.KvLayout, tokens: int) -> qkv_prepare.Structure:
    """Return the kernel Structure of a QkvPrepare."""
    table = op.table
    return qkv_prepare.Structure(
        tokens=tokens,
        heads=op.heads,
        layout=layout,
        q=span(op.q),
        k=span(op.k),
        v=span(op.v),
        out=span(op.out),
        shared=op.q.storage is op.k.storage and op.q.storage is op.v.storage,
        dimensions=0 if table is None else table.dimensions,
        interleaved=table is not None and table.interleaved,
        magnitude=1.0 if table is None else table.magnitude,
        q_norm=_head_norm(op.q_norm, op.head_size),
        k_norm=_head_norm(op.k_norm, op.head_size),
    )


def attention_structure(
    op: Attention, layout: kv_write.KvLayout, tokens: int
) -> attention.Structure:
    """Return the kernel Structure of an Attention."""
    return attention.Structure(
        tokens=tokens,
        heads=op.heads,
        layout=layout,
        scale=op.scale,
        q=span(op.q),
        out=span(op.out),
        causal=op.causal,
        window=op.window,
        softcap=op.softcap,
        sinks=op.sinks is not None,
        alibi=op.alibi,
    )


def _head_norm(spec: NormSpec | None, head_size: int) -> qkv_prepare.HeadNorm | None:
    if spec is None:
        return None
    return qkv_prepare.HeadNorm(
        weight=length(spec.weight),
        epsilon=spec.epsilon,
        weight_offset=spec.weight_offset,
        center=spec.center,
        whole=spec.group != head_size,
    )


def linear_structure(
    op: Linear,
    tokens: int,
    first: int = 0,
    rows: int | None = None,
    arithmetic: Arithmetic = "f32",
) -> LinearStructure:
    """Return the kernel Structure of rows ``first ..`` of a Linear's weight."""
    out, residual = span(op.out), None
    if op.residual is not None:
        place = span(op.residual)
        residual = Span(place.stride, place.start + first)
    return LinearStructure(
        quant=op.weight.quant.name,
        rows=op.weight.rows if rows is None else rows,
        columns=op.weight.columns,
        tokens=tokens,
        x=span(op.x),
        out=Span(out.stride, out.start + first),
        bias=op.bias is not None,
        **_norm_fields(op.norm),
        activation=op.activation,
        gated=op.gated,
        scale=op.scale,
        residual=residual,
        softcap=op.softcap,
        row_gate=None if op.row_gate is None else span(op.row_gate),
        tokens_from=ROWS_FROM[op.out.rows],
        delta=None if op.delta is None else span(op.delta),
        post_epsilon=0.0 if op.post_norm is None else op.post_norm.epsilon,
        post_offset=0.0 if op.post_norm is None else op.post_norm.weight_offset,
        out_x=None if op.out_x is None else span(op.out_x),
        arithmetic=arithmetic,
    )


def expert_structure(op: ExpertLinear, tokens: int) -> expert.ExpertStructure:
    """Return the kernel Structure of an ExpertLinear."""
    return expert.ExpertStructure(
        quant=op.weight.quant.name,
        experts=op.weight.rows // op.expert_rows // (2 if op.gate_then_up else 1),
        expert_rows=op.expert_rows,
        columns=op.weight.columns,
        used=op.used,
        tokens=tokens,
        x=span(op.x),
        out=span(op.out),
        chosen=span(op.experts),
        per_expert_input=op.per_expert_input,
        activation=op.activation,
        gated=op.gated,
        gate_then_up=op.gate_then_up,
        **_norm_fields(op.norm),
    )


def _norm_fields(spec: NormSpec | None) -> dict[str, Any]:
    """Return the fields of a Structure that describe the norm of a prologue."""
    if spec is None:
        return {}
    return {
        "norm": "layer" if spec.center else "rms",
        "norm_bias": spec.bias is not None,
        "norm_epsilon": spec.epsilon,
        "norm_weight": spec.weight is not None,
        "norm_offset": spec.weight_offset,
    }


def accepts(op: Op, kv: kv_write.KvKind, capabilities: Capabilities, tokens: int) -> bool:
    """Return whether a kernel can do a fused op; where not, ``graph/fuse.py`` leaves its parts."""
    if isinstance(op, QkvPrepare):
        layout = kv_write.KvLayout(
            kv, op.kv_heads, op.head_size, op.v.width // op.kv_heads, KV_BLOCK, 1
        )
        return qkv_prepare.supports(qkv_structure(op, layout, tokens), capabilities)
    if isinstance(op, Linear):
        if op.gated and not _fits(op.weight, capabilities):
            return False
        return matvec.supports(linear_structure(op, tokens), capabilities)
    if isinstance(op, ExpertLinear):
        if op.gated and not _fits(op.weight, capabilities):
            return False
        return expert.supports(expert_structure(op, tokens), capabilities)
    return True


def _fits(weight: Weight, capabilities: Capabilities) -> bool:
    """Whether a matrix is one shard."""
    form, columns = packing(weight.quant), weight.columns
    row = 4 * max(form.quant_words(columns), form.scale_words(columns))
    return weight.rows * row <= min(capabilities.max_binding, capabilities.max_buffer)


def span(value: Value) -> Span:
    """Return where a value's columns lie in its storage."""
    return Span(value.storage.width, value.start)


def length(weight: Weight | None) -> int:
    """Return the elements of an optional vector."""
    return 0 if weight is None else weight.rows * weight.columns
