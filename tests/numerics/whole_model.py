"""A whole model on the GPU for a test: ids in, logits out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.formats.model_file import ModelFile
from tilewright.webgpu.device import Device


async def logits(
    device: Device, file: ModelFile, ids: Sequence[int], context: int
) -> NDArray[np.float32]:
    """Return ``float32[ids, V]`` of a model that is loaded, asked and freed."""
    runner = await ModelRunner.load(device, file, context_length=context, kv="f32")
    engine = Engine(runner)
    try:
        pieces = [piece async for piece in engine.logits(ids)]
    finally:
        await engine.close()
        await runner.close()
    return np.frombuffer(b"".join(pieces), np.float32).reshape(len(ids), -1)
