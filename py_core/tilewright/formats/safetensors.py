"""The header of a .safetensors file -> names, types, shapes and places of its tensors.

Knows the container only, not what the names mean. The file is untrusted: sizes are checked before
anything is read. Format: 8 bytes little-endian length, a JSON header of that length, the data; see
the README of the safetensors project.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from ..errors import FormatError
from .json_file import parse_object
from .source import ByteSource

MAX_HEADER: Final = 16 * 1024 * 1024
"""Bytes; a header takes about 100 bytes per tensor."""
MAX_DIMENSIONS: Final = 8

ITEM_BYTES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}


@dataclass(frozen=True)
class RawTensor:
    """One tensor as the file describes it."""

    name: str
    dtype: str
    """As safetensors writes it: ``BF16``."""
    shape: tuple[int, ...]
    source: ByteSource
    offset: int
    """Absolute byte offset."""
    nbytes: int


async def read_safetensors(source: ByteSource) -> dict[str, RawTensor]:
    """Read the header. FormatError where the file is damaged, SourceError where it cannot be read.

    The dictionary is in the order of the header.
    """
    if source.size < 8:
        raise _error(source, f"has only {source.size} bytes")
    (length,) = struct.unpack("<Q", await source.read(0, 8))
    if length > min(MAX_HEADER, source.size - 8):
        raise _error(source, f"claims a header of {length} bytes")
    header = parse_object(source.name, await source.read(8, length))
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = {name: _tensor(source, start, name, entry) for name, entry in header.items()}
    end, before = start, ""
    for tensor in sorted(tensors.values(), key=lambda item: item.offset):
        if tensor.offset < end:
            raise _error(source, f"has overlapping tensors {before!r} and {tensor.name!r}")
        end, before = tensor.offset + tensor.nbytes, tensor.name
    return tensors


def _error(source: ByteSource, fact: str) -> FormatError:
    return FormatError(
        f"{source.name} {fact}: the file is damaged or incomplete, fetch it again.",
        file=source.name,
    )


def _tensor(source: ByteSource, start: int, name: str, entry: Any) -> RawTensor:
    if not isinstance(entry, dict):
        raise _error(source, f"does not describe the tensor {name!r}")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _error(source, f"gives the tensor {name!r} the unknown type {str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise _error(source, f"gives the tensor {name!r} the shape {str(shape)[:80]}")
    if not _naturals(offsets) or len(offsets) != 2:
        raise _error(source, f"gives the tensor {name!r} the place {str(offsets)[:80]}")
    nbytes = ITEM_BYTES[dtype]
    for size in shape:
        nbytes *= size
    if offsets[1] - offsets[0] != nbytes:
        raise _error(source, f"gives the tensor {name!r} a place that does not fit its shape")
    if start + offsets[1] > source.size:
        raise _error(
            source, f"ends at byte {source.size}, before byte {start + offsets[1]} of {name!r}"
        )
    return RawTensor(name, dtype, tuple(shape), source, start + offsets[0], nbytes)


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
