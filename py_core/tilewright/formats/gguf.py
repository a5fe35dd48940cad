"""GGUF v2 and v3 -> ``ModelFile``, reading the header and never the weights.

Knows the container only: no architecture, no tokenizer, no GPU. The file is untrusted: every
length, count, type and offset is checked against the source's size before it is used, so damaged
input raises FormatError in time and memory proportional to the header. Strings are decoded as
UTF-8 with ``surrogateescape``, so that a vocabulary entry that is not valid UTF-8 keeps its bytes
(``text.encode("utf-8", "surrogateescape")`` gives them back).

The layout is that of ggml's ``docs/gguf.md``. The parser itself does no input or output: it is a
generator that yields how many bytes from the start it needs and is sent the bytes so far.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..errors import FormatError, UnsupportedModelError
from .layout import check_layout, tensor_nbytes
from .model_file import ModelFile, TensorInfo
from .quant import BY_ID
from .source import ByteSource

FIRST_READ: Final = 256 * 1024
MAX_HEADER: Final = 128 * 1024 * 1024
"""Bytes; the largest headers in use (262144 tokens with their merges) have about 20 MB."""
MAX_ITEMS: Final = 4 * 1024 * 1024
"""Array elements of all metadata together."""
MAX_DIMENSIONS: Final = 4

_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_BOOL: Final = 7
_STRING: Final = 8
_ARRAY: Final = 9
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")

_KNOWN_ELSEWHERE: Final = {9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64"} | {
    28: "F64",
    40: "NVFP4",
}
"""Names of ggml types that Tilewright has no kernels for, for a better message."""

_T = TypeVar("_T")
_Steps = Generator[int, bytes, _T]
"""A parser: yields the number of bytes it needs from the start, is sent all bytes read so far."""


@dataclass(frozen=True)
class GGUFHeader:
    """One file's header; ``TensorInfo.source`` is the index that the caller gave."""

    version: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


async def read_gguf(source: ByteSource, shards: Sequence[ByteSource] = ()) -> ModelFile:
    """Read the header of a GGUF file, or of the first of a sharded set and ``shards``, the others.

    Metadata values are int, float, bool, str, or lists of those. Raises FormatError where the file
    is damaged, UnsupportedModelError where it uses a tensor type that is not known here,
    SourceError where bytes cannot be read.
    """
    sources = (source, *shards)
    headers = [await read_header(item, index) for index, item in enumerate(sources)]
    metadata, tensors = headers[0].metadata, headers[0].tensors
    if len(sources) > 1 or _split(source, metadata, "count", 1) > 1:
        tensors = _merge(sources, headers)
    return ModelFile(metadata=metadata, tensors=tensors, sources=sources)


async def read_header(source: ByteSource, index: int = 0) -> GGUFHeader:
    """Read one file's header by growing range reads: 256 KiB first, then doubling."""
    parser = _Parser(source.name, source.size, index)
    steps = parser.header()
    data = b""
    try:
        needed = next(steps)
        while True:
            end = min(source.size, max(needed, FIRST_READ, 2 * len(data)))
            data += await source.read(len(data), end - len(data))
            needed = steps.send(data)
    except StopIteration as finished:
        header = finished.value
        assert isinstance(header, GGUFHeader)
        return header


def _split(source: ByteSource, metadata: dict[str, Any], key: str, default: int) -> int:
    value = metadata.get(f"split.{key}", default)
    if not isinstance(value, int):
        raise FormatError(f"{source.name}: split.{key} is not a number; fetch the file again.")
    return value


