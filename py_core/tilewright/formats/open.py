"""Whatever a user calls a model -> ``ModelFile``: a file, one of a sharded set, or a folder.

Decides which container it is and finds the files that belong to it. A folder is anything that can
be asked for a file by name (``FindFile``): a directory here, a URL or dropped files in the browser.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..errors import FormatError, SourceError
from .gguf import read_gguf
from .huggingface import read_huggingface
from .model_file import ModelFile
from .shards import file_name, sibling_names
from .source import ByteSource, FileSource

FindFile = Callable[[str], Awaitable[ByteSource | None]]
"""Gives the file of that name beside the model's first file, None where there is none."""


async def open_model(
    model: str | os.PathLike[str] | ByteSource, find: FindFile | None = None
) -> ModelFile:
    """Read the headers of a model; the weights stay where they are.

    ``model`` is a path (a .gguf file, any file of a sharded set, a .safetensors file, a folder) or
    a source; with a source, ``find`` gives the files beside it (default: the source's own ``find``,
    where it has one). Raises FormatError, UnsupportedModelError, SourceError. The caller closes the
    result.
    """
    opened: list[ByteSource] = []
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        directory = path if path.is_dir() else path.parent
        first = _main_file(path) if path.is_dir() else path
        find = _tracked(_in_directory(directory), opened)
        model = FileSource(first)
        opened.append(model)
    elif find is None:
        find = getattr(model, "find", _nothing)
    kept: tuple[ByteSource, ...] = ()
    try:
        file = await _read(model, find)
        kept = file.sources
    finally:
        for source in opened:
            if isinstance(source, FileSource) and not any(source is item for item in kept):
                source.close()
    return file


async def _read(source: ByteSource, find: FindFile) -> ModelFile:
    name = file_name(source.name)
    start = await source.read(0, min(4, source.size))
    if start != b"GGUF" and name.endswith((".safetensors", ".json")):
        return await read_huggingface(source, find)
    names = sibling_names(source.name)
    if len(names) == 1:
        return await read_gguf(source)
    files = [source if item == name else await _required(item, find) for item in names]
    return await read_gguf(files[0], files[1:])


async def _required(name: str, find: FindFile) -> ByteSource:
    source = await find(name)
    if source is None:
        raise SourceError(
            f"{name} is missing: the model consists of several files, put all of them into one "
            "place.",
            file=name,
        )
    return source


async def _nothing(name: str) -> ByteSource | None:
    return None


def _in_directory(directory: Path) -> FindFile:
    async def find(name: str) -> ByteSource | None:
        path = directory / name
        return FileSource(path) if path.is_file() else None

    return find


def _tracked(find: FindFile, opened: list[ByteSource]) -> FindFile:
    async def tracked(name: str) -> ByteSource | None:
        source = await find(name)
        if source is not None:
            opened.append(source)
        return source

    return tracked


def _main_file(directory: Path) -> Path:
    """Choose the file of a folder that says what the model is."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        return index
    tensors = sorted(directory.glob("*.safetensors"))
    single = directory / "model.safetensors"
    if single in tensors or ((directory / "config.json").is_file() and len(tensors) == 1):
        return single if single in tensors else tensors[0]
    sets = sorted({sibling_names(path.name)[0] for path in directory.glob("*.gguf")})
    if len(sets) == 1 and not tensors:
        return directory / sets[0]
    if sets and not tensors:
        raise FormatError(
            f"{directory} holds several models: name one of {', '.join(sets[:5])}.", found=sets[:50]
        )
    raise FormatError(
        f"{directory} holds no model: a folder needs a .gguf file, or config.json, "
        "model.safetensors and tokenizer.json."
    )
