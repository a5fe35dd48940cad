"""Gemma 2 and 3: norms before and after each half-layer, sliding windows, soft caps.

Source: llama.cpp ``src/models/gemma2.cpp`` and ``gemma3.cpp``. Its files store the norm weights
with gemma's one already added.
"""

from __future__ import annotations

import math

from ..graph.ops import Graph, RopeTable, Value
from .decoder import Decoder
from .rope import local_rope_table, rope_table

_LAYERS_27B = {"gemma2": 46, "gemma3": 62}
"""The 27B models scale queries by the width per head instead of the head size."""


def build_gemma2(model: Decoder) -> Graph:
    """Return the graph of a gemma2: every second layer has a window, both soft caps."""
    metadata = model.metadata
    base = metadata.number("rope.freq_base", 10000.0)
    settings = model.rope_settings(base_local=base)
    windows = model.windows(2, metadata.count("attention.sliding_window", 4096, low=0))
    return _build(
        model,
        windows,
        rope_table(settings),
        local_rope_table(settings, scale=settings.scale),
        attention_softcap=metadata.number("attn_logit_softcapping", 50.0),
        final_softcap=metadata.number("final_logit_softcapping", 30.0),
    )


def build_gemma3(model: Decoder) -> Graph:
    """Return the graph of a gemma3: five of six layers have a window and their own rope base."""
    metadata = model.metadata
    settings = model.rope_settings()
    window = metadata.count("attention.sliding_window", 0, low=0)
    windows = model.windows(6, window) if window else (0,) * model.config.layers
    return _build(
        model,
        windows,
        rope_table(settings),
        local_rope_table(settings),
        attention_softcap=0.0,
        final_softcap=metadata.number("final_logit_softcapping", 0.0),
    )


def _build(
    model: Decoder,
    windows: tuple[int, ...],
    table: RopeTable,
    local_table: RopeTable,
    *,
    attention_softcap: float,
    final_softcap: float,
) -> Graph:
    config = model.config
    scale = config.head_size**-0.5
    if config.layers == _LAYERS_27B[config.metadata.architecture]:
        scale = (config.width // config.heads[0]) ** -0.5
    x = model.embed(scale=math.sqrt(config.width))
    for layer, window in zip(model.layers, windows, strict=True):
        name = f"blk.{layer}."
        q, k, v = model.qkv(model.norm(x, f"{name}attn_norm"), layer)
        if model.graph.has(f"{name}attn_q_norm.weight"):
            q = model.norm(q, f"{name}attn_q_norm", group=config.head_size)
            k = model.norm(k, f"{name}attn_k_norm", group=config.head_size)
        q, k = model.rotate(q, k, layer, local_table if window else table)
        attended = model.attend(
            q, k, v, layer, scale=scale, window=window, softcap=attention_softcap
        )
        x = _add_normed(model, x, attended, f"{name}post_attention_norm")
        fed = model.feed_forward(model.norm(x, f"{name}ffn_norm"), layer, "gelu")
        x = _add_normed(model, x, fed, f"{name}post_ffw_norm")
    return model.head(x, softcap=final_softcap)


def _add_normed(model: Decoder, x: Value, y: Value, name: str) -> Value:
    return model.graph.add(x, model.norm(y, name), f"{name}.residual")
