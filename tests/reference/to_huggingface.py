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
_SHARED = {
    **{f"ffn_{part}_shexp": f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")},
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
}
_OLMO2 = {
    **_LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GEMMA = {
    **_LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_NOMIC = {
    "attn_qkv": "attn.Wqkv",
    "attn_output": "attn.out_proj",
    "attn_output_norm": "norm1",
    "ffn_up": "mlp.fc11",
    "ffn_gate": "mlp.fc12",
    "ffn_down": "mlp.fc2",
    "layer_output_norm": "norm2",
}
_GPT2_TOP = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
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
_TABLES = {
    "phi3": {**_LAYER, "ffn_up": "mlp.gate_up_proj"},
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "olmo2": _OLMO2,
    "qwen2moe": {**_LAYER, **_SHARED},
    "starcoder2": {**_LAYER, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
}
_TYPES = {
    "gemma3": "gemma3_text",
    "nomic-bert": "nomic_bert",
    "olmo2": "olmo3",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
}
_GRANITE_FUSED = ("exps.weight", "shexp.weight")
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
        granite = architecture == "granitemoe" and info.name.endswith(_GRANITE_FUSED)
        if granite or info.name.startswith("rope_factors"):
            continue
        array = await read_array(file, info.name)
        if info.quant.name == "F16":
            array = array.astype(np.float16)
        for name, values in _names(file, info.name, array):
            tensors[name] = array_tensor(values)
    if architecture == "granitemoe":
        for layer in range(file.integer("granitemoe.block_count")):
            for name, values in (await _granite_experts(file, layer)).items():
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
    (folder / "config.json").write_text(json.dumps(await _config(file)))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    pooling = file.metadata.get(f"{architecture}.pooling_type")
    if pooling is not None:
        flags = {"pooling_mode_cls_token": pooling == 2, "pooling_mode_mean_tokens": pooling == 1}
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))


def _names(file: ModelFile, name: str, array: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """Return what the published file has instead of the tensor ``name``."""
    architecture = file.architecture
    stem, _, kind = name.rpartition(".")
    if architecture.startswith("gemma") and stem.endswith("norm"):
        array = array - np.float32(1)
    if not stem.startswith("blk."):
        if architecture == "gpt2":
            return [(f"{_GPT2_TOP[stem]}.{kind}", array)]
        if architecture == "nomic-bert" and stem == "token_embd_norm":
            return [(f"emb_ln.{kind}", array)]
        top = _BERT_TOP if "bert" in architecture else _TOP
        return [(f"{top[stem]}.{kind}", array)]
    _, layer, part = stem.split(".")
    if architecture == "bert":
        return [(f"encoder.layer.{layer}.{_BERT[part]}.{kind}", array)]
    if architecture == "nomic-bert":
        return [(f"encoder.layers.{layer}.{_NOMIC[part]}.{kind}", array)]
    if architecture == "gpt2":
        array = array.T if array.ndim == 2 else array
        return [(f"transformer.h.{layer}.{_GPT2[part]}.{kind}", array)]
    prefix = f"model.layers.{layer}."
    if architecture == "stablelm" and part in ("attn_q_norm", "attn_k_norm"):
        stem = f"{prefix}self_attn.{part[5]}_layernorm.norms"
        return [(f"{stem}.{head}.{kind}", row) for head, row in enumerate(array)]
    if part.startswith("ffn_") and part.endswith("exps"):
        inner = part.removeprefix("ffn_").removesuffix("_exps")
        stem, suffix = f"{prefix}mlp.experts", f"{inner}_proj"
        if architecture == "llama":
            stem = f"{prefix}block_sparse_moe.experts"
            suffix = {"gate": "w1", "down": "w2", "up": "w3"}[inner]
        return [
            (f"{stem}.{index}.{suffix}.{kind}", expert)
            for index, expert in reversed(list(enumerate(array)))
        ]
    if architecture in PERMUTED and part in ("attn_q", "attn_k"):
        key = "head_count" if part == "attn_q" else "head_count_kv"
        array = unpermute(array, file.integer(f"{architecture}.attention.{key}"))
    if part == "ffn_gate_inp" and architecture in ("llama", "granitemoe"):
        inner = "gate" if architecture == "llama" else "router.layer"
        return [(f"{prefix}block_sparse_moe.{inner}.{kind}", array)]
    if part == "ffn_gate_inp_shexp":
        array = array.reshape(1, -1)
    table = _TABLES.get(architecture, _LAYER)
    return [(f"{prefix}{table[part]}.{kind}", array)]


async def _granite_experts(file: ModelFile, layer: int) -> dict[str, NDArray[Any]]:
    """Return a layer's experts as Granite publishes them: gate and up in one tensor."""
    found = {}
    for suffix, stem in (("exps", "block_sparse_moe"), ("shexp", "shared_mlp")):
        gate, up, down = [
            await read_array(file, f"blk.{layer}.ffn_{part}_{suffix}.weight")
            for part in ("gate", "up", "down")
        ]
        prefix = f"model.layers.{layer}.{stem}."
        found[f"{prefix}input_linear.weight"] = np.concatenate([gate, up], axis=-2)
        found[f"{prefix}output_linear.weight"] = down
    return {name: array.astype(np.float16) for name, array in found.items()}


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
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
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
        "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    }
    architecture = file.architecture
    metadata = {key.removeprefix(f"{architecture}."): value for key, value in file.metadata.items()}
    config: dict[str, Any] = {names[k]: value for k, value in metadata.items() if k in names}
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["model_type"] = _TYPES.get(architecture, architecture)
    config.setdefault("rope_theta", 10000.0)
    if architecture == "llama" and "expert_count" in metadata:
        config["model_type"] = "mixtral"
        config["num_local_experts"] = config.pop("num_experts")
    head = config["hidden_size"] // config["num_attention_heads"]
    if architecture.startswith("gemma"):
        config["query_pre_attn_scalar"] = config["head_dim"]
        config["hidden_activation"] = "gelu_pytorch_tanh"
        config["sliding_window_pattern"] = metadata.get("attention.sliding_window_pattern")
    if architecture in ("phi3", "stablelm"):
        config["partial_rotary_factor"] = metadata["rope.dimension_count"] / head
    if architecture == "stablelm":
        config["use_parallel_residual"] = "blk.0.ffn_norm.weight" not in file.tensors
    if architecture == "smollm3":
        layers = range(config["num_hidden_layers"])
        config["no_rope_layers"] = [int((layer + 1) % 4 != 0) for layer in layers]
    if architecture in ("gpt2", "nomic-bert"):
        for new, old in (("hidden_size", "n_embd"), ("num_attention_heads", "n_head")):
            config[old] = config.pop(new)
        config["n_layer"] = config.pop("num_hidden_layers")
        config["n_inner"] = config.pop("intermediate_size")
        config["n_positions"] = config.pop("max_position_embeddings")
    if "rope.scaling.factor" in metadata:
        config["rope_scaling"] = {
            "rope_type": metadata.get("rope.scaling.type", "linear"),
            "factor": metadata["rope.scaling.factor"],
        }
    if metadata.get("rope.scaling.type") == "yarn":
        original = config.pop("original_max_position_embeddings")
        config["rope_scaling"]["original_max_position_embeddings"] = original
    if "rope_factors_long.weight" in file.tensors:
        config["rope_scaling"] = {"type": "longrope"}
        for kind in ("long", "short"):
            values = await read_array(file, f"rope_factors_{kind}.weight")
            config["rope_scaling"][f"{kind}_factor"] = values.tolist()
    return config
