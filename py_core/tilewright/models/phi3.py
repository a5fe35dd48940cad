"""Phi-3 and Phi-4: fused q, k, v and fused gate and up; long contexts by longrope factors.

Source: llama.cpp ``src/models/phi3.cpp``, which disables the sliding window of these files.
"""

from __future__ import annotations

from ..graph.ops import Graph
from .decoder import Decoder
from .llama import llama_layer
from .rope import rope_table


def build_phi3(model: Decoder) -> Graph:
    """Return the graph of a phi3; the context length chooses the long or the short factors."""
    table = rope_table(model.rope_settings(longrope_factors=True))
    x = model.embed()
    for layer in model.layers:
        x = llama_layer(model, x, layer, table, scale=None)
    return model.head(x)
