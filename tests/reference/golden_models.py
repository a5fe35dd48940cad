"""The tiny models of ``tests/golden/models``, loaded for a test: graph, weights, expected outputs.

``make_models.py`` made them; ``tests/golden/models/README.md`` says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.interpreter import read_tensors, tensor_names

from tilewright.formats.gguf import read_gguf
from tilewright.formats.model_file import ModelFile
from tilewright.formats.source import MemorySource
from tilewright.graph.ops import Graph
from tilewright.models import build_graph, read_constants

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "models"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.gguf")))
CONTEXT = 128


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory."""

    model_file: ModelFile
    constants: dict[str, Sequence[float]]
    graph: Graph
    """Plain, not fused."""
    tensors: dict[str, NDArray[np.float32]]
    """``float32[rows, columns]`` of every tensor that the graph reads."""


async def load_model(path: Path, *, context_length: int = CONTEXT) -> LoadedModel:
    """Read a GGUF file whole and build its graph."""
    model_file = await read_gguf(MemorySource(path.read_bytes(), path.name))
    constants = await read_constants(model_file)
    graph = build_graph(model_file, context_length=context_length, constants=constants)
    return LoadedModel(
        model_file, constants, graph, await read_tensors(model_file, tensor_names(graph))
    )


def expected(name: str) -> dict[str, NDArray[Any]]:
    """Return ``ids`` and, exact and as ``llama_cpp_*``, ``logits`` or ``tokens`` and ``pooled``."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
