"""Models in several GGUF files: found by name, joined, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.reference.gguf_writer import Tensor, Typed, gguf_bytes, write_gguf

from tilewright.errors import FormatError, SourceError
from tilewright.formats.gguf import read_gguf
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.quant import BY_NAME
from tilewright.formats.shards import file_name, is_plain, sibling_names
from tilewright.formats.source import ByteSource, MemorySource

F32 = BY_NAME["F32"]


async def raw(file: ModelFile, name: str) -> bytes:
    info = file.tensor(name)
    return await file.sources[info.source].read(info.offset, info.nbytes)


async def split(file: ModelFile, folder: Path, count: int) -> list[Path]:
    """Write ``file`` as ``count`` shards, as llama.cpp's gguf-split does."""
    names = list(file.tensors)
    paths = []
    for number in range(count):
        metadata: dict[str, Any] = dict(file.metadata) if number == 0 else {}
        metadata["split.no"] = Typed("u16", number)
        metadata["split.count"] = Typed("u16", count)
        metadata["split.tensors.count"] = Typed("i32", len(names))
        tensors: dict[str, Tensor] = {}
        for name in names[number * len(names) // count : (number + 1) * len(names) // count]:
            info = file.tensor(name)
            tensors[name] = (await raw(file, name), info.shape, info.quant)
        paths.append(folder / f"tiny-{number + 1:05d}-of-{count:05d}.gguf")
        write_gguf(paths[-1], metadata, tensors)
    return paths


@pytest.mark.parametrize("first", [0, 1, 2, None])
async def test_a_split_model_is_the_same_model(
    first: int | None, oracle: Path, tmp_path: Path
) -> None:
    whole = await open_model(oracle / "models_and_logits" / "models" / "qwen3moe.Q4_0.gguf")
    paths = await split(whole, tmp_path, 3)
    file = await open_model(tmp_path if first is None else paths[first])
    assert {key: file.metadata[key] for key in whole.metadata} == dict(whole.metadata)
    assert list(file.tensors) == list(whole.tensors)
    assert {info.source for info in file.items()} == {0, 1, 2}
    for name in whole.tensors:
        assert await raw(file, name) == await raw(whole, name)
    file.close()
    whole.close()


async def test_missing_shard_is_named(oracle: Path, tmp_path: Path) -> None:
    whole = await open_model(oracle / "models_and_logits" / "models" / "llama.IQ1_S.gguf")
    paths = await split(whole, tmp_path, 3)
    whole.close()
    paths[1].unlink()
    with pytest.raises(SourceError, match=r"tiny-00002-of-00003\.gguf is missing"):
        await open_model(paths[0])


def shard(number: int, count: int, total: int, tensor: str = "") -> ByteSource:
    metadata = {
        "split.no": Typed("u16", number),
        "split.count": Typed("u16", count),
        "split.tensors.count": Typed("i32", total),
    }
    data = gguf_bytes(metadata, {tensor or f"t{number}": (bytes(32), (8,), F32)})
    return MemorySource(data, f"m-{number + 1:05d}-of-{count:05d}.gguf")


@pytest.mark.parametrize(
    ("shards", "reason"),
    [
        ([shard(0, 2, 2)], "one of 2 files of a model, but 1 were given"),
        ([shard(0, 2, 2), shard(0, 2, 2)], "not file 2 of 2"),
        ([shard(1, 2, 2), shard(0, 2, 2)], "not file 1 of 2"),
        ([shard(0, 2, 2), shard(1, 3, 2)], "not file 2 of 2"),
        ([shard(0, 2, 3), shard(1, 2, 3)], "has 3 tensors, but its files have 2"),
        ([shard(0, 2, 2, "t"), shard(1, 2, 2, "t")], "'t' is in two files"),
    ],
)
async def test_shards_that_do_not_fit(shards: list[ByteSource], reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        await read_gguf(shards[0], shards[1:])


async def test_shards_are_found_by_the_callers_function() -> None:
    asked = []

    async def find(name: str) -> ByteSource | None:
        asked.append(name)
        return shard(1, 2, 2)

    file = await open_model(shard(0, 2, 2), find)
    assert asked == ["m-00002-of-00002.gguf"]
    assert list(file.tensors) == ["t0", "t1"]


async def test_several_models_in_a_folder_are_listed(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(tmp_path / name, {}, {})
    with pytest.raises(FormatError, match=r"name one of a\.gguf, b\.gguf"):
        await open_model(tmp_path)
    (tmp_path / "b.gguf").unlink()
    file = await open_model(tmp_path)
    file.close()


def test_names() -> None:
    assert sibling_names("/x/m-00002-of-00003.gguf?download=true") == [
        "m-00001-of-00003.gguf",
        "m-00002-of-00003.gguf",
        "m-00003-of-00003.gguf",
    ]
    assert sibling_names("m-00004-of-00003.gguf") == ["m-00004-of-00003.gguf"]
    assert sibling_names("plain.gguf") == ["plain.gguf"]
    assert file_name("https://host/a/b.gguf#x") == "b.gguf"
    assert is_plain("model-00001-of-00002.safetensors")
    assert not any(is_plain(name) for name in ("../a", "/a", "a/b", "", "..", ".a", "a\n", "c:\\a"))
