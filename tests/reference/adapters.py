"""Random LoRA adapters, as llama.cpp's GGUF and as PEFT folders, and models with them merged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.gguf_writer import gguf_bytes
from tests.reference.safetensors_writer import safetensors_bytes

from tilewright.formats.model_file import ModelFile
from tilewright.formats.quant import BY_NAME

Floats = NDArray[np.float32]
Pairs = dict[str, tuple[Floats, Floats]]
"""Tensor -> A ``[rank, K]``, B ``[N, rank]``."""


def draw_pairs(
    file: ModelFile, parts: Sequence[str], rank: int, seed: int, layers: Sequence[int] = (0, 1)
) -> Pairs:
    """Draw the changes of some matrices; large enough to change every logit."""
    generator = np.random.default_rng(seed)
    found: Pairs = {}
    for layer in layers:
        for part in parts:
            info = file.tensor(f"blk.{layer}.{part}.weight")
            a = generator.standard_normal((rank, info.columns)) / np.sqrt(info.columns)
            b = generator.standard_normal((info.rows, rank)) / np.sqrt(rank)
            found[info.name] = (
                a.astype(np.float16).astype(np.float32),
                b.astype(np.float16).astype(np.float32),
            )
    return found


def adapter_gguf(architecture: str, pairs: Pairs, alpha: float, kind: str = "F32") -> bytes:
    """Return the adapter as llama.cpp's converter writes it."""
    tensors: dict[str, Any] = {}
    dtype = {"F32": np.float32, "F16": np.float16}[kind]
    for name, (a, b) in pairs.items():
        tensors[f"{name}.lora_a"] = (a.astype(dtype), a.shape, BY_NAME[kind])
        tensors[f"{name}.lora_b"] = (b.astype(dtype), b.shape, BY_NAME[kind])
    metadata = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
    }
    return gguf_bytes(metadata, tensors)


_PEFT = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_peft(folder: Path, pairs: Pairs, config: Mapping[str, Any]) -> None:
    """Write adapter_model.safetensors (F16) and adapter_config.json."""
    tensors = {}
    for name, sides in pairs.items():
        _, layer, part, _ = name.split(".")
        for side, values in zip("AB", sides, strict=True):
            full = f"base_model.model.model.layers.{layer}.{_PEFT[part]}.lora_{side}.weight"
            tensors[full] = ("F16", values.shape, values.astype(np.float16).tobytes())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))


def merged(
    tensors: Mapping[str, NDArray[Any]], pairs: Pairs, scale: float
) -> dict[str, NDArray[np.float64]]:
    """Return the weights with the changes added."""
    found = {name: values.astype(np.float64) for name, values in tensors.items()}
    for name, (a, b) in pairs.items():
        found[name] = found[name] + scale * (b.astype(np.float64) @ a.astype(np.float64))
    return found
