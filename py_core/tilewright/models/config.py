"""The numbers that describe a model, read from GGUF metadata and checked.

Everything here comes from an untrusted file: each count has a range and each float must be finite,
or FormatError is raised. Which keys there are and what they default to follows llama.cpp
(``llama-model.cpp``, ``llama_model_base::load_hparams``). This module knows nothing of graphs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FormatError
from ..formats.model_file import ModelFile

MAX_LAYERS = 512
MAX_EXPERTS = 1024
_MAX_COUNT = 2**31 - 1


class Metadata:
    """The keys ``<architecture>.*`` of a model file, with ranges checked."""

    def __init__(self, model_file: ModelFile) -> None:
        self._file = model_file
        self.architecture = model_file.architecture

    def has(self, suffix: str) -> bool:
        """Whether the key is there."""
        return self._key(suffix) in self._file.metadata

    def count(
        self, suffix: str, default: int | None = None, *, low: int = 1, high: int = _MAX_COUNT
    ) -> int:
        """Return an integer in ``low .. high``."""
        return self._checked(self._key(suffix), self._raw(suffix, default), low, high)

    def per_layer(
        self, suffix: str, layers: int, default: int | None = None, *, low: int = 1
    ) -> tuple[int, ...]:
        """Return one integer per layer; the file may give a single number for all of them."""
        key, value = self._key(suffix), self._raw(suffix, default)
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            if len(value) < layers:
                raise FormatError(
                    f"The metadata key {key!r} has {len(value)} numbers for {layers} layers.",
                    key=key,
                )
            return tuple(self._checked(key, item, low, _MAX_COUNT) for item in value[:layers])
        return (self._checked(key, value, low, _MAX_COUNT),) * layers

    def number(self, suffix: str, default: float | None = None, *, low: float = 0.0) -> float:
        """Return a finite float of at least ``low``."""
        value = self._file.number(self._key(suffix), default)
        if not math.isfinite(value) or value < low:
            raise FormatError(
                f"The metadata key {self._key(suffix)!r} is {value}, which no model has: the file "
                "is damaged.",
                key=self._key(suffix),
            )
        return value

    def flag(self, suffix: str, default: bool) -> bool:
        """Return a boolean."""
        return self._file.flag(self._key(suffix), default)

    def text(self, suffix: str, default: str) -> str:
        """Return a string."""
        return self._file.text(self._key(suffix), default)

    def flags_or_count(self, suffix: str, default: int) -> tuple[bool, ...] | int:
        """Return booleans (one per layer) or a number, whichever the file has."""
        value = self._raw(suffix, default)
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return tuple(bool(item) for item in value)
        return self._checked(self._key(suffix), value, 0, _MAX_COUNT)

    def _key(self, suffix: str) -> str:
        return f"{self.architecture}.{suffix}"

    def _raw(self, suffix: str, default: Any) -> Any:
        value = self._file.metadata.get(self._key(suffix), default)
        if value is None:
            raise FormatError(
                f"The model file lacks the metadata key {self._key(suffix)!r}: it is incomplete.",
                key=self._key(suffix),
            )
        return value

    def _checked(self, key: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise FormatError(
                f"The metadata key {key!r} is {str(value)[:40]}, but must be a whole number "
                f"from {low} to {high}: the file is damaged.",
                key=key,
            )
        return value


@dataclass(frozen=True)
class Config:
    """Sizes of a model. Per-layer numbers are tuples of length ``layers``."""

    metadata: Metadata
    layers: int
    width: int
    """D"""
    heads: tuple[int, ...]
    """H"""
    kv_heads: tuple[int, ...]
    """K"""
    head_size: int
    """E: elements of a query or key head."""
    value_size: int
    """Elements of a value head."""
    feed_forward: tuple[int, ...]
    """F; 0 where the file gives none."""
    epsilon: float
    layer_norm: bool
    """True: layer norms. False: RMS norms."""
    causal: bool
    experts: int
    """0: dense."""
    experts_used: tuple[int, ...]


def read_config(
    model_file: ModelFile, *, layer_norm: bool = False, encoder: bool = False
) -> Config:
    """Read and check the sizes; FormatError where they are absurd.

    Encoders are never causal, whatever the file says (llama.cpp: ``llama_context::encode``).
    """
    metadata = Metadata(model_file)
    blocks = metadata.count("block_count", high=MAX_LAYERS)
    layers = blocks - metadata.count("nextn_predict_layers", 0, low=0, high=blocks - 1)
    width = metadata.count("embedding_length")
    heads = metadata.per_layer("attention.head_count", layers)
    kv_heads = (
        metadata.per_layer("attention.head_count_kv", layers)
        if metadata.has("attention.head_count_kv")
        else heads
    )
    for query, key in zip(heads, kv_heads, strict=True):
        if query % key:
            raise FormatError(f"{query} query heads cannot share {key} key heads evenly.")
    head_size = metadata.count("attention.key_length", max(width // heads[0], 1))
    value_size = metadata.count("attention.value_length", max(width // heads[0], 1))
    if not metadata.has("attention.key_length") and width % heads[0]:
        raise FormatError(f"{heads[0]} heads do not divide the embedding length {width}.")
    experts = metadata.count("expert_count", 0, low=0, high=MAX_EXPERTS)
    used = metadata.per_layer("expert_used_count", layers, 0, low=0)
    if any(not (0 < count <= experts if experts else count == 0) for count in used):
        raise FormatError(f"{max(used)} of {experts} experts cannot be used: the file is damaged.")
    kind = "layer_norm_epsilon" if layer_norm else "layer_norm_rms_epsilon"
    return Config(
        metadata=metadata,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        value_size=value_size,
        feed_forward=metadata.per_layer("feed_forward_length", layers, 0, low=0),
        epsilon=metadata.number(f"attention.{kind}"),
        layer_norm=layer_norm,
        causal=metadata.flag("attention.causal", True) and not encoder,
        experts=experts,
        experts_used=used,
    )
