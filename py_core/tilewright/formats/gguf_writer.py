"""Writes GGUF v3: a ``ModelFile``, whatever its container, as one file.

Value types follow from the Python values as ggml's tools choose them: u32 (i32 where negative, 64
bits where they must), f32, bool, string; arrays of integers are i32. What GGUF has no type for
(the tokenizer of a Hugging Face folder) is written as JSON text under its key ``tilewright.*``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from typing import Any

from ..errors import FormatError
from .model_file import ModelFile, TensorInfo

ALIGNMENT = 32
PIECE = 8 << 20
"""Bytes of weights that are read at a time."""
_STRING, _ARRAY, _BOOL, _F32 = 8, 9, 7, 6
_INTEGERS = ((4, "I"), (5, "i"), (10, "Q"), (11, "q"))


def header(file: ModelFile, changes: dict[str, Any] | None = None) -> bytes:
    """Return everything before the weights, which follow in the order of ``file.items()``.

    ``changes``: metadata to set (None: to leave out).
    """
    values = {**file.metadata, **(changes or {})}
    left_out = ("split.", "general.alignment")
    entries = {k: v for k, v in values.items() if v is not None and not k.startswith(left_out)}
    out = [b"GGUF", struct.pack("<IQQ", 3, len(file.tensors), len(entries))]
    for key, value in entries.items():
        out += [_string(key), _value(value)]
    offset = 0
    for tensor in file.items():
        sizes = tuple(reversed(tensor.shape))
        out += [
            _string(tensor.name),
            struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes),
            struct.pack("<IQ", tensor.quant.ggml_id, offset),
        ]
        offset += padded(tensor.nbytes)
    data = b"".join(out)
    return data + bytes(-len(data) % ALIGNMENT)


def padded(nbytes: int) -> int:
    """Return the bytes that a tensor takes in the file."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


async def pieces(file: ModelFile, tensor: TensorInfo) -> AsyncIterator[bytes]:
    """Yield a tensor's bytes with their padding, at most ``PIECE`` bytes at a time."""
    source = file.sources[tensor.source]
    # Whole blocks, so that nothing is encoded twice.
    step = max(1, PIECE // tensor.quant.nbytes) * tensor.quant.nbytes
    for at in range(0, tensor.nbytes, step):
        count = min(step, tensor.nbytes - at)
        yield await source.read(tensor.offset + at, count)
    if padded(tensor.nbytes) > tensor.nbytes:
        yield bytes(padded(tensor.nbytes) - tensor.nbytes)


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _integer(value: int) -> tuple[int, str]:
    for code, letter in _INTEGERS:
        bits = 8 * struct.calcsize(letter)
        low, high = (0, 1 << bits) if letter.isupper() else (-(1 << bits - 1), 1 << bits - 1)
        if low <= value < high:
            return code, letter
    raise FormatError(f"GGUF has no type for the number {value}.")


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, int):
        code, letter = _integer(value)
        return struct.pack(f"<I{letter}", code, value)
    if isinstance(value, list | tuple) and len({type(item) for item in value}) <= 1:
        return struct.pack("<I", _ARRAY) + _array(list(value))
    if isinstance(value, list) and all(type(item) in (int, float) for item in value):
        return struct.pack("<I", _ARRAY) + _array([float(item) for item in value])
    return struct.pack("<I", _STRING) + _string(json.dumps(value, ensure_ascii=False))


def _array(items: list[Any]) -> bytes:
    if items and isinstance(items[0], str):
        return struct.pack("<IQ", _STRING, len(items)) + b"".join(map(_string, items))
    if items and not isinstance(items[0], int | float):
        return struct.pack("<IQ", _STRING, len(items)) + b"".join(
            _string(json.dumps(item)) for item in items
        )
    code, letter = 5, "i"
    if items and isinstance(items[0], bool):
        code, letter = _BOOL, "?"
    elif items and isinstance(items[0], float):
        code, letter = _F32, "f"
    elif any(not -(1 << 31) <= item < 1 << 31 for item in items):
        code, letter = 11, "q"
    return struct.pack(f"<IQ{len(items)}{letter}", code, len(items), *items)
