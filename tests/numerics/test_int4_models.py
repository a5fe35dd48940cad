"""Whole models in GPTQ's and AWQ's files: logits of the weights that those stand for."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.numerics.whole_model import logits
from tests.reference.gguf_writer import write_gguf
from tests.reference.int4 import Way, quantize_folder
from tests.reference.interpreter import Interpreter, read_tensors, tensor_names
from tests.reference.make_models import MODELS, draw, metadata, tensors
from tests.reference.to_huggingface import publish

from tilewright.formats.hf_names import translate_name
from tilewright.formats.open import open_model
from tilewright.models import build_graph
from tilewright.webgpu.device import Device

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
CONTEXT = 32
EXACT = 1e-4
"""Of logits of size 5, between the engine's f32 and the interpreter's f64."""
ROUNDED = 2e-2
"""The same where the weights were rounded to f16 once."""


@pytest.mark.parametrize(
    ("way", "model", "kind", "tolerance"),
    [
        (Way("gptq", 128, sym=True), "qwen3", "Q4_0", EXACT),
        (Way("gptq", 32), "llama-linear", "Q5_0", EXACT),
        (Way("gptq", 64, sym=True, act_order=True), "qwen3", "F16", ROUNDED),
        (Way("awq", 64), "qwen3", "Q5_0", EXACT),
    ],
    ids=["gptq-sym", "gptq", "act-order", "awq"],
)
async def test_logits_of_the_dequantized_weights(
    way: Way, model: str, kind: str, tolerance: float, device: Device, tmp_path: Path
) -> None:
    spec = replace(MODELS[model], width=128, heads=8, head_size=16, feed_forward=128)
    write_gguf(tmp_path / "one.gguf", metadata(spec), tensors(draw(spec, 3), "F16"))
    folder = tmp_path / "folder"
    folder.mkdir()
    with closing(await open_model(tmp_path / "one.gguf")) as file:
        await publish(file, folder)
    exact = await quantize_folder(folder, way)
    assert len(exact) == 14

    with closing(await open_model(folder)) as file:
        graph = build_graph(file, context_length=CONTEXT)
        weights = {
            name: values.astype(np.float64)
            for name, values in (await read_tensors(file, tensor_names(graph))).items()
        }
        for name, values in exact.items():
            place = translate_name("llama", name)
            assert place is not None
            assert file.tensor(place.name).quant.name == kind
            weights[place.name] = values
        found = await logits(device, file, IDS, CONTEXT)
    expected = Interpreter(graph, weights).run(IDS, outputs=range(len(IDS))).logits
    assert expected is not None
    np.testing.assert_allclose(found, expected, atol=tolerance)
