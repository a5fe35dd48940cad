"""Rotary embedding: every variant that model files ask for, resolved to a table of frequencies.

The angle of pair i at position p is p * frequency[i] in all of them, so base, linear scaling, YaRN,
llama 3's and longrope's factors only change the numbers in that table and the common factor of
cosine and sine. Computed in double precision. Sources of the formulas: YaRN, arXiv 2309.00071;
llama.cpp's ``rope_yarn`` (ggml-cpu/ops.cpp), ``ggml_rope_yarn_corr_dims`` (ggml.c) and the
attention factor in ``llama-context.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import FormatError
from ..graph.ops import RopeTable
from .config import Config, Metadata

LLAMA3_FACTORS = "rope_freqs.weight"
LONG_FACTORS = "rope_factors_long.weight"
SHORT_FACTORS = "rope_factors_short.weight"

_BETA_FAST, _BETA_SLOW = 32.0, 1.0
"""Rotations over the original context that bound YaRN's ramp."""
_LEAST_SCALING = 0.01


@dataclass(frozen=True)
class RopeSettings:
    """What the metadata says about the rotation."""

    dimensions: int
    """Elements of a head that are rotated."""
    base: float
    base_local: float
    """Base of sliding-window layers (``rope.freq_base_swa``)."""
    scaling: str
    """``none``, ``linear``, ``yarn`` or ``longrope``."""
    scale: float
    """Factor on the angles: one over ``rope.scaling.factor``."""
    original_context: int
    attention_factor: float
    interleaved: bool
    factors: tuple[float, ...] | None = None
    """Divisors of the frequencies, one per pair."""


def read_rope(config: Config, *, interleaved: bool, base_local: float = 10000.0) -> RopeSettings:
    """Read ``rope.*``.

    ``interleaved`` is how GGUF files of the architecture pair the elements; a converted
    safetensors model says ``tilewright.rope.neox`` where it keeps the halves apart.
    ``base_local`` is the default base of sliding-window layers.
    """
    metadata = config.metadata
    dimensions = metadata.count("rope.dimension_count", config.head_size, high=config.head_size)
    if dimensions % 2:
        raise FormatError(f"The rotation cannot pair {dimensions} elements of a head.")
    scaling = metadata.text("rope.scaling.type", "linear")
    if scaling not in ("none", "linear", "yarn", "longrope"):
        raise FormatError(f"The rope scaling type {scaling[:40]!r} is not known.", scaling=scaling)
    key = "rope.scaling.factor" if metadata.has("rope.scaling.factor") else "rope.scale_linear"
    factor = metadata.number(key, 0.0)
    if 0.0 < factor < _LEAST_SCALING:
        raise FormatError(f"The rope scaling factor {factor} is too small: the file is damaged.")
    trained_context = metadata.count("context_length")
    return RopeSettings(
        dimensions=dimensions,
        base=_base(metadata, "rope.freq_base", 10000.0),
        base_local=_base(metadata, "rope.freq_base_swa", base_local),
        scaling=scaling,
        scale=1.0 / factor if factor else 1.0,
        original_context=(
            metadata.count("rope.scaling.original_context_length", 0, low=0) or trained_context
        ),
        attention_factor=metadata.number("rope.scaling.attn_factor", 1.0),
        interleaved=interleaved,
    )


def with_factors(settings: RopeSettings, values: Sequence[float], name: str) -> RopeSettings:
    """Return ``settings`` whose frequencies are divided by ``values``; FormatError if unusable."""
    if len(values) != settings.dimensions // 2:
        raise FormatError(
            f"{name!r} has {len(values)} rope factors for {settings.dimensions // 2} pairs."
        )
    if not all(math.isfinite(value) and value > 0.0 for value in values):
        raise FormatError(f"{name!r} has rope factors that are not positive numbers.")
    return replace(settings, factors=tuple(float(value) for value in values))


def choose_factors(
    settings: RopeSettings,
    constants: Mapping[str, Sequence[float]],
    context_length: int,
    *,
    llama3: bool,
    longrope: bool,
) -> RopeSettings:
    """Apply the factors that the file holds, if the architecture reads them.

    Contexts longer than the original one take the long factors, as in llama.cpp
    (``llama_model::get_rope_factors``).
    """
    if llama3 and LLAMA3_FACTORS in constants:
        return with_factors(settings, constants[LLAMA3_FACTORS], LLAMA3_FACTORS)
    name = LONG_FACTORS if context_length > settings.original_context else SHORT_FACTORS
    if longrope and name in constants:
        return with_factors(settings, constants[name], name)
    return settings


def rope_table(settings: RopeSettings) -> RopeTable:
    """Return the table of ordinary layers."""
    scale = 1.0 if settings.scaling == "none" else settings.scale
    return _table(settings, settings.base, scale, yarn=settings.scaling == "yarn")


def local_rope_table(settings: RopeSettings, *, scale: float = 1.0) -> RopeTable:
    """Return the table of sliding-window layers: own base, not scaled along with the context."""
    return _table(settings, settings.base_local, scale, yarn=settings.scaling == "yarn")


def plain_rope_table(settings: RopeSettings) -> RopeTable:
    """Return a table without any scaling."""
    return _table(replace(settings, attention_factor=1.0), settings.base, 1.0, yarn=False)


def _table(settings: RopeSettings, base: float, scale: float, *, yarn: bool) -> RopeTable:
    pairs = settings.dimensions // 2
    factors = settings.factors or (1.0,) * pairs
    low, high = _yarn_ramp(settings, base) if yarn else (0.0, 0.0)
    frequencies = []
    for pair in range(pairs):
        frequency = base ** (-2.0 * pair / settings.dimensions) / factors[pair]
        if yarn:
            ramp = 1.0 - min(1.0, max(0.0, (pair - low) / max(0.001, high - low)))
            frequency *= scale * (1.0 - ramp) + ramp
        else:
            frequency *= scale
        frequencies.append(frequency)
    magnitude = settings.attention_factor
    if yarn:
        # Sharpness over a stretched context: 0.1 ln(stretch) + 1. llama.cpp takes the model's
        # stretch out of its factor first, and the layer's own stretch in again in the kernel.
        stretch = 1.0 / settings.scale
        magnitude *= max(1.0, 1.0 + 0.1 * math.log(stretch)) / (1.0 + 0.1 * math.log(stretch))
        magnitude *= 1.0 + 0.1 * math.log(1.0 / scale)
    return RopeTable(tuple(frequencies), magnitude, settings.interleaved)


def _yarn_ramp(settings: RopeSettings, base: float) -> tuple[float, float]:
    """Return the pairs between which YaRN goes over from keeping to stretching."""

    def pair_of(rotations: float) -> float:
        ratio = settings.original_context / (rotations * 2.0 * math.pi)
        return settings.dimensions * math.log(ratio) / (2.0 * math.log(base))

    low, high = math.floor(pair_of(_BETA_FAST)), math.ceil(pair_of(_BETA_SLOW))
    return max(0.0, low), min(settings.dimensions - 1.0, high)


def _base(metadata: Metadata, suffix: str, default: float) -> float:
    value = metadata.number(suffix, default)
    if value <= 1.0:
        raise FormatError(f"The rope base {value} is not above 1: the file is damaged.")
    return value
