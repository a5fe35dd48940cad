"""Quantized while loading, written by ``tilewright quantize``, and by the twin: one result."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.numerics.whole_model import logits
from tests.reference.dequantize import dequantize
from tests.reference.encode import encode
from tests.reference.gguf_writer import write_gguf
from tests.reference.interpreter import Interpreter, read_tensors, tensor_names
from tests.reference.make_models import MODELS, draw, metadata, tensors
from tests.reference.to_huggingface import publish

from tilewright.formats.open import open_model
from tilewright.formats.requantized import requantize
from tilewright.models import build_graph, read_constants
from tilewright.serve.cli import parser
from tilewright.wasm.encoder import Encoder
from tilewright.webgpu.device import Device

pytest.importorskip("wasmtime", reason="the encoder runs in WebAssembly")
CONTEXT = 64
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]
EXACT = 1e-4
"""Of logits of size 5, between the engine's f32 and the interpreter's f64."""


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A qwen3 wide enough for Q4_K, as a Hugging Face folder of F16 weights."""
    spec = replace(MODELS["qwen3"], width=256, feed_forward=256)
    write_gguf(tmp_path / "one.gguf", metadata(spec), tensors(draw(spec, 3), "F16"))
    made = tmp_path / "folder"
    made.mkdir()
    with closing(await open_model(tmp_path / "one.gguf")) as file:
        await publish(file, made)
    return made


@pytest.mark.parametrize("target", ["Q8_0", "Q4_0", "Q4_K"])
async def test_all_ways_give_the_same_model(
    target: str,
    device: Device,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.gguf"
    parsed = parser().parse_args(["quantize", str(folder), str(out), "--type", target])
    await parsed.run(parsed)
    told = json.loads(capsys.readouterr().out)
    assert told["bytes_out"] == out.stat().st_size < told["bytes_in"]

    with closing(await open_model(folder)) as original:
        shown = requantize(original, target, Encoder().encode)
        while_loading = await logits(device, shown, IDS, CONTEXT)
        formats = {tensor.name: tensor.quant for tensor in shown.items()}
        graph = build_graph(shown, context_length=CONTEXT, constants=await read_constants(original))
        floats = await read_tensors(original, tensor_names(graph))
    assert formats["blk.1.ffn_down.weight"].name == target
    with closing(await open_model(out)) as file:
        written = await logits(device, file, IDS, CONTEXT)
    np.testing.assert_array_equal(written, while_loading)

    twins = {
        name: values
        if formats[name].block == 1
        else dequantize(formats[name], encode(formats[name].name, values), *values.shape)
        for name, values in floats.items()
    }
    expected = Interpreter(graph, twins).run(IDS, outputs=range(len(IDS))).logits
    assert expected is not None
    np.testing.assert_allclose(while_loading, expected, atol=EXACT)


async def test_verify_finds_damage(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def verify(*arguments: str) -> None:
        parsed = parser().parse_args(["verify", *arguments])
        await parsed.run(parsed)

    path = tmp_path / "one.gguf"
    await verify(str(path))
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert told["files"][0]["checksum"] == "not known"
    digest = told["files"][0]["sha256"]
    await verify(str(path), "--sha256", digest)
    assert json.loads(capsys.readouterr().out)["files"][0]["checksum"] == "matches"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match="is damaged: its sha256"):
        await verify(str(path), "--sha256", digest)
    path.write_bytes(data[:-100])
    with pytest.raises(Exception, match="incomplete or damaged"):
        await verify(str(path))
