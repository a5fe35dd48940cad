"""Write a GGUF file (version 3) and read back what was written; stdlib only.

Knows the container, not models: metadata in, tensors as finished bytes in, file out.  The reader
is for this folder's own files (evaluation of the shipped one, tests); Tilewright's reader for
files of any origin lives in py_core. Format: https://github.com/ggml-
org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = 0x46554747
VERSION = 3
ALIGNMENT = 32
TENSOR_TYPES = {"f32": 0, "q4_0": 2, "q8_0": 8, "q4_k": 12}
"""ggml's numbers of the types this exporter writes."""

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_SCALARS = {_U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<?"}


@dataclass(frozen=True)
class TensorData:
    """One tensor: shape in rows-first order (as PyTorch prints it), type name, and its bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    data: bytes


def _string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """Type tag and value; int is u32, or i32 within a list."""
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _I32, len(value), *value)
    raise TypeError(f"metadata value of type {type(value).__name__} is not supported")


def _pad(length: int) -> int:
    return -length % ALIGNMENT


def write(path: Path, metadata: dict[str, Any], tensors: list[TensorData]) -> None:
    """Write a complete GGUF file; the same input gives the same bytes."""
    head = bytearray(struct.pack("<IIQQ", MAGIC, VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        head += _string(key) + _value(value)
    offset = 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        head += _string(tensor.name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        head += struct.pack("<IQ", TENSOR_TYPES[tensor.type], offset)
        offset += len(tensor.data) + _pad(len(tensor.data))
    head += bytes(_pad(len(head)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        for tensor in tensors:
            file.write(tensor.data + bytes(_pad(len(tensor.data))))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> Any:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values[0] if len(values) == 1 else values

    def string(self) -> str:
        length = self.take("<Q")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(_SCALARS[kind])


def read(path: Path, sizes: dict[str, tuple[int, int]]) -> tuple[dict[str, Any], list[TensorData]]:
    """Read a file of :func:`write`; ``sizes`` has (elements, bytes) of a block by type."""
    reader = _Reader(path.read_bytes())
    magic, version = reader.take("<II")
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError(f"{path.name} is not a GGUF file of version {VERSION}")
    tensor_count, key_count = reader.take("<QQ")
    metadata = {}
    for _ in range(key_count):
        key = reader.string()
        metadata[key] = reader.value(reader.take("<I"))
    types = {number: name for name, number in TENSOR_TYPES.items()}
    entries = []
    for _ in range(tensor_count):
        name = reader.string()
        dims = [reader.take("<Q") for _ in range(reader.take("<I"))]
        kind, offset = reader.take("<I"), reader.take("<Q")
        entries.append((name, tuple(dims[::-1]), types[kind], offset))
    start = reader.at + _pad(reader.at)
    tensors = []
    for name, shape, kind, offset in entries:
        elements = 1
        for size in shape:
            elements *= size
        block, width = sizes[kind]
        length = elements // block * width
        tensors.append(
            TensorData(name, shape, kind, reader.data[start + offset : start + offset + length])
        )
    return metadata, tensors
