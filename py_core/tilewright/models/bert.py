"""Encoders: BERT (learned positions, plain GELU) and Nomic BERT (rotation, gated SiLU; its MoE).

Post-norm layers whose tokens see the whole sequence; the output is one embedding per token and,
where the file asks for it, one per sequence. Source: llama.cpp ``src/models/bert.cpp``,
``nomic-bert.cpp`` and ``nomic-bert-moe.cpp``; it uses the tanh form of GELU.
"""

from __future__ import annotations

from ..graph.ops import Graph, RopeTable, Value
from .decoder import Decoder
from .rope import rope_table


def build_bert(model: Decoder) -> Graph:
    """Return the graph of a bert."""
    x = model.embed_positions(_embed(model))
    x = model.norm(x, "token_embd_norm")
    for layer in model.layers:
        x = _attention(model, x, layer, None)
        x = _feed_forward(model, x, layer, model.feed_forward(x, layer, "gelu"))
    return _finish(model, x)


def build_nomic_bert(model: Decoder) -> Graph:
    """Return the graph of a nomic-bert; llama.cpp leaves out feed-forward biases, if there are."""
    table = rope_table(model.rope_settings())
    x = model.norm(_embed(model), "token_embd_norm")
    for layer in model.layers:
        x = _attention(model, x, layer, table)
        added = model.feed_forward(x, layer, "silu", biased=False)
        x = _feed_forward(model, x, layer, added)
    return _finish(model, x)


def build_nomic_bert_moe(model: Decoder) -> Graph:
    """Return the graph of a nomic-bert-moe: experts in every n-th layer, plain GELU."""
    table = rope_table(model.rope_settings())
    step = model.metadata.count("moe_every_n_layers", 0, low=0)
    x = model.norm(_embed(model), "token_embd_norm")
    for layer in model.layers:
        x = _attention(model, x, layer, table)
        if step and layer % step == 1:
            added = model.experts(x, layer, "gelu", normalise=False)
        else:
            added = model.feed_forward(x, layer, "gelu")
        x = _feed_forward(model, x, layer, added)
    return _finish(model, x)


def _embed(model: Decoder) -> Value:
    x = model.embed()
    if model.graph.has("token_types.weight"):
        x = model.graph.add_row(x, "token_types.weight", "token_type")
    return x


def _attention(model: Decoder, x: Value, layer: int, table: RopeTable | None) -> Value:
    q, k, v = model.qkv(x, layer)
    q, k = model.rotate(q, k, layer, table)
    x = model.graph.add(x, model.attend(q, k, v, layer), f"blk.{layer}.attn_residual")
    return model.norm(x, f"blk.{layer}.attn_output_norm")


def _feed_forward(model: Decoder, x: Value, layer: int, added: Value) -> Value:
    x = model.graph.add(x, added, f"blk.{layer}.ffn_residual")
    return model.norm(x, f"blk.{layer}.layer_output_norm")


def _finish(model: Decoder, x: Value) -> Graph:
    kind = model.pooling()
    pooled = model.graph.pool(x, kind) if kind else None
    return model.graph.finish(
        vocabulary=model.vocabulary, hidden=x, pooled=pooled, causal=model.config.causal
    )
