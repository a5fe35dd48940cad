"""Writes ``hf_names.json``: what llama.cpp's name tables make of Hugging Face tensor names.

The Hugging Face names are those of transformers' modules, written down by hand; the GGUF names come
from ``gguf.get_tensor_name_map`` (llama.cpp's, MIT). Run by hand where ``gguf`` is installed. What
the converter changes before it looks a name up is left out here: stacked experts and heads, fused
halves, the prefixes ``bert.`` and ``language_model.``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import gguf

TOP = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
PROJECTIONS = [f"self_attn.{part}_proj.weight" for part in "qkvo"]
BIASES = [f"self_attn.{part}_proj.bias" for part in "qkv"]
HEAD_NORMS = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"]
GATED = [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
NORMS = ["input_layernorm.weight", "post_attention_layernorm.weight"]
SANDWICH = ["pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"]
LLAMA = [*PROJECTIONS, *GATED, *NORMS]


def layers(names: list[str], stem: str = "model.layers.1.") -> list[str]:
    return [stem + name for name in names]


NAMES: dict[str, tuple[str, list[str]]] = {
    "llama": ("llama", [*TOP, *layers([*LLAMA, *BIASES, "self_attn.o_proj.bias"])]),
    "qwen2": ("qwen2", [*TOP, *layers([*LLAMA, *BIASES])]),
    "qwen3": ("qwen3", [*TOP, *layers([*LLAMA, *HEAD_NORMS])]),
    "gemma2": ("gemma2", [*TOP[:2], *layers([*LLAMA, *SANDWICH])]),
    "gemma3_text": ("gemma3", [*TOP[:2], *layers([*LLAMA, *SANDWICH, *HEAD_NORMS])]),
    "phi3": (
        "phi3",
        [
            *TOP,
            *layers(
                [
                    *("self_attn.qkv_proj.weight", "self_attn.o_proj.weight"),
                    *("mlp.gate_up_proj.weight", "mlp.down_proj.weight", *NORMS),
                ]
            ),
        ],
    ),
    "granite": ("granite", [*TOP, *layers(LLAMA)]),
    "granitemoe": (
        "granitemoe",
        [
            *TOP,
            *layers(
                [
                    *(*PROJECTIONS, *NORMS, "block_sparse_moe.router.layer.weight"),
                    *("block_sparse_moe.output_linear.weight", "shared_mlp.output_linear.weight"),
                ]
            ),
        ],
    ),
    "smollm3": ("smollm3", [*TOP, *layers(LLAMA)]),
    "olmo2": (
        "olmo2",
        [*TOP, *layers([*PROJECTIONS, *HEAD_NORMS, *GATED, NORMS[1], SANDWICH[1]])],
    ),
    "olmoe": (
        "olmoe",
        [*TOP, *layers([*PROJECTIONS, *HEAD_NORMS, *NORMS, "mlp.gate.weight"])],
    ),
    "qwen2_moe": (
        "qwen2moe",
        [
            *TOP,
            *layers([*PROJECTIONS, *BIASES, *NORMS, "mlp.gate.weight"]),
            *layers([f"mlp.shared_expert.{part}_proj.weight" for part in ("gate", "up", "down")]),
            *layers(["mlp.shared_expert_gate.weight"]),
        ],
    ),
    "qwen3_moe": (
        "qwen3moe",
        [*TOP, *layers([*PROJECTIONS, *HEAD_NORMS, *NORMS, "mlp.gate.weight"])],
    ),
    "starcoder2": (
        "starcoder2",
        [
            *(*TOP, "model.norm.bias"),
            *layers([*PROJECTIONS, *BIASES, "self_attn.o_proj.bias"]),
            *layers(["mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"]),
            *layers([*NORMS, "input_layernorm.bias", "post_attention_layernorm.bias"]),
        ],
    ),
    "stablelm": (
        "stablelm",
        [
            *(*TOP, "model.norm.bias"),
            *layers([*LLAMA, *BIASES, "input_layernorm.bias", "post_attention_layernorm.bias"]),
        ],
    ),
    "gpt2": (
        "gpt2",
        [
            *("transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight"),
            *("transformer.ln_f.bias", "lm_head.weight"),
            *(
                f"transformer.h.1.{name}.{kind}"
                for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
                for kind in ("weight", "bias")
            ),
        ],
    ),
    "bert": (
        "bert",
        [
            *(
                f"embeddings.{name}_embeddings.weight"
                for name in ("word", "position", "token_type")
            ),
            *("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"),
            *(
                f"encoder.layer.1.{name}.{kind}"
                for name in (
                    *("attention.self.query", "attention.self.key", "attention.self.value"),
                    *("attention.output.dense", "attention.output.LayerNorm"),
                    *("intermediate.dense", "output.dense", "output.LayerNorm"),
                )
                for kind in ("weight", "bias")
            ),
        ],
    ),
    "nomic_bert": (
        "nomic-bert",
        [
            "embeddings.word_embeddings.weight",
            "embeddings.token_type_embeddings.weight",
            *("emb_ln.weight", "emb_ln.bias"),
            *layers(
                [
                    *("attn.Wqkv.weight", "attn.out_proj.weight", "mlp.fc11.weight"),
                    *("mlp.fc12.weight", "mlp.fc2.weight", "norm1.weight", "norm1.bias"),
                    *("norm2.weight", "norm2.bias"),
                ],
                "encoder.layers.1.",
            ),
        ],
    ),
}


def main() -> None:
    architectures = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    cases = {}
    for kind, (architecture, names) in NAMES.items():
        table = gguf.get_tensor_name_map(architectures[architecture], 2)
        cases[kind] = {name: table.get_name(name, (".weight", ".bias")) for name in names}
    golden = {
        "provenance": f"gguf {version('gguf')} (PyPI), get_tensor_name_map; made by "
        "make_hf_names.py",
        "cases": cases,
    }
    Path(__file__).with_name("hf_names.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
