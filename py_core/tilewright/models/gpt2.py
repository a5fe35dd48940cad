"""GPT-2: learned positions, layer norms, biases everywhere, a plain GELU feed-forward.

Source: llama.cpp ``src/models/gpt2.cpp``.
"""

from __future__ import annotations

from ..graph.ops import Graph
from .decoder import Decoder


def build_gpt2(model: Decoder) -> Graph:
    """Return the graph of a gpt2."""
    x = model.embed_positions(model.embed())
    for layer in model.layers:
        name = f"blk.{layer}."
        q, k, v = model.qkv(model.norm(x, f"{name}attn_norm"), layer)
        x = model.graph.add(x, model.attend(q, k, v, layer), f"{name}attn_residual")
        fed = model.feed_forward(model.norm(x, f"{name}ffn_norm"), layer, "gelu")
        x = model.graph.add(x, fed, f"{name}ffn_residual")
    return model.head(x)
