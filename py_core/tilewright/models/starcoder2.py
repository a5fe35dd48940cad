"""StarCoder 2: layer norms, biases everywhere, a plain GELU feed-forward, rotation.

Source: llama.cpp ``src/models/starcoder2.cpp`` (it gives these files no sliding window).
"""

from __future__ import annotations

from ..graph.ops import Graph
from .decoder import Decoder
from .rope import rope_table


def build_starcoder2(model: Decoder) -> Graph:
    """Return the graph of a starcoder2."""
    table = rope_table(model.rope_settings())
    x = model.embed()
    for layer in model.layers:
        name = f"blk.{layer}."
        q, k, v = model.qkv(model.norm(x, f"{name}attn_norm"), layer)
        q, k = model.rotate(q, k, layer, table)
        x = model.graph.add(x, model.attend(q, k, v, layer), f"{name}attn_residual")
        fed = model.feed_forward(model.norm(x, f"{name}ffn_norm"), layer, "gelu")
        x = model.graph.add(x, fed, f"{name}ffn_residual")
    return model.head(x)
