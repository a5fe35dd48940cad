"""A Hugging Face ``config.json`` -> metadata under GGUF's keys.

Knows which architectures there are and what their settings are called, not how they compute. What
is written under which key follows llama.cpp's converter (``conversion/base.py`` and the file of
each architecture); keys that a config leaves out take transformers' defaults. A setting that the
GGUF architecture cannot express is refused rather than ignored.

Where the converter would change weights, this package leaves them and notes it in the metadata:
``tilewright.rope.neox`` (query and key rows are not permuted), ``tilewright.norm.add_one`` (norm
weights lack gemma's one), ``tilewright.rope.factors`` (llama 3's divisors of the frequencies).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import FormatError, UnsupportedModelError

Config = Mapping[str, Any]
Metadata = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """How one ``model_type`` of transformers is translated."""

    architecture: str
    """GGUF's ``general.architecture``."""
    names: str
    """Key of the tensor-name table in ``hf_names``."""
    defaults: Config = field(default_factory=dict)
    """What transformers assumes where the config is silent."""
    notes: tuple[str, ...] = ()
    """Flags ``tilewright.<note>`` that are set."""
    extend: Callable[[Config, Metadata, str], None] | None = None
    """Adds the settings that only this family has: ``extend(config, metadata, prefix)``."""
    activations: tuple[str, ...] = ("silu", "swish")


def translate_config(family: Family, config: Config) -> Metadata:
    """Return the metadata. FormatError where a setting is missing or absurd."""
    prefix = family.architecture
    metadata: Metadata = {"general.architecture": prefix}
    _sizes(config, metadata, prefix)
    _rope(config, metadata, prefix)
    _check_activation(family, config)
    for note in family.notes:
        metadata[f"tilewright.{note}"] = True
    if family.extend is not None:
        family.extend(config, metadata, prefix)
    return metadata


def first(config: Config, *keys: str) -> Any:
    """Return the value of the first of ``keys`` that the config has, else None."""
    return next((config[key] for key in keys if config.get(key) is not None), None)


def integer(config: Config, *keys: str) -> int:
    """Return a positive whole number that the config must have under one of ``keys``."""
    value = first(config, *keys)
    if type(value) is not int or not 0 < value < 2**31:
        raise FormatError(
            f"config.json must have a positive whole number {keys[0]!r}, not {str(value)[:40]!r}.",
            key=keys[0],
        )
    return value


