"""A GGUF model as Hugging Face would publish it: the converter's steps, backwards, for tests.

Written from transformers' side (names and settings of its ``modeling_*.py``), not from Tilewright's
tables, so that the two check each other. Weights are F16 or F32 as in the GGUF file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.dequantize import dequantize
from tests.reference.safetensors_writer import Tensor, array_tensor, safetensors_bytes

from tilewright.formats.model_file import ModelFile

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
_PHI3 = {**_LAYER, "ffn_up": "mlp.gate_up_proj"}
_GEMMA = {
    **_LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_BERT_TOP = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
_BERT = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_TYPES = {"qwen3moe": "qwen3_moe", "gemma3": "gemma3_text"}
PERMUTED = ("llama", "granite", "granitemoe", "smollm3")


async def read_array(file: ModelFile, name: str) -> NDArray[np.float32]:
    """Return a tensor's values."""
    info = file.tensor(name)
    raw = await file.sources[info.source].read(info.offset, info.nbytes)
    return dequantize(info.quant, raw, info.rows, info.columns).reshape(info.shape)


def unpermute(weights: NDArray[Any], heads: int) -> NDArray[Any]:
    """Undo the converter's interleaving of the two halves of each head's rows."""
    rows = weights.shape[0]
    split = weights.reshape(heads, rows // heads // 2, 2, *weights.shape[1:])
    return split.swapaxes(1, 2).reshape(weights.shape)


async def publish(file: ModelFile, folder: Path, *, shards: int = 1) -> None:
    """Write ``file`` as config.json, tokenizer.json and one or more .safetensors."""
    architecture = file.architecture
    tensors: dict[str, Tensor] = {}
    for info in file.items():
        if info.name.startswith("rope_factors"):
            continue
        array = await read_array(file, info.name)
        if info.quant.name == "F16":
            array = array.astype(np.float16)
        for name, values in _names(file, info.name, array):
            tensors[name] = array_tensor(values)
    names = list(tensors)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    else:
        where = {}
        for number in range(shards):
            part = {name: tensors[name] for name in names[number::shards]}
            path = folder / f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            path.write_bytes(safetensors_bytes(part))
            where.update(dict.fromkeys(part, path.name))
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = await _config(file)
    config["model_type"] = _TYPES.get(architecture, architecture)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    if architecture == "bert":
        (folder / "1_Pooling").mkdir()
        pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def _names(file: ModelFile, name: str, array: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    architecture = file.architecture
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("blk."):
        top = _BERT_TOP if architecture == "bert" else _TOP
        shift = 1.0 if architecture == "gemma3" and stem == "output_norm" else 0.0
        return [(f"{top[stem]}.{kind}", array - array.dtype.type(shift))]
    _, layer, part = stem.split(".")
    if architecture == "bert":
        return [(f"encoder.layer.{layer}.{_BERT[part]}.{kind}", array)]
    prefix = f"model.layers.{layer}."
    if part.endswith("_exps"):
        inner = part.removeprefix("ffn_").removesuffix("_exps")
        return [
            (f"{prefix}mlp.experts.{index}.{inner}_proj.{kind}", expert)
            for index, expert in reversed(list(enumerate(array)))
        ]
    if architecture in PERMUTED and part in ("attn_q", "attn_k"):
        key = "head_count" if part == "attn_q" else "head_count_kv"
        array = unpermute(array, file.integer(f"{architecture}.attention.{key}"))
    if architecture == "gemma3" and part.endswith("norm"):
        array = array - np.float32(1)
    table = {"phi3": _PHI3, "gemma3": _GEMMA}.get(architecture, _LAYER)
    return [(f"{prefix}{table[part]}.{kind}", array)]


async def _config(file: ModelFile) -> dict[str, Any]:
    names = {
        "block_count": "num_hidden_layers",
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim",
        "attention.layer_norm_rms_epsilon": "rms_norm_eps",
        "attention.layer_norm_epsilon": "layer_norm_eps",
        "attention.sliding_window": "sliding_window",
        "attention.scale": "attention_multiplier",
        "rope.freq_base": "rope_theta",
        "rope.freq_base_swa": "rope_local_base_freq",
        "rope.scaling.original_context_length": "original_max_position_embeddings",
        "vocab_size": "vocab_size",
        "logit_scale": "logits_scaling",
        "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier",
        "expert_count": "num_experts",
        "expert_used_count": "num_experts_per_tok",
        "expert_feed_forward_length": "moe_intermediate_size",
    }
    prefix = file.architecture + "."
    config: dict[str, Any] = {"tie_word_embeddings": "output.weight" not in file.tensors}
    for key, value in file.metadata.items():
        if key.startswith(prefix) and key.removeprefix(prefix) in names:
            config[names[key.removeprefix(prefix)]] = value
    if prefix == "gemma3.":
        config["query_pre_attn_scalar"] = config["head_dim"]
        config["hidden_activation"] = "gelu_pytorch_tanh"
    if prefix == "phi3.":
        head = config["hidden_size"] // config["num_attention_heads"]
        config["partial_rotary_factor"] = file.integer("phi3.rope.dimension_count") / head
    if "rope_factors_long.weight" in file.tensors:
        config["rope_scaling"] = {"type": "longrope"}
        for kind in ("long", "short"):
            values = await read_array(file, f"rope_factors_{kind}.weight")
            config["rope_scaling"][f"{kind}_factor"] = values.tolist()
    return config
