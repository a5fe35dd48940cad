"""Every model of the reference folder (all weight formats) against its exact logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.golden_models import load_model
from tests.reference.interpreter import Interpreter, Result

MAX, MEAN = 1e-4, 1e-5
"""A tenth of what an engine is allowed."""


async def test_all_models(oracle: Path) -> None:
    folder = oracle / "models_and_logits"
    manifest = json.loads((folder / "manifest.json").read_text())
    compared = 0
    for entry in manifest["models"]:
        path = folder / entry["file"]
        name = path.name.removesuffix(".gguf")
        trained = 128 if entry["architecture"] == "bert" else 256
        contexts = {"": trained} | ({".ctx1024": 1024} if "longrope" in name else {})
        for tag, context in contexts.items():
            model = await load_model(path, context_length=context)
            result = Interpreter(model.graph, model.tensors).run(entry["token_ids"])
            for kind, value in outputs(result).items():
                difference = np.abs(value - np.load(folder / "ref" / f"{name}{tag}.{kind}.npy"))
                assert difference.max() < MAX, (name, kind)
                assert difference.mean() < MEAN, (name, kind)
                compared += 1
    assert compared >= len(manifest["models"])


def outputs(result: Result) -> dict[str, NDArray[Any]]:
    if result.logits is not None:
        return {"logits": result.logits}
    assert result.hidden is not None
    assert result.pooled is not None
    return {"tokens": result.hidden, "pooled": result.pooled[0]}
