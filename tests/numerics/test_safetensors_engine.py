"""Models from safetensors through the engine on the GPU: weights reach it as from GGUF.

The architectures are those whose weights are shown through derived sources (stacks of experts,
fused halves, transposed matrices, stacked head norms) or whose rotation or norms are written
otherwise.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.reference.golden_models import CONTEXT, FOLDER, expected
from tests.reference.to_huggingface import publish

from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.formats.open import open_model
from tilewright.webgpu.device import Device

MAX = 1e-4
"""As for the same models from GGUF."""


@pytest.mark.parametrize(
    "name",
    ["llama-linear", "gemma2", "gpt2", "granitemoe", "llama-moe", "qwen2moe", "stablelm-parallel"],
)
async def test_outputs_are_exact(name: str, device: Device, tmp_path: Path) -> None:
    with closing(await open_model(FOLDER / f"{name}.gguf")) as original:
        await publish(original, tmp_path)
    answer = expected(name)
    with closing(await open_model(tmp_path)) as file:
        runner = await ModelRunner.load(
            device, file, context_length=CONTEXT, kv="f32", max_sequences=2
        )
        engine = Engine(runner)
        try:
            pieces = [piece async for piece in engine.logits(answer["ids"].tolist())]
        finally:
            await engine.close()
    found = np.frombuffer(b"".join(pieces), np.float32).reshape(answer["logits"].shape)
    np.testing.assert_allclose(found, answer["logits"], atol=MAX)
