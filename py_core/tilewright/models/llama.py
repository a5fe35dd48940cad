"""Llama and Mistral, dense and mixture of experts (GGUF architecture ``llama``).

Pre-norm decoder, grouped queries, gated SiLU. Source of the order and of what is optional:
llama.cpp ``src/models/llama.cpp``; it gives this architecture no sliding window.
"""

from __future__ import annotations

from ..graph.ops import Graph, RopeTable, Value
from .decoder import Decoder
from .rope import rope_table


def build_llama(model: Decoder) -> Graph:
    """Return the graph of a llama."""
    longrope = model.metadata.text("rope.scaling.type", "linear") == "longrope"
    table = rope_table(
        model.rope_settings(
            interleaved=True, llama3_factors=not longrope, longrope_factors=longrope
        )
    )
    x = model.embed()
    for layer in model.layers:
        x = llama_layer(model, x, layer, table, scale=None)
    return model.head(x)


def llama_layer(
    model: Decoder,
    x: Value,
    layer: int,
    table: RopeTable | None,
    *,
    scale: float | None,
    residual_scale: float = 1.0,
    normalise_experts: bool = True,
) -> Value:
    """f32[T, D]: one pre-norm layer, whose parts others of the family vary.

    A layer with experts may also have a shared one, which every token uses (granitemoe), behind a
    gate of its own (qwen2moe).

    ``scale``: attention scale (None: one over the square root of the head size).
    ``residual_scale``: factor on what a half-layer adds to the residual stream.
    """
    name = f"blk.{layer}."
    normed = model.norm(x, f"{name}attn_norm")
    q, k, v = model.qkv(normed, layer)
    if model.graph.has(f"{name}attn_q_norm.weight"):
        q = model.norm(q, f"{name}attn_q_norm", group=model.config.head_size)
        k = model.norm(k, f"{name}attn_k_norm", group=model.config.head_size)
    q, k = model.rotate(q, k, layer, table)
    attended = model.attend(q, k, v, layer, scale=scale)
    x = model.graph.add(x, attended, f"{name}attn_residual", scale=residual_scale)

    normed = model.norm(x, f"{name}ffn_norm")
    if not model.graph.has(f"{name}ffn_gate_inp.weight"):
        added = model.feed_forward(normed, layer, "silu")
        return model.graph.add(x, added, f"{name}ffn_residual", scale=residual_scale)
    added = model.experts(normed, layer, "silu", normalise=normalise_experts)
    x = model.graph.add(x, added, f"{name}moe_residual", scale=residual_scale)
    if not model.graph.has(f"{name}ffn_up_shexp.weight"):
        return x
    shared = model.feed_forward(normed, layer, "silu", "_shexp")
    if model.graph.has(f"{name}ffn_gate_inp_shexp.weight"):
        gate = model.graph.linear(normed, f"{name}ffn_gate_inp_shexp", 1)
        shared = model.graph.gate_rows(shared, gate, f"{name}ffn_gated_shexp")
    return model.graph.add(x, shared, f"{name}shexp_residual", scale=residual_scale)
