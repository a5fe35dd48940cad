"""Reference models republished as safetensors compute the same as their GGUF files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.reference.interpreter import (
    Interpreter,
    read_tensors,
    tensor_names,
)
from tests.reference.to_huggingface import publish

from tilewright.formats.open import open_model
from tilewright.models import build_graph, read_constants

NAMES = ["llama", "qwen2", "qwen3", "gemma3", "granite", "phi3", "qwen3moe", "bert"]


@pytest.mark.parametrize("name", NAMES)
async def test_same_outputs_either_way(name: str, oracle: Path, tmp_path: Path) -> None:
    folder = oracle / "models_and_logits"
    original = await open_model(folder / "models" / f"{name}.F16.gguf")
    await publish(original, tmp_path, shards=2)
    original.close()
    file = await open_model(tmp_path)
    graph = build_graph(file, context_length=128, constants=await read_constants(file))
    interpreter = Interpreter(graph, await read_tensors(file, tensor_names(graph)))
    file.close()
    entries = json.loads((folder / "manifest.json").read_text())["models"]
    ids = next(entry["token_ids"] for entry in entries if entry["name"] == name)
    result = interpreter.run(ids)
    found, kind = (result.hidden, "tokens") if result.logits is None else (result.logits, "logits")
    assert found is not None
    wanted = np.load(folder / "ref" / f"{name}.F16.{kind}.npy")
    np.testing.assert_allclose(found, wanted, atol=1e-4)
