"""A tiny safetensors writer, and a small Hugging Face model made with it, for tests."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = tuple[str, tuple[int, ...], bytes]
"""Type as safetensors writes it (``BF16``), shape, bytes."""


def safetensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a .safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, (dtype, shape, raw) in tensors.items():
        places = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": places}
        data += raw
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + bytes(data)


def array_tensor(array: NDArray[Any]) -> Tensor:
    """Return float32 or float16 values as a tensor."""
    dtype = {"float32": "F32", "float16": "F16"}[array.dtype.name]
    return dtype, array.shape, np.ascontiguousarray(array).tobytes()


def huggingface_files() -> dict[str, bytes]:
    """Return the files of a llama with two layers, width 16 and random weights."""
    generator = np.random.default_rng(5)

    def weights(*shape: int) -> Tensor:
        return array_tensor(generator.standard_normal(shape).astype(np.float16))

    tensors = {"model.embed_tokens.weight": weights(32, 16), "model.norm.weight": weights(16)}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        for name, shape in (
            ("self_attn.q_proj", (16, 16)),
            ("self_attn.k_proj", (8, 16)),
            ("self_attn.v_proj", (8, 16)),
            ("self_attn.o_proj", (16, 16)),
            ("mlp.gate_proj", (24, 16)),
            ("mlp.up_proj", (24, 16)),
            ("mlp.down_proj", (16, 24)),
            ("input_layernorm", (16,)),
            ("post_attention_layernorm", (16,)),
        ):
            tensors[f"{prefix}{name}.weight"] = weights(*shape)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "vocab_size": 32,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "tie_word_embeddings": True,
    }
    vocabulary = {chr(97 + index) if index < 26 else f"<{index}>": index for index in range(32)}
    tokenizer = {"version": "1.0", "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
    settings = {"bos_token": "<26>", "chat_template": "{{ messages[0].content }}"}
    return {
        "model.safetensors": safetensors_bytes(tensors),
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }
