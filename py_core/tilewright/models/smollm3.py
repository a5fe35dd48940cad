"""SmolLM3: a llama in which every fourth layer has no rotation.

Source: llama.cpp ``src/models/smollm3.cpp`` (``n_no_rope_layer_step`` is fixed there).
"""

from __future__ import annotations

from ..graph.ops import Graph
from .decoder import Decoder
from .llama import llama_layer
from .rope import rope_table

_NO_ROPE_STEP = 4


def build_smollm3(model: Decoder) -> Graph:
    """Return the graph of a smollm3."""
    table = rope_table(model.rope_settings(interleaved=True))
    x = model.embed()
    for layer in model.layers:
        rotated = (layer + 1) % _NO_ROPE_STEP != 0
        x = llama_layer(model, x, layer, table if rotated else None, scale=None)
    return model.head(x)