def number(value: Any, key: str) -> float:
    """Return ``value`` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e30:
        raise FormatError(f"config.json's {key!r} must be a number, not {str(value)[:40]!r}.")
    if not math.isfinite(value):
        raise FormatError(f"config.json's {key!r} must be finite.", key=key)
    return float(value)


def _sizes(config: Config, metadata: Metadata, prefix: str) -> None:
    heads = integer(config, "num_attention_heads", "n_head")
    width = integer(config, "hidden_size", "n_embd")
    sizes = {
        "block_count": integer(config, "num_hidden_layers", "n_layer"),
        "context_length": integer(config, "max_position_embeddings", "n_ctx", "n_positions"),
        "embedding_length": width,
        "feed_forward_length": (
            integer(config, "intermediate_size", "n_inner")
            if first(config, "intermediate_size", "n_inner") is not None
            else 4 * width
        ),
        "attention.head_count": heads,
        "vocab_size": integer(config, "vocab_size"),
    }
    if first(config, "num_key_value_heads") is not None:
        sizes["attention.head_count_kv"] = integer(config, "num_key_value_heads")
    if first(config, "head_dim") is not None:
        sizes["attention.key_length"] = sizes["attention.value_length"] = integer(
            config, "head_dim"
        )
    if first(config, "num_local_experts", "num_experts") is not None:
        sizes["expert_count"] = integer(config, "num_local_experts", "num_experts")
        sizes["expert_used_count"] = integer(config, "num_experts_per_tok")
    metadata.update({f"{prefix}.{key}": value for key, value in sizes.items()})
    for key, names in (
        ("layer_norm_rms_epsilon", ("rms_norm_eps",)),
        ("layer_norm_epsilon", ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")),
    ):
        value = first(config, *names)
        if value is not None:
            metadata[f"{prefix}.attention.{key}"] = number(value, names[0])


def rope_parameters(config: Config) -> Config:
    """Return the rope settings, in the new or the old spelling; ``rope_theta`` included."""
    given = first(config, "rope_parameters", "rope_scaling") or {}
    if not isinstance(given, dict):
        raise FormatError("config.json's rope settings are not an object.")
    nested = given.get("full_attention", given)
    settings = dict(nested if isinstance(nested, dict) else {})
    local = given.get("sliding_attention")
    if isinstance(local, dict) and "rope_theta" in local:
        settings["rope_theta_local"] = local["rope_theta"]
    for key, names in (
        ("rope_theta", ("rope_theta", "rotary_emb_base")),
        ("rope_theta_local", ("rope_local_base_freq",)),
        ("partial_rotary_factor", ("partial_rotary_factor", "rope_pct")),
        ("original_max_position_embeddings", ("original_max_position_embeddings",)),
    ):
        value = first(config, *names)
        if key not in settings and value is not None:
            settings[key] = value
    settings.setdefault("rope_type", settings.get("type", "default"))
    return settings


def _rope(config: Config, metadata: Metadata, prefix: str) -> None:
    settings = rope_parameters(config)
    for key, name in (("rope_theta", "freq_base"), ("rope_theta_local", "freq_base_swa")):
        if settings.get(key) is not None:
            metadata[f"{prefix}.rope.{name}"] = number(settings[key], key)
    kind = settings["rope_type"]
    scaling = f"{prefix}.rope.scaling."
    if kind in ("linear", "yarn"):
        metadata[scaling + "type"] = kind
        metadata[scaling + "factor"] = number(settings.get("factor"), "factor")
        if kind == "yarn":
            original = settings.get(
                "original_max_position_embeddings", metadata[f"{prefix}.context_length"]
            )
            metadata[scaling + "original_context_length"] = integer(
                {"original": original}, "original"
            )
            for key, value in _YARN.items():
                if settings.get(key, value) != value:
                    raise UnsupportedModelError(f"YaRN with {key} other than {value} is unknown.")
    elif kind in ("longrope", "su"):
        metadata[scaling + "type"] = "longrope"
    elif kind == "llama3":
        metadata["tilewright.rope.factors"] = llama3_factors(config, settings)
    elif kind != "default":
        raise UnsupportedModelError(f"The rope scaling {str(kind)[:40]!r} is not supported.")


_YARN: Final = {
    **{"beta_fast": 32, "beta_slow": 1, "extrapolation_factor": 1},
    **{"attention_factor": None, "mscale": None, "mscale_all_dim": None, "truncate": True},
}


def llama3_factors(config: Config, settings: Config) -> list[float]:
    """Return the divisor of each frequency, ``f32[E/2]``.

    Long wavelengths are stretched by ``factor``, short ones kept, those between interpolated
    (Llama 3.1; transformers ``_compute_llama3_parameters``).
    """
    dimensions = first(config, "head_dim") or integer(config, "hidden_size") // integer(
        config, "num_attention_heads"
    )
    base = number(settings.get("rope_theta", 10000.0), "rope_theta")
    factor = number(settings.get("factor", 8.0), "factor")
    low = number(settings.get("low_freq_factor", 1.0), "low_freq_factor")
    high = number(settings.get("high_freq_factor", 4.0), "high_freq_factor")
    context = number(settings.get("original_max_position_embeddings", 8192), "original context")
    if type(dimensions) is not int or not 0 < dimensions <= 65536:
        raise FormatError("config.json's head size is absurd.")
    if min(base, factor, low, context) <= 0 or high <= low:
        raise FormatError("config.json's rope scaling has factors that make no sense.")
    factors = []
    for pair in range(0, dimensions, 2):
        wavelength = 2 * math.pi * base ** (pair / dimensions)
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _check_activation(family: Family, config: Config) -> None:
    # gemma's files say hidden_activation beside a hidden_act that is not used
    given = first(config, "hidden_activation", "hidden_act", "activation_function")
    if given is not None and given not in family.activations:
        raise UnsupportedModelError(
            f"The activation {str(given)[:40]!r} is not supported for {family.architecture}."
        )


def require(config: Config, key: str, value: Any) -> None:
    """Refuse a config whose ``key`` is there and other than ``value``."""
    if key in config and config[key] != value:
        raise UnsupportedModelError(
            f"config.json has {key} = {str(config[key])[:40]}; only {value} is supported."
        )