def _merge(sources: Sequence[ByteSource], headers: Sequence[GGUFHeader]) -> dict[str, TensorInfo]:
    """Join the tensors of a sharded set; the first shard's metadata describe the model."""
    count = _split(sources[0], headers[0].metadata, "count", 1)
    if count != len(sources):
        raise FormatError(
            f"{sources[0].name} is one of {count} files of a model, but {len(sources)} were given: "
            "give all of them, beginning with the one numbered 00001.",
            expected=count,
            given=len(sources),
        )
    tensors: dict[str, TensorInfo] = {}
    for number, (source, header) in enumerate(zip(sources, headers, strict=True)):
        if (
            _split(source, header.metadata, "no", -1) != number
            or _split(source, header.metadata, "count", 1) != count
        ):
            raise FormatError(
                f"{source.name} is not file {number + 1} of {count} of this model: "
                "give the files of one set, in their order."
            )
        for name, info in header.tensors.items():
            if name in tensors:
                raise FormatError(f"Tensor {name!r} is in two files of the set.", tensor=name)
            tensors[name] = info
    total = _split(sources[0], headers[0].metadata, "tensors.count", len(tensors))
    if total != len(tensors):
        raise FormatError(
            f"{sources[0].name} says that the model has {total} tensors, but its files have "
            f"{len(tensors)}: they are not of one set."
        )
    return tensors


