"""The GGUF reader: what it returns, how little it reads, and what it refuses."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference.gguf_writer import Typed, gguf_bytes

from tilewright.errors import FormatError, SourceError, UnsupportedModelError
from tilewright.formats.gguf import FIRST_READ, read_gguf
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.quant import BY_NAME, QUANT_TYPES
from tilewright.formats.source import FileSource, MemorySource

F32 = BY_NAME["F32"]


class CountingSource(MemorySource):
    """Remembers what was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    async def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return await super().read(offset, length)


async def parse(data: bytes) -> ModelFile:
    return await read_gguf(MemorySource(data, "test.gguf"))


@pytest.mark.parametrize("version", [2, 3])
async def test_every_value_type_comes_back(version: int) -> None:
    metadata: dict[str, Any] = {
        "u8": Typed("u8", 255),
        "i8": Typed("i8", -1),
        "u16": Typed("u16", 65535),
        "i16": Typed("i16", -2),
        "u32": 4294967295,
        "i32": -3,
        "f32": 0.5,
        "yes": True,
        "no": False,
        "u64": 2**63,
        "i64": Typed("i64", -(2**62)),
        "f64": Typed("f64", 0.1),
        "text": "naïve ▁ 🙂",
        "bytes": b"\xff\xfe".decode("utf-8", "surrogateescape"),
        "empty": "",
        "strings": ["a", "", "ü" * 300, b"\x80".decode("utf-8", "surrogateescape")],
        "integers": [1, -2, 3],
        "floats": [0.25, -1.5],
        "flags": [True, False, True],
        "nothing": [],
    }
    file = await parse(gguf_bytes(metadata, {}, version=version))
    plain = {k: v.value if isinstance(v, Typed) else v for k, v in metadata.items()}
    assert dict(file.metadata) == plain
    assert all(type(file.metadata[key]) is type(value) for key, value in plain.items())


@pytest.mark.parametrize("alignment", [32, 64, 8])
async def test_tensors_of_every_format_lie_where_they_were_put(alignment: int) -> None:
    generator = np.random.default_rng(3)
    tensors = {}
    for quant in QUANT_TYPES:
        shape = (2, 3, 2 * quant.block)
        raw = generator.integers(0, 256, 6 * quant.row_bytes(2 * quant.block), np.uint8)
        tensors[f"weights.{quant.name}"] = (raw.tobytes(), shape, quant)
    data = gguf_bytes({"general.architecture": "test"}, tensors, alignment=alignment)
    file = await parse(data)
    assert file.architecture == "test"
    assert list(file.tensors) == list(tensors)
    for name, (raw_bytes, shape, quant) in tensors.items():
        info = file.tensor(name)
        assert (info.shape, info.quant, info.source) == (shape, quant, 0)
        assert (info.rows, info.columns) == (6, 2 * quant.block)
        assert data[info.offset : info.offset + info.nbytes] == raw_bytes
        assert info.offset % alignment == 0


async def test_only_the_header_is_read() -> None:
    weights = bytes(8 * 1024 * 1024)
    tokens = [f"token{index}" for index in range(50_000)]
    data = gguf_bytes({"tokenizer.ggml.tokens": tokens}, {"w": (weights, (1024, 2048), F32)})
    source = CountingSource(data)
    file = await read_gguf(source)
    assert file.metadata["tokenizer.ggml.tokens"] == tokens
    header = file.tensor("w").offset
    assert source.reads[0] == (0, FIRST_READ)
    assert all(a[0] + a[1] == b[0] for a, b in zip(source.reads, source.reads[1:], strict=False))
    assert header <= sum(length for _, length in source.reads) <= 2 * header


async def test_small_header_of_a_large_file_takes_one_read() -> None:
    data = gguf_bytes({"a": 1}, {"w": (bytes(4 << 20), (1 << 20,), F32)})
    source = CountingSource(data)
    await read_gguf(source)
    assert source.reads == [(0, FIRST_READ)]


async def test_every_reference_model_opens(oracle: Path) -> None:
    paths = sorted((oracle / "models_and_logits" / "models").glob("*.gguf"))
    paths += sorted((oracle / "tokenizers").glob("*.gguf"))
    assert len(paths) > 40
    for path in paths:
        file = await open_model(path)
        assert file.architecture
        assert len(file.metadata["tokenizer.ggml.tokens"]) > 100
        assert bool(file.tensors) == (path.parent.name == "models")
        assert all(info.offset + info.nbytes <= path.stat().st_size for info in file.items())
        file.close()


async def test_missing_file_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be opened"):
        await open_model(tmp_path / "no.gguf")


def header(tensors: int, keys: int, body: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def record(name: bytes, sizes: list[int], kind: int, offset: int) -> bytes:
    fixed = struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)
    return text(name) + fixed


