"""How each weight format lies in GPU memory: two planes of u32 words, as its role file reads them.

The numbers here and the index arithmetic in ``shaders/quant/`` describe the same layout. A plane
``quants`` holds the codes, a plane ``scales`` what several codes share; rows are padded to whole
groups with zero weights. No format takes over 12 % more than in the file. Knows nothing of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import KernelError
from ...formats import grids
from ...formats.quant import QuantType


@dataclass(frozen=True)
class _Form:
    """Words of ``span`` consecutive columns."""

    group: int
    quant_span: int
    """Columns per ``quant_span_words`` words of the plane ``quants``."""
    quant_span_words: int
    scale_span: int = 32
    """Columns per ``scale_span_words`` words of the plane ``scales``."""
    scale_span_words: int = 0
    helpers: tuple[str, ...] = ()
    """Files of ``shaders/quant/`` that the role needs besides its own."""
    table: str | None = None


_HALF = ("half_scales",)
_POINTS = ("points",)
_FORMS: dict[str, _Form] = {
    "F32": _Form(8, 8, 8),
    "F16": _Form(8, 8, 4),
    "BF16": _Form(8, 8, 4),
    "Q4_0": _Form(32, 32, 4, 64, 1, _HALF),
    "Q4_1": _Form(32, 32, 4, 32, 1, ("pair_scales",)),
    "Q5_0": _Form(32, 32, 5, 64, 1, ("nibbles_bits", *_HALF)),
    "Q5_1": _Form(32, 32, 5, 32, 1, ("nibbles_bits", "pair_scales")),
    "Q8_0": _Form(32, 32, 8, 64, 1, _HALF),
    "Q2_K": _Form(16, 32, 2, 256, 5, ("two_bits",)),
    "Q3_K": _Form(16, 32, 3, 256, 5, ("two_bits",)),
    "Q4_K": _Form(32, 32, 4, 256, 5, ("k_scales",)),
    "Q5_K": _Form(32, 32, 5, 256, 5, ("nibbles_bits", "k_scales")),
    "Q6_K": _Form(16, 32, 6, 256, 5, ("two_bits",)),
    "IQ4_NL": _Form(32, 32, 4, 64, 1, ("levels", *_HALF)),
    "IQ4_XS": _Form(32, 32, 4, 256, 2, ("levels",)),
    "MXFP4": _Form(32, 32, 4, 128, 1, ("levels",)),
    "TQ1_0": _Form(32, 256, 13, 512, 1, _HALF),
    "TQ2_0": _Form(32, 32, 2, 512, 1, ("two_bits", *_HALF)),
    "IQ2_XXS": _Form(32, 32, 2, 512, 1, (*_POINTS, *_HALF), "iq2xxs"),
    "IQ2_XS": _Form(16, 32, 2, 256, 3, _POINTS, "iq2xs"),
    "IQ2_S": _Form(16, 32, 2, 256, 5, _POINTS, "iq2s"),
    "IQ3_XXS": _Form(32, 32, 3, 512, 1, (*_POINTS, *_HALF), "iq3xxs"),
    "IQ3_S": _Form(32, 32, 3, 256, 4, _POINTS, "iq3s"),
    "IQ1_S": _Form(32, 256, 12, 512, 1, _HALF, "iq1s"),
    "IQ1_M": _Form(16, 256, 12, 256, 3, (), "iq1s"),
}


@dataclass(frozen=True)
class Packing:
    """How one format lies in GPU memory."""

    quant: QuantType
    group: int
    """Columns that share a scale: 8, 16 or 32."""
    table: str | None
    """Name of the lookup table bound as ``table: array<u32>``, or None."""
    files: tuple[str, ...]
    """WGSL files (relative to ``shaders/``) that read this format."""
    has_scales: bool

    def quant_words(self, columns: int) -> int:
        """Return the u32 words of one row in the plane ``quants``."""
        form = _FORMS[self.quant.name]
        return -(-columns // form.quant_span) * form.quant_span_words

    def scale_words(self, columns: int) -> int:
        """Return the u32 words of one row in the plane ``scales``; 0: the format needs none."""
        form = _FORMS[self.quant.name]
        return -(-columns // form.scale_span) * form.scale_span_words

    def constants(self, columns: int) -> dict[str, int]:
        """Return the header constants that the role and layout files expect."""
        return {
            "QUANT_WORDS": self.quant_words(columns),
            "SCALE_WORDS": self.scale_words(columns),
        }


def packing(quant: QuantType) -> Packing:
    """Return how ``quant`` lies in GPU memory; KernelError for a format without kernels."""
    form = _FORMS.get(quant.name)
    if form is None:
        raise KernelError(f"There are no kernels for {quant.name} weights.", quant=quant.name)
    helpers = tuple(f"quant/{name}.wgsl" for name in form.helpers)
    files = ("quant/eight.wgsl", "quant/layout_rows.wgsl", *helpers, f"quant/{quant.role}.wgsl")
    return Packing(quant, form.group, form.table, files, form.scale_span_words > 0)


_TABLES: dict[str, Callable[[], bytes]] = {
    "iq2xxs": grids.iq2xxs_grid,
    "iq2xs": grids.iq2xs_grid,
    "iq2s": grids.iq2s_grid,
    "iq3xxs": grids.iq3xxs_grid,
    "iq3s": grids.iq3s_grid,
    "iq1s": grids.iq1s_grid,
}


def table_bytes(name: str) -> bytes:
    """Return the content of the lookup table ``name``: points of 8 or 4 bytes."""
    return _TABLES[name]()
