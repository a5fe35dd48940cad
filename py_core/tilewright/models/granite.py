"""Granite, dense and mixture of experts: llama's layer with four scale factors.

Source: llama.cpp ``src/models/granite.cpp`` and ``granite-moe.cpp``.
"""

from __future__ import annotations

from ..errors import FormatError
from ..graph.ops import Graph
from .decoder import Decoder
from .llama import llama_layer
from .rope import rope_table


def build_granite(model: Decoder) -> Graph:
    """Return the graph of a granite; ``rope.scaling.finetuned`` false means no rotation at all."""
    return _build(model, rotated=model.metadata.flag("rope.scaling.finetuned", True))


def build_granite_moe(model: Decoder) -> Graph:
    """Return the graph of a granitemoe, with a shared expert where the file has one."""
    return _build(model, rotated=True)


def _build(model: Decoder, *, rotated: bool) -> Graph:
    longrope = model.metadata.text("rope.scaling.type", "linear") == "longrope"
    settings = model.rope_settings(
        interleaved=True, llama3_factors=not longrope, longrope_factors=longrope
    )
    table = rope_table(settings) if rotated else None
    logit_scale = model.metadata.number("logit_scale")
    if logit_scale <= 0.0:
        raise FormatError("A granite model's logit_scale must be above 0: the file is damaged.")
    residual_scale = model.metadata.number("residual_scale", 0.0) or 1.0
    x = model.embed(scale=model.metadata.number("embedding_scale", 0.0) or 1.0)
    for layer in model.layers:
        x = llama_layer(
            model,
            x,
            layer,
            table,
            scale=model.attention_scale(),
            residual_scale=residual_scale,
        )
    return model.head(x, scale=1.0 / logit_scale)
