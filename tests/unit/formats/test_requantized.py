"""A model shown in another format: which tensors, which bytes, and as a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference import golden_models
from tests.reference.dequantize import dequantize
from tests.reference.encode import encode
from tests.reference.gguf_writer import gguf_bytes
from tests.reference.safetensors_writer import huggingface_files
from tests.reference.to_huggingface import publish

from tilewright.errors import InvalidRequestError
from tilewright.formats import gguf_writer
from tilewright.formats.gguf import read_gguf
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.quant import BY_NAME, QuantType
from tilewright.formats.requantized import requantize
from tilewright.formats.source import ByteSource, MemorySource
from tilewright.serve.chat import load_tokenizer
from tilewright.text.tokenizer import Tokenizer

CALLS: list[tuple[int, int]] = []


async def twin(
    source: ByteSource, offset: int, weights: int, stored: QuantType, wanted: QuantType
) -> bytes:
    """The encoder in numpy."""
    CALLS.append((offset, weights))
    raw = await source.read(offset, weights * stored.nbytes)
    return encode(wanted.name, dequantize(stored, raw, 1, weights))


async def whole(file: ModelFile, name: str) -> bytes:
    tensor = file.tensor(name)
    return await file.sources[tensor.source].read(tensor.offset, tensor.nbytes)


def model(columns: int = 256, stored: str = "F16") -> ModelFile:
    generator = np.random.default_rng(2)
    kinds = {"F32": np.float32, "F16": np.float16}
    tensors: dict[str, Any] = {}
    for name, shape in (
        ("token_embd.weight", (8, columns)),
        ("blk.0.attn_norm.weight", (columns,)),
        ("blk.0.attn_q.weight", (16, columns)),
        ("blk.0.ffn_gate_inp.weight", (4, columns)),
        ("blk.0.ffn_down_exps.weight", (2, 4, columns)),
        ("blk.0.odd.weight", (4, 48)),
    ):
        values = generator.standard_normal(shape).astype(kinds[stored])
        tensors[name] = (values, shape, BY_NAME[stored])
    data = gguf_bytes({"general.architecture": "llama", "some.list": ["a", "b"]}, tensors)
    return ModelFile({}, {}, (MemorySource(data, "made.gguf"),))


async def opened(columns: int = 256, stored: str = "F16") -> ModelFile:
    return await read_gguf(model(columns, stored).sources[0])


async def test_matrices_are_encoded_and_the_rest_is_not() -> None:
    formats = {t.name: t.quant.name for t in requantize(await opened(), "Q4_K", twin).items()}
    assert formats == {
        "token_embd.weight": "Q8_0",
        "blk.0.attn_norm.weight": "F16",
        "blk.0.attn_q.weight": "Q4_K",
        "blk.0.ffn_gate_inp.weight": "F16",
        "blk.0.ffn_down_exps.weight": "Q4_K",
        "blk.0.odd.weight": "F16",
    }
    narrow = {t.name: t.quant.name for t in requantize(await opened(96), "Q4_K", twin).items()}
    assert narrow["blk.0.attn_q.weight"] == "Q8_0"  # no whole block of 256
    with pytest.raises(InvalidRequestError, match="Q4_K"):
        requantize(await opened(), "Q3_K", twin)


async def test_any_range_is_that_of_the_whole() -> None:
    file = requantize(await opened(), "Q4_0", twin)
    source = file.sources[0]
    everything = await source.read(0, source.size)
    original = await opened()
    tensor = original.tensor("blk.0.attn_q.weight")
    raw = await whole(original, tensor.name)
    expected = encode("Q4_0", dequantize(tensor.quant, raw, tensor.rows, tensor.columns))
    assert await whole(file, tensor.name) == expected
    generator = np.random.default_rng(0)
    for _ in range(200):
        start, end = sorted(int(n) for n in generator.integers(0, source.size + 1, 2))
        assert await source.read(start, end - start) == everything[start:end]
    CALLS.clear()
    at = file.tensor(tensor.name).offset
    await source.read(at + 19, 1)  # one byte of the second block: nothing else is encoded
    assert [weights for _, weights in CALLS] == [32]


async def test_a_written_file_reads_back_the_same() -> None:
    file = requantize(await opened(stored="F32"), "Q8_0", twin)
    data = gguf_writer.header(file, {"general.file_type": 7, "some.list": None})
    for tensor in file.items():
        async for piece in gguf_writer.pieces(file, tensor):
            data += piece
    back = await read_gguf(MemorySource(data, "back.gguf"))
    assert back.metadata == {"general.architecture": "llama", "general.file_type": 7}
    assert list(back.tensors) == list(file.tensors)
    for tensor in file.items():
        assert back.tensor(tensor.name).quant == tensor.quant
        assert back.tensor(tensor.name).shape == tensor.shape
        assert await whole(back, tensor.name) == await whole(file, tensor.name)


async def test_metadata_of_every_kind_survives() -> None:
    kinds: dict[str, Any] = {
        "general.architecture": "llama",
        "a.bool": True,
        "a.count": 7,
        "a.negative": -3,
        "a.large": 1 << 40,
        "a.float": 0.5,
        "a.text": "caf\u00e9 \udcff",
        "a.texts": ["x", ""],
        "a.numbers": [1, -2, 3],
        "a.longs": [1 << 40],
        "a.floats": [0.5, -1.0],
        "a.flags": [True, False],
        "a.none": [],
    }
    empty = ModelFile(kinds, {}, (MemorySource(b"", "none"),))
    back = await read_gguf(MemorySource(gguf_writer.header(empty), "kinds.gguf"))
    assert back.metadata == kinds


async def test_a_hugging_face_folder_becomes_one_file_with_its_tokenizer(tmp_path: Path) -> None:
    for name, content in huggingface_files().items():
        (tmp_path / name).write_bytes(content)
    file = await open_model(tmp_path)
    data = gguf_writer.header(file)
    for tensor in file.items():
        async for piece in gguf_writer.pieces(file, tensor):
            data += piece
    back = await read_gguf(MemorySource(data, "folder.gguf"))
    assert load_tokenizer(back).encode("hello") == load_tokenizer(file).encode("hello")
    assert json.loads(back.metadata["tilewright.tokenizer_json"])["model"]["type"] == "BPE"
    file.close()
    broken = {"tilewright.tokenizer_json": "{"}
    with pytest.raises(Exception, match="not valid JSON"):
        Tokenizer.from_metadata(broken)


async def test_published_models_keep_their_order(tmp_path: Path) -> None:
    original = await open_model(golden_models.FOLDER / "llama-moe.gguf")
    await publish(original, tmp_path)
    original.close()
    file = await open_model(tmp_path)
    places = sorted(file.items(), key=lambda t: (t.source, t.offset))
    shown = requantize(file, "Q8_0", twin)
    order = sorted(shown.items(), key=lambda t: t.offset)
    assert [t.name for t in order] == [t.name for t in places]
    file.close()