class _Parser:
    def __init__(self, name: str, size: int, index: int) -> None:
        self._name = name
        self._size = size
        self._index = index
        self._data = b""
        self._position = 0
        self._items = 0

    def header(self) -> _Steps[GGUFHeader]:
        yield from self._need(min(24, max(self._size, 8)))
        version = self._version()
        yield from self._need(24)
        tensor_count, key_count = struct.unpack_from("<QQ", self._data, 8)
        self._position = 24
        # the smallest record of a key has 8 + 1 + 4 + 1 bytes, of a tensor 8 + 1 + 4 + 4 + 8
        self._check_count("metadata keys", key_count, 14)
        self._check_count("tensors", tensor_count, 25)
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = yield from self._string("a metadata key")
            kind = yield from self._scalar(_U32)
            value = yield from self._value(key, kind)
            if key in metadata:
                raise self._error(f"has the metadata key {key!r} twice")
            metadata[key] = value
        records = []
        for _ in range(tensor_count):
            records.append((yield from self._tensor()))
        return GGUFHeader(version, metadata, self._place(records, self._alignment(metadata)))

    def _error(self, fact: str) -> FormatError:
        return FormatError(
            f"{self._name} {fact}: the file is damaged or incomplete, fetch it again.",
            file=self._name,
        )

    def _version(self) -> int:
        if self._data[:4] != b"GGUF":
            raise FormatError(
                f"{self._name} is not a GGUF file (it does not begin with 'GGUF'): give a .gguf "
                "file or a folder with config.json and .safetensors files.",
                file=self._name,
            )
        version: int = _U32.unpack_from(self._data, 4)[0]
        if version & 0xFFFF == 0 and version:
            raise UnsupportedModelError(
                f"{self._name} is a big-endian GGUF file, which is not supported: convert it with "
                "gguf-convert-endian.",
                file=self._name,
            )
        if version not in (2, 3):
            raise UnsupportedModelError(
                f"{self._name} is GGUF version {version}; versions 2 and 3 are supported: convert "
                "the model again with a present llama.cpp.",
                file=self._name,
                version=version,
            )
        return version

    def _need(self, length: int) -> _Steps[None]:
        """Make sure that ``length`` bytes from the position are there."""
        end = self._position + length
        if end > self._size:
            raise self._error(
                f"ends at byte {self._size}, within its header (byte {end} is needed)"
            )
        if end > MAX_HEADER:
            raise self._error(f"has a header of more than {MAX_HEADER >> 20} MiB")
        while end > len(self._data):
            self._data = yield end

    def _check_count(self, what: str, count: int, nbytes: int) -> None:
        """Refuse a count of things of at least ``nbytes`` each that the file has no room for."""
        if count * nbytes > min(self._size, MAX_HEADER) - self._position:
            raise self._error(f"claims {count} {what}, more than it has room for")

    def _scalar(self, form: struct.Struct) -> _Steps[Any]:
        yield from self._need(form.size)
        value = form.unpack_from(self._data, self._position)[0]
        self._position += form.size
        return value

    def _string(self, what: str) -> _Steps[str]:
        length = yield from self._scalar(_U64)
        self._check_count(f"bytes of {what}", length, 1)
        yield from self._need(length)
        start = self._position
        self._position += length
        return self._data[start : self._position].decode("utf-8", "surrogateescape")

    def _value(self, key: str, kind: int) -> _Steps[Any]:
        if kind == _STRING:
            return (yield from self._string(f"metadata {key!r}"))
        if kind == _ARRAY:
            return (yield from self._array(key))
        if kind not in _SCALARS:
            raise self._error(f"gives the metadata key {key!r} the unknown type {kind}")
        value = yield from self._scalar(_SCALARS[kind])
        return self._bool(key, value) if kind == _BOOL else value

    def _bool(self, key: str, value: int) -> bool:
        if value > 1:
            raise self._error(f"gives the metadata key {key!r} a truth value of {value}")
        return value == 1

    def _array(self, key: str) -> _Steps[list[Any]]:
        kind = yield from self._scalar(_U32)
        count = yield from self._scalar(_U64)
        self._items += count
        if self._items > MAX_ITEMS:
            raise self._error(f"has more than {MAX_ITEMS} metadata values, {count} in {key!r}")
        if kind == _STRING:
            self._check_count(f"strings in {key!r}", count, 8)
            return (yield from self._strings(key, count))
        if kind not in _SCALARS:
            raise self._error(f"gives the metadata key {key!r} elements of the type {kind}")
        form = _SCALARS[kind]
        self._check_count(f"values in {key!r}", count, form.size)
        yield from self._need(count * form.size)
        values = list(struct.unpack_from(f"<{count}{form.format[-1]}", self._data, self._position))
        self._position += count * form.size
        return [self._bool(key, value) for value in values] if kind == _BOOL else values

    def _strings(self, key: str, count: int) -> _Steps[list[str]]:
        # A vocabulary has some 10^5 strings: no calls but the necessary ones in this loop.
        strings: list[str] = []
        append, length_at = strings.append, _U64.unpack_from
        data, position = self._data, self._position
        limit = len(data)
        for _ in range(count):
            start = position + 8
            if start > limit:
                self._position = position
                yield from self._need(8)
                data = self._data
                limit = len(data)
            position = start + length_at(data, position)[0]
            if position > limit:
                self._position = start
                self._check_count(f"bytes of a string in {key!r}", position - start, 1)
                yield from self._need(position - start)
                data = self._data
                limit = len(data)
            try:
                append(data[start:position].decode())
            except UnicodeDecodeError:
                append(data[start:position].decode("utf-8", "surrogateescape"))
        self._position = position
        return strings

    def _tensor(self) -> _Steps[TensorInfo]:
        """Read one tensor record; its offset is still relative to the data section."""
        name = yield from self._string("a tensor's name")
        dimensions = yield from self._scalar(_U32)
        if dimensions > MAX_DIMENSIONS:
            raise self._error(f"gives tensor {name!r} {dimensions} dimensions")
        sizes = []
        for _ in range(dimensions):
            sizes.append((yield from self._scalar(_U64)))
        kind = yield from self._scalar(_U32)
        offset = yield from self._scalar(_U64)
        if kind not in BY_ID:
            known = f" ({_KNOWN_ELSEWHERE[kind]})" if kind in _KNOWN_ELSEWHERE else ""
            raise UnsupportedModelError(
                f"{self._name}: tensor {name!r} has the type number {kind}{known}, which is not "
                "supported: choose a file with another quantization.",
                tensor=name,
                type=kind,
            )
        shape = tuple(reversed(sizes))
        nbytes = tensor_nbytes(self._name, name, shape, BY_ID[kind])
        return TensorInfo(name, shape, BY_ID[kind], self._index, offset, nbytes)

    def _alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._error(f"has an alignment of {alignment!r}, which is no power of two")
        return alignment

    def _place(self, records: list[TensorInfo], alignment: int) -> dict[str, TensorInfo]:
        start = -(-self._position // alignment) * alignment
        for info in records:
            if info.offset % alignment:
                raise self._error(f"places tensor {info.name!r} off its alignment of {alignment}")
        return check_layout(self._name, self._size, start, records)
