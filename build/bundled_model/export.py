"""From a checkpoint to GGUF files.

The file is an ordinary Qwen3 model to any reader: architecture "qwen3", byte-level BPE
"gpt2"/"gpt-2", a chat template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import gguf_file, quantize
from .checkpoint import Weights
from .config import Config
from .tokenizer import CONTROL, SPECIALS, Tokenizer

NAME = "Tilewright Tiny"
DESCRIPTION = (
    "A very small language model trained from scratch on a procedural corpus: short stories,"
    " questions about them, little sums, and function calls. Made by build/bundled_model of the"
    " Tilewright project; no third-party text or weights."
)
FILE_TYPES = {"f32": 0, "q4_0": 2, "q8_0": 7, "q4_k": 15}
"""general.file_type: LLAMA_FTYPE_ALL_F32, MOSTLY_Q4_0, MOSTLY_Q8_0, MOSTLY_Q4_K_M."""
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_PARTS = {
    "attention_norm": "attn_norm",
    "query_norm": "attn_q_norm",
    "key_norm": "attn_k_norm",
    "output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "down": "ffn_down",
}


def metadata(config: Config, tokenizer: Tokenizer, template: str, kind: str) -> dict[str, Any]:
    """All keys of the file, names as llama.cpp's converter writes them for Qwen3."""
    types = [
        _CONTROL if t in CONTROL else _USER_DEFINED if t in SPECIALS else _NORMAL
        for t in tokenizer.tokens
    ]
    return {
        "general.architecture": "qwen3",
        "general.type": "model",
        "general.name": NAME,
        "general.size_label": "4M",
        "general.license": "apache-2.0",
        "general.description": DESCRIPTION,
        "general.languages": ["en"],
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": 2,
        "qwen3.block_count": config.layers,
        "qwen3.context_length": config.context,
        "qwen3.embedding_length": config.width,
        "qwen3.feed_forward_length": config.feed_forward,
        "qwen3.attention.head_count": config.heads,
        "qwen3.attention.head_count_kv": config.kv_heads,
        "qwen3.attention.key_length": config.head_size,
        "qwen3.attention.value_length": config.head_size,
        "qwen3.attention.layer_norm_rms_epsilon": config.epsilon,
        "qwen3.rope.freq_base": config.rope_base,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokenizer.tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in tokenizer.merges],
        "tokenizer.ggml.bos_token_id": tokenizer.ids["<|endoftext|>"],
        "tokenizer.ggml.eos_token_id": tokenizer.ids["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": tokenizer.ids["<|endoftext|>"],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template,
    }


def named_tensors(weights: Weights, config: Config) -> Weights:
    """The model's weights under GGUF names; joined matrices are split."""
    found = {
        "token_embd.weight": weights["embedding.weight"],
        "output_norm.weight": weights["norm.weight"],
    }
    keys = config.kv_heads * config.head_size
    for layer in range(config.layers):
        source, target = f"blocks.{layer}.", f"blk.{layer}."
        for name, part in _PARTS.items():
            found[f"{target}{part}.weight"] = weights[f"{source}{name}.weight"]
        queries = config.heads * config.head_size
        qkv = np.split(weights[f"{source}qkv.weight"], (queries, queries + keys))
        gate_up = np.split(weights[f"{source}gate_up.weight"], 2)
        for name, tensor in zip(
            ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"), (*qkv, *gate_up), strict=True
        ):
            found[f"{target}{name}.weight"] = tensor
    return found


def write(
    path: Path,
    weights: Weights,
    config: Config,
    tokenizer: Tokenizer,
    template: str,
    kind: str,
) -> None:
    """Write one file; norms stay f32, and the embedding (which is the output too) keeps 8 bits."""
    tensors = []
    for name, values in named_tensors(weights, config).items():
        chosen = "f32" if values.ndim == 1 else kind
        if name == "token_embd.weight" and kind.startswith("q4"):
            chosen = "q8_0"
        tensors.append(
            gguf_file.TensorData(name, values.shape, chosen, quantize.encode(chosen, values))
        )
    gguf_file.write(path, metadata(config, tokenizer, template, kind), tensors)
