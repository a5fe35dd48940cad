"""A tiny GGUF writer, for tests that need a model file of their own making.

Value types follow from the Python values (bool, int, float, str and lists of those; ints become
u32, or i32 where negative, or 64 bits where they must); ``Typed`` forces one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.formats.quant import QuantType

Tensor = tuple[bytes | NDArray[Any], tuple[int, ...], QuantType]
"""Raw bytes (or an array whose bytes count), row-major shape, format."""

CODES = {
    "u8": (0, "B"),
    "i8": (1, "b"),
    "u16": (2, "H"),
    "i16": (3, "h"),
    "u32": (4, "I"),
    "i32": (5, "i"),
    "f32": (6, "f"),
    "bool": (7, "?"),
    "u64": (10, "Q"),
    "i64": (11, "q"),
    "f64": (12, "d"),
}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Typed:
    """A metadata value with an explicit GGUF type, for example ``Typed("u16", 3)``."""

    kind: str
    value: Any


def write_gguf(
    path: Path | str,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    version: int = 3,
    alignment: int = 32,
) -> None:
    """Write a GGUF file; see ``gguf_bytes``."""
    Path(path).write_bytes(gguf_bytes(metadata, tensors, version=version, alignment=alignment))


def gguf_bytes(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Return a little-endian GGUF file; ``alignment`` other than 32 is written as metadata."""
    entries = dict(metadata)
    if alignment != 32:
        entries["general.alignment"] = alignment
    out = bytearray(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)))
    for key, value in entries.items():
        out += _string(key) + _value(value)
    data = bytearray()
    for name, (raw, shape, quant) in tensors.items():
        content = raw if isinstance(raw, bytes) else np.ascontiguousarray(raw).tobytes()
        columns = shape[-1] if shape else 1
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        if len(content) != rows * quant.row_bytes(columns):
            raise ValueError(f"{name}: {len(content)} bytes do not make {quant.name} {shape}")
        data += bytes(-len(data) % alignment)
        out += _string(name) + struct.pack("<I", len(shape))
        out += struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", quant.ggml_id, len(data))
        data += content
    out += bytes(-len(out) % alignment)
    data += bytes(-len(data) % alignment)
    return bytes(out + data)


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(encoded)) + encoded


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return "f32"
    if not isinstance(value, int):
        raise TypeError(f"no GGUF type for {value!r}")
    if value < 0:
        return "i32" if value >= -(2**31) else "i64"
    return "u32" if value < 2**32 else "u64"


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, (list, tuple)):
        return _array(list(value), None)
    if isinstance(value, Typed):
        if isinstance(value.value, (list, tuple)):
            return _array(list(value.value), value.kind)
        code, letter = CODES[value.kind]
        return struct.pack(f"<I{letter}", code, value.value)
    code, letter = CODES[_kind(value)]
    return struct.pack(f"<I{letter}", code, value)


def _array(items: list[Any], kind: str | None) -> bytes:
    head = struct.pack("<I", ARRAY)
    if items and isinstance(items[0], str):
        return head + struct.pack("<IQ", STRING, len(items)) + b"".join(map(_string, items))
    if kind is None:
        kinds = {_kind(item) for item in items} or {"i32"}
        kind = kinds.pop() if len(kinds) == 1 else "f32" if "f32" in kinds else "i64"
        kind = "i32" if kind == "u32" and max(items) < 2**31 else kind
    code, letter = CODES[kind]
    return head + struct.pack(f"<IQ{len(items)}{letter}", code, len(items), *items)