SPACE = bytes(4096)
BAD = {
    "empty": (b"", "within its header"),
    "another format": (b"PK\x03\x04" + SPACE, "not a GGUF file"),
    "only the magic": (b"GGUF", "within its header"),
    "counts cut off": (b"GGUF" + struct.pack("<I", 3) + bytes(8), "within its header"),
    "absurd key count": (header(0, 2**60, SPACE), "metadata keys, more than it has room"),
    "absurd tensor count": (header(2**63, 0, SPACE), "tensors, more than it has room"),
    "absurd string": (header(0, 1, struct.pack("<Q", 2**62) + SPACE), "more than it has room"),
    "unknown value type": (header(0, 1, text(b"k") + struct.pack("<I", 13) + SPACE), "type 13"),
    "nested array": (
        header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 9, 1) + SPACE),
        "elements of the type 9",
    ),
    "absurd array": (
        header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 5, 2**61) + SPACE),
        "more than 4194304 metadata values",
    ),
    "array beyond the end": (
        header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 8, 10**6) + SPACE),
        "more than it has room",
    ),
    "string in array beyond the end": (
        header(0, 1, text(b"k") + struct.pack("<IIQQ", 9, 8, 1, 2**40) + SPACE),
        "more than it has room",
    ),
    "truth value of 2": (
        header(0, 1, text(b"k") + struct.pack("<IB", 7, 2) + SPACE),
        "truth value of 2",
    ),
    "truth value of 2 in an array": (
        header(0, 1, text(b"k") + struct.pack("<IIQ3B", 9, 7, 3, 0, 2, 1) + SPACE),
        "truth value of 2",
    ),
    "key twice": (
        header(0, 2, 2 * (text(b"k") + struct.pack("<II", 4, 7)) + SPACE),
        "key 'k' twice",
    ),
    "tensor twice": (
        header(2, 0, record(b"t", [8], 0, 0) + record(b"t", [8], 0, 32) + SPACE),
        "tensor 't' twice",
    ),
    "overlap": (
        header(2, 0, record(b"a", [16], 0, 0) + record(b"b", [16], 0, 32) + SPACE),
        "'a' and 'b' overlap",
    ),
    "off the alignment": (header(1, 0, record(b"t", [8], 0, 4) + SPACE), "off its alignment"),
    "beyond the end": (header(1, 0, record(b"t", [2**20], 0, 0) + SPACE), "would end at byte"),
    "absurd sizes": (
        header(1, 0, record(b"t", [2**63, 2**63, 2**63, 2**63], 0, 0) + SPACE),
        "would end at byte",
    ),
    "absurd offset": (header(1, 0, record(b"t", [8], 0, 2**64 - 32) + SPACE), "would end at byte"),
    "five dimensions": (header(1, 0, record(b"t", [1] * 5, 0, 0) + SPACE), "5 dimensions"),
    "empty axis": (header(1, 0, record(b"t", [0, 4], 0, 0) + SPACE), "empty axis"),
    "partial block": (header(1, 0, record(b"t", [48], 2, 0) + SPACE), "no multiple of Q4_0"),
    "alignment of 24": (
        header(0, 1, text(b"general.alignment") + struct.pack("<II", 4, 24) + SPACE),
        "no power of two",
    ),
    "alignment of 0": (
        header(0, 1, text(b"general.alignment") + struct.pack("<II", 4, 0) + SPACE),
        "no power of two",
    ),
    "alignment that is text": (
        header(0, 1, text(b"general.alignment") + struct.pack("<I", 8) + text(b"32") + SPACE),
        "no power of two",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_damage_is_refused_with_its_reason(case: str) -> None:
    data, reason = BAD[case]
    with pytest.raises(FormatError, match=reason):
        await parse(data)


UNSUPPORTED = {
    "version 1": (header(0, 0, SPACE, version=1), "version 1"),
    "version 4": (header(0, 0, SPACE, version=4), "version 4"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + SPACE, "big-endian"),
    "unknown tensor type": (header(1, 0, record(b"t", [32], 77, 0) + SPACE), "type number 77"),
    "tensor type without kernels": (
        header(1, 0, record(b"t", [32], 24, 0) + SPACE),
        r"type number 24 \(I8\)",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
async def test_what_is_not_supported_is_said(case: str) -> None:
    data, reason = UNSUPPORTED[case]
    with pytest.raises(UnsupportedModelError, match=reason):
        await parse(data)


async def test_every_truncation_of_a_small_file_is_refused() -> None:
    data = gguf_bytes(
        {"a": 1, "b": ["x", "yy"], "c": [1, 2]},
        {"t": (bytes(32), (8,), F32), "u": (bytes(128), (4, 8), F32)},
    )
    for length in range(len(data)):
        with pytest.raises(FormatError):
            await parse(data[:length])
    assert len((await parse(data)).tensors) == 2


async def test_a_file_that_shrinks_is_a_source_error(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes({"a": 1}, {"t": (bytes(2**20), (2**18,), F32)}))
    source = FileSource(path)
    path.write_bytes(b"GGUF")
    try:
        with pytest.raises(SourceError, match="became shorter"):
            await read_gguf(source)
    finally:
        source.close()
