"""Qwen 2 and 3, dense and mixture of experts.

Llama's layer with the halves of a head paired, biases on q, k, v (2) or norms of the heads (3).
Source: llama.cpp ``src/models/qwen2.cpp``, ``qwen3.cpp``, ``qwen2moe.cpp``, ``qwen3moe.cpp``.
"""

from __future__ import annotations

from ..graph.ops import Graph
from .decoder import Decoder
from .llama import llama_layer
from .rope import rope_table


def build_qwen(model: Decoder) -> Graph:
    """Return the graph of a qwen2, qwen3 or qwen3moe."""
    return _build(model, normalise_experts=True)


def build_qwen2moe(model: Decoder) -> Graph:
    """Return the graph of a qwen2moe, whose experts' weights do not sum to one."""
    return _build(model, normalise_experts=False)


def _build(model: Decoder, *, normalise_experts: bool) -> Graph:
    table = rope_table(model.rope_settings())
    x = model.embed()
    for layer in model.layers:
        x = llama_layer(model, x, layer, table, scale=None, normalise_experts=normalise_experts)
    return model.head(x)
