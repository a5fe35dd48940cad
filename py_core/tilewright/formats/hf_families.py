"""The families of Hugging Face models that can be read: one row of data each, and their own keys.

Adding one is a row in ``FAMILIES``, a table of tensor names in ``hf_names`` where the names are
new, and a function for settings that no other family has. Sources as in ``hf_config``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import UnsupportedModelError
from .hf_config import (
    Config,
    Family,
    Metadata,
    first,
    integer,
    number,
    require,
    rope_parameters,
)


def read_family(config: Config, file: str) -> tuple[Family, Config]:
    """Return the family and its settings, nested text settings and defaults merged in.

    Raises UnsupportedModelError for an unknown ``model_type``.
    """
    text = config.get("text_config")
    if isinstance(text, dict):
        config = {**config, **text}
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UnsupportedModelError(
            f"{file}: models of the type {str(kind)[:64]!r} are not supported; known are "
            f"{', '.join(sorted(FAMILIES))}.",
            model_type=str(kind)[:64],
            known=sorted(FAMILIES),
        )
    family = FAMILIES[kind]
    return family, {**family.defaults, **{k: v for k, v in config.items() if v is not None}}


def _rope_width(config: Config, metadata: Metadata, prefix: str) -> None:
    """``rope.dimension_count``: the part of each head that is rotated."""
    head = first(config, "head_dim") or integer(config, "hidden_size") // integer(
        config, "num_attention_heads"
    )
    share = number(rope_parameters(config).get("partial_rotary_factor", 1.0), "partial_rotary")
    metadata[f"{prefix}.rope.dimension_count"] = integer({"rotated": int(share * head)}, "rotated")


def _windows(config: Config, metadata: Metadata, prefix: str) -> None:
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        metadata[f"{prefix}.attention.sliding_window_pattern"] = [
            kind == "sliding_attention" for kind in kinds
        ]
    elif type(config.get("sliding_window_pattern")) is int:
        metadata[f"{prefix}.attention.sliding_window_pattern"] = config["sliding_window_pattern"]


def _gemma(config: Config, metadata: Metadata, prefix: str) -> None:
    layers = metadata[f"{prefix}.block_count"]
    heads, width = (
        metadata[f"{prefix}.attention.head_count"],
        metadata[f"{prefix}.embedding_length"],
    )
    head = width // heads if layers == _LAYERS_27B[prefix] else config["head_dim"]
    require(config, "query_pre_attn_scalar", head)
    _windows(config, metadata, prefix)
    for key, name in (
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ):
        if config.get(key):
            metadata[f"{prefix}.{name}"] = number(config[key], key)
    if config.get("sliding_window") and config.get("sliding_window_pattern") != 1:
        metadata[f"{prefix}.attention.sliding_window"] = integer(config, "sliding_window")


_LAYERS_27B: Final = {"gemma2": 46, "gemma3": 62}


def _phi3(config: Config, metadata: Metadata, prefix: str) -> None:
    _rope_width(config, metadata, prefix)
    original = integer(rope_parameters(config), "original_max_position_embeddings")
    metadata[f"{prefix}.rope.scaling.original_context_length"] = original
    window = first(config, "sliding_window")
    metadata[f"{prefix}.attention.sliding_window"] = window if type(window) is int else 0
    if metadata.get(f"{prefix}.rope.scaling.type") == "longrope":
        stretch = metadata[f"{prefix}.context_length"] / original
        metadata[f"{prefix}.rope.scaling.attn_factor"] = (
            math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
        )


def _granite(config: Config, metadata: Metadata, prefix: str) -> None:
    _rope_width(config, metadata, prefix)
    for key, name in (
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ):
        metadata[f"{prefix}.{name}"] = number(config[key], key)
    if config.get("shared_intermediate_size"):
        metadata[f"{prefix}.expert_shared_feed_forward_length"] = integer(
            config, "shared_intermediate_size"
        )


def _smollm3(config: Config, metadata: Metadata, prefix: str) -> None:
    _rope_width(config, metadata, prefix)
    layers = metadata[f"{prefix}.block_count"]
    # llama.cpp's smollm3 leaves the rotation out in every fourth layer, without a key for it
    require(config, "no_rope_layer_interval", 4)
    require(config, "no_rope_layers", [int((layer + 1) % 4 != 0) for layer in range(layers)])


def _olmo2(config: Config, metadata: Metadata, prefix: str) -> None:
    if "sliding_window" in config:
        metadata[f"{prefix}.attention.sliding_window"] = integer(config, "sliding_window")
        _windows(config, metadata, prefix)


def _stablelm(config: Config, metadata: Metadata, prefix: str) -> None:
    _rope_width(config, metadata, prefix)
    metadata[f"{prefix}.use_parallel_residual"] = bool(config["use_parallel_residual"])


def _experts(normalised: bool) -> Callable[[Config, Metadata, str], None]:
    def extend(config: Config, metadata: Metadata, prefix: str) -> None:
        require(config, "norm_topk_prob", normalised)
        require(config, "decoder_sparse_step", 1)
        require(config, "mlp_only_layers", [])
        for key, name in (
            ("moe_intermediate_size", "expert_feed_forward_length"),
            ("shared_expert_intermediate_size", "expert_shared_feed_forward_length"),
        ):
            if config.get(key):
                metadata[f"{prefix}.{name}"] = integer(config, key)

    return extend


def _bert(config: Config, metadata: Metadata, prefix: str) -> None:
    require(config, "position_embedding_type", "absolute")
    _encoder(config, metadata, prefix)


def _nomic_bert(config: Config, metadata: Metadata, prefix: str) -> None:
    for key, value in _NOMIC.items():
        require(config, key, value)
    # trained on shorter texts than the config says (conversion/bert.py)
    if metadata[f"{prefix}.context_length"] == 8192:
        metadata[f"{prefix}.context_length"] = config.get("max_trained_positions", 2048)
    _encoder(config, metadata, prefix)


_NOMIC: Final = {
    "prenorm": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "moe_every_n_layers": 0,
}


def _encoder(config: Config, metadata: Metadata, prefix: str) -> None:
    metadata[f"{prefix}.attention.causal"] = False
    metadata["tokenizer.ggml.token_type_count"] = integer(config, "type_vocab_size")


_LLAMA: Final = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 2048}
_GELU_TANH: Final = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")

FAMILIES: Final[Mapping[str, Family]] = {
    "llama": Family("llama", "llama", _LLAMA, ("rope.neox",), _rope_width),
    "mistral": Family(
        "llama",
        "llama",
        {**_LLAMA, "num_key_value_heads": 8, "max_position_embeddings": 131072},
        ("rope.neox",),
        _rope_width,
    ),
    "mixtral": Family(
        "llama",
        "llama",
        {
            **{"rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_position_embeddings": 131072},
            **{"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
        },
        ("rope.neox",),
        _rope_width,
    ),
    "qwen2": Family("qwen2", "llama", {**_LLAMA, "max_position_embeddings": 32768}),
    "qwen3": Family("qwen3", "llama", {**_LLAMA, "head_dim": 128}),
    "gemma2": Family(
        "gemma2",
        "gemma",
        {
            **{"head_dim": 256, "num_key_value_heads": 4, "num_attention_heads": 8},
            **{"rms_norm_eps": 1e-6, "max_position_embeddings": 8192, "sliding_window": 4096},
            **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        },
        ("norm.add_one",),
        _gemma,
        _GELU_TANH,
    ),
    **dict.fromkeys(
        ("gemma3_text", "gemma3"),
        Family(
            "gemma3",
            "gemma",
            {
                **{"head_dim": 256, "num_key_value_heads": 4, "num_attention_heads": 8},
                **{"rms_norm_eps": 1e-6, "max_position_embeddings": 131072, "rope_theta": 1e6},
                **{"sliding_window": 4096, "vocab_size": 262208, "rope_local_base_freq": 1e4},
            },
            ("norm.add_one",),
            _gemma,
            _GELU_TANH,
        ),
    ),
    "phi3": Family(
        "phi3",
        "llama",
        {
            **{"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096},
            "original_max_position_embeddings": 4096,
        },
        (),
        _phi3,
    ),
    **{
        kind: Family(
            architecture,
            "llama",
            {
                **_LLAMA,
                **{"attention_multiplier": 1.0, "embedding_multiplier": 1.0},
                **{"residual_multiplier": 1.0, "logits_scaling": 1.0},
            },
            ("rope.neox",),
            _granite,
        )
        for kind, architecture in (
            ("granite", "granite"),
            ("granitemoe", "granitemoe"),
            ("granitemoeshared", "granitemoe"),
        )
    },
    "smollm3": Family(
        "smollm3",
        "llama",
        {
            **{"rms_norm_eps": 1e-6, "rope_theta": 2e6, "max_position_embeddings": 32768},
            "num_key_value_heads": 4,
        },
        ("rope.neox",),
        _smollm3,
    ),
    "olmo2": Family("olmo2", "olmo2", {**_LLAMA, "rms_norm_eps": 1e-5}, (), _olmo2),
    "olmo3": Family(
        "olmo2", "olmo2", {**_LLAMA, "rms_norm_eps": 1e-5, "sliding_window": 4096}, (), _olmo2
    ),
    "olmoe": Family("olmoe", "llama", {**_LLAMA, "rms_norm_eps": 1e-5}, (), _experts(False)),
    "qwen2_moe": Family(
        "qwen2moe", "llama", {**_LLAMA, "max_position_embeddings": 32768}, (), _experts(False)
    ),
    "qwen3_moe": Family(
        "qwen3moe",
        "llama",
        {**_LLAMA, "head_dim": 128, "max_position_embeddings": 32768},
        (),
        _experts(True),
    ),
    "starcoder2": Family(
        "starcoder2",
        "llama",
        {
            **{"norm_epsilon": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096},
            "num_key_value_heads": 2,
        },
        (),
        None,
        _GELU_TANH,
    ),
    "gpt2": Family("gpt2", "gpt2", {"layer_norm_epsilon": 1e-5}, (), None, _GELU_TANH),
    "stablelm": Family(
        "stablelm",
        "llama",
        {
            **{"layer_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096},
            **{"partial_rotary_factor": 0.25, "use_parallel_residual": False},
        },
        (),
        _stablelm,
    ),
    "bert": Family(
        "bert",
        "bert",
        {"layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2},
        (),
        _bert,
        ("gelu", *_GELU_TANH),
    ),
    "nomic_bert": Family(
        "nomic-bert",
        "nomic_bert",
        {"layer_norm_epsilon": 1e-12, "rotary_emb_base": 10000.0, "type_vocab_size": 2},
        (),
        _nomic_bert,
        ("swiglu",),
    ),
}
"""By ``model_type``."""
