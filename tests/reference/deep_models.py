"""Small models of several layers in two formats, to be larger than a memory budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.reference.gguf_writer import write_gguf
from tests.reference.make_models import MODELS, draw, metadata, tensors

from tilewright.formats.quant import F32

LAYERS = 6


def write_deep(path: Path, name: str, *, layers: int = LAYERS, **sizes: int) -> Path:
    """Write ``name`` of ``make_models.MODELS`` with ``layers`` layers; return the path.

    Matrices are F16; of every other layer the down projection is F32, so that layers differ.
    """
    spec = replace(MODELS[name], layers=layers, **sizes)
    made = tensors(draw(spec, 5), "F16")
    for layer in range(0, layers, 2):
        for part in (f"blk.{layer}.ffn_down.weight", f"blk.{layer}.ffn_down_exps.weight"):
            if part in made:
                data, shape, _ = made[part]
                made[part] = (data.astype(np.float32), shape, F32)
    write_gguf(path, metadata(spec), made)
    return path
