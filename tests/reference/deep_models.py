"""Small models of several layers in two formats, to be larger than a memory budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.reference.encode import encode
from tests.reference.gguf_writer import write_gguf
from tests.reference.make_models import MODELS, draw, metadata, tensors

from tilewright.formats.quant import BY_NAME, F32

LAYERS = 6


def write_deep(
    path: Path, name: str, *, layers: int = LAYERS, kind: str = "F16", **sizes: Any
) -> Path:
    """Write ``name`` of ``make_models.MODELS`` with ``layers`` layers; return the path.

    Matrices are of ``kind``, which is F16 or a format that ``encode`` has; of every other layer the
    down projection is F32, so that layers differ.
    """
    spec = replace(MODELS[name], layers=layers, **sizes)
    made = tensors(draw(spec, 5), "F16")
    for layer in range(0, layers, 2):
        for part in (f"blk.{layer}.ffn_down.weight", f"blk.{layer}.ffn_down_exps.weight"):
            if part in made:
                data, shape, _ = made[part]
                made[part] = (data.astype(np.float32), shape, F32)
    if kind != "F16":
        for name, (data, shape, quant) in made.items():
            if quant.name == "F16":
                blocks = np.frombuffer(encode(kind, data.astype(np.float32)), np.uint8)
                made[name] = (blocks, shape, BY_NAME[kind])
    write_gguf(path, metadata(spec), made)
    return path
