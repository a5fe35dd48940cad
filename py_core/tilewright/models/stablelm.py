"""StableLM: layer norms, a rotation of part of each head, optionally norms of the heads.

A file without ``ffn_norm`` has parallel residuals: the feed-forward reads what attention read.
Source: llama.cpp ``src/models/stablelm.cpp``.
"""

from __future__ import annotations

from ..graph.ops import Graph
from .decoder import Decoder
from .rope import rope_table


def build_stablelm(model: Decoder) -> Graph:
    """Return the graph of a stablelm."""
    table = rope_table(model.rope_settings())
    size = model.config.head_size
    x = model.embed()
    for layer in model.layers:
        name = f"blk.{layer}."
        normed = model.norm(x, f"{name}attn_norm")
        q, k, v = model.qkv(normed, layer)
        if model.graph.has(f"{name}attn_q_norm.weight"):
            q = model.norm(q, f"{name}attn_q_norm", group=size)
        if model.graph.has(f"{name}attn_k_norm.weight"):
            k = model.norm(k, f"{name}attn_k_norm", group=size)
        q, k = model.rotate(q, k, layer, table)
        x = model.graph.add(x, model.attend(q, k, v, layer), f"{name}attn_residual")
        if model.graph.has(f"{name}ffn_norm.weight"):
            normed = model.norm(x, f"{name}ffn_norm")
        fed = model.feed_forward(normed, layer, "silu")
        x = model.graph.add(x, fed, f"{name}ffn_residual")
    return model.head(x)
