"""Hugging Face tensor names -> GGUF names, and what must happen to the bytes on the way.

Names as data, per family; knows nothing of files. GGUF's names follow llama.cpp's
``gguf-py/gguf/tensor_mapping.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Place:
    """Where a tensor of the safetensors file belongs in GGUF's view of the model."""

    name: str
    index: int | None = None
    """Position in a stack of tensors along a new first axis (an expert, a head)."""
    halves: str | None = None
    """The second axis from the end holds two tensors: ``name`` and this one."""
    transposed: bool = False
    """Stored ``[K, N]``; GGUF has ``[N, K]``."""


IGNORED: Final = re.compile(
    r"(.*\.)?(rotary_emb\.(inv_freq|cos_cached|sin_cached)|attn\.(masked_)?bias"
    r"|embeddings\.position_ids|pooler\.dense\.(weight|bias))"
    r"|cls\..*|(model\.)?(vision_tower|multi_modal_projector|vision_model)\..*"
)
"""Buffers, heads and image encoders that a text model does not use."""

_LAYER: Final = re.compile(r"(?:.*\.)?(?:layers|layer|h)\.(\d{1,4})\.(.+)\.(weight|bias)")
_FUSED: Final = re.compile(
    r"(?:.*\.)?layers\.(\d{1,4})\.(mlp\.experts\.(?:gate_up_proj|down_proj))"
)
_STACKED: Final = re.compile(
    r"(?:mlp|block_sparse_moe)\.experts\.(?P<expert>\d{1,4})\."
    r"(?P<part>gate_proj|up_proj|down_proj|w1|w2|w3)"
    r"|self_attn\.(?P<which>q|k)_layernorm\.norms\.(?P<head>\d{1,4})"
)

_PARTS: Final = {
    **{"gate_proj": "gate", "up_proj": "up", "down_proj": "down"},
    # mixtral
    **{"w1": "gate", "w3": "up", "w2": "down"},
}
_ATTENTION: Final = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
_GATED: Final = {
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_POST_NORMS: Final = {
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_LLAMA_LAYER: Final = {
    **_ATTENTION,
    **_GATED,
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    # phi3, starcoder2
    "mlp.gate_up_proj": "ffn_up",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    # mixture of experts
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "block_sparse_moe.router.layer": "ffn_gate_inp",
    "block_sparse_moe.input_linear": "ffn_gate_exps+ffn_up_exps",
    "block_sparse_moe.output_linear": "ffn_down_exps",
    "shared_mlp.input_linear": "ffn_gate_shexp+ffn_up_shexp",
    "shared_mlp.output_linear": "ffn_down_shexp",
}
_GEMMA_LAYER: Final = {
    **_ATTENTION,
    **_GATED,
    **_POST_NORMS,
    "input_layernorm": "attn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
}
_BERT_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_NOMIC_LAYER: Final = {
    "attn.Wqkv": "attn_qkv",
    "attn.out_proj": "attn_output",
    "norm1": "attn_output_norm",
    "norm2": "layer_output_norm",
    "mlp.fc11": "ffn_up",
    "mlp.fc12": "ffn_gate",
    "mlp.fc2": "ffn_down",
}
_GPT2_LAYER: Final = {
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_DECODER_TOP: Final = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_ENCODER_TOP: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "emb_ln": "token_embd_norm",
}


@dataclass(frozen=True)
class _Names:
    top: Mapping[str, str]
    layer: Mapping[str, str]
    transposed: frozenset[str] = frozenset()


TABLES: Final[Mapping[str, _Names]] = {
    "llama": _Names(_DECODER_TOP, _LLAMA_LAYER),
    "gemma": _Names(_DECODER_TOP, _GEMMA_LAYER),
    "olmo2": _Names(_DECODER_TOP, {**_ATTENTION, **_GATED, **_POST_NORMS}),
    "bert": _Names(_ENCODER_TOP, _BERT_LAYER),
    "nomic_bert": _Names(_ENCODER_TOP, _NOMIC_LAYER),
    "gpt2": _Names(
        {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"},
        _GPT2_LAYER,
        # transformers' Conv1D stores [in, out]
        frozenset({"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
    ),
}
_PREFIX: Final = re.compile(r"((model|language_model|transformer|bert|encoder)\.)*")


def translate_name(family: str, name: str) -> Place | None:
    """Return where the tensor belongs, or None where the table does not know the name."""
    table = TABLES[family]
    fused = _FUSED.fullmatch(name)
    if fused is not None:
        name += ".weight"
    match = _LAYER.fullmatch(name)
    if match is not None:
        layer, inner, kind = int(match[1]), match[2], match[3]
        return _layer_place(table, layer, inner, kind)
    inner = name[_PREFIX.match(name).end() :]  # type: ignore[union-attr]  # matches the empty string
    inner = inner.replace("LayerNorm.gamma", "LayerNorm.weight")
    inner = inner.replace("LayerNorm.beta", "LayerNorm.bias")
    stem, _, kind = inner.rpartition(".")
    if kind not in ("weight", "bias") or stem not in table.top:
        return None
    return Place(f"{table.top[stem]}.{kind}")


def _layer_place(table: _Names, layer: int, inner: str, kind: str) -> Place | None:
    prefix = f"blk.{layer}."
    if table.layer is _LLAMA_LAYER:
        if inner == "mlp.experts.gate_up_proj":
            return Place(f"{prefix}ffn_gate_exps.weight", halves=f"{prefix}ffn_up_exps.weight")
        if inner == "mlp.experts.down_proj":
            return Place(f"{prefix}ffn_down_exps.weight")
        stacked = _STACKED.fullmatch(inner)
        if stacked is not None and kind == "weight":
            if stacked["part"]:
                part = _PARTS[stacked["part"]]
                return Place(f"{prefix}ffn_{part}_exps.weight", int(stacked["expert"]))
            return Place(f"{prefix}attn_{stacked['which']}_norm.weight", int(stacked["head"]))
    if inner not in table.layer:
        return None
    first, _, second = table.layer[inner].partition("+")
    return Place(
        f"{prefix}{first}.{kind}",
        halves=f"{prefix}{second}.{kind}" if second else None,
        transposed=inner in table.transposed and kind == "weight",
    )
