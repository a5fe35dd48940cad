"""OLMo 2 and 3 and OLMoE: norms of the whole q and k rows; OLMo 2 norms after, not before.

Source: llama.cpp ``src/models/olmo2.cpp`` and ``olmoe.cpp``.
"""

from __future__ import annotations

from ..graph.ops import Graph, Value
from .decoder import Decoder
from .rope import plain_rope_table, rope_table


def build_olmo2(model: Decoder) -> Graph:
    """Return the graph of an olmo2 or (with sliding windows) an OLMo 3."""
    settings = model.rope_settings()
    table, plain_table = rope_table(settings), plain_rope_table(settings)
    window = model.metadata.count("attention.sliding_window", 0, low=0)
    windows = model.windows(4, window) if window else (0,) * model.config.layers
    x = model.embed()
    for layer in model.layers:
        name = f"blk.{layer}."
        q, k, v = _normed_qkv(model, x, layer)
        q, k = model.rotate(q, k, layer, plain_table if windows[layer] else table)
        attended = model.attend(q, k, v, layer, window=windows[layer])
        normed = model.norm(attended, f"{name}post_attention_norm")
        x = model.graph.add(x, normed, f"{name}attn_residual")
        fed = model.feed_forward(x, layer, "silu")
        normed = model.norm(fed, f"{name}post_ffw_norm")
        x = model.graph.add(x, normed, f"{name}ffn_residual")
    return model.head(x)


def build_olmoe(model: Decoder) -> Graph:
    """Return the graph of an olmoe."""
    table = rope_table(model.rope_settings())
    x = model.embed()
    for layer in model.layers:
        name = f"blk.{layer}."
        q, k, v = _normed_qkv(model, model.norm(x, f"{name}attn_norm"), layer)
        q, k = model.rotate(q, k, layer, table)
        x = model.graph.add(x, model.attend(q, k, v, layer), f"{name}attn_residual")
        normed = model.norm(x, f"{name}ffn_norm")
        added = model.experts(normed, layer, "silu", normalise=False)
        x = model.graph.add(x, added, f"{name}ffn_residual")
    return model.head(x)


def _normed_qkv(model: Decoder, x: Value, layer: int) -> tuple[Value, Value, Value]:
    q, k, v = model.qkv(x, layer)
    q = model.norm(q, f"blk.{layer}.attn_q_norm")
    return q, model.norm(k, f"blk.{layer}.attn_k_norm"), v
