"""Where bytes come from: memory, a file, later a URL or the browser's storage.

Readers ask for small ranges (the header); the weights themselves are streamed to the GPU by
``webgpu/memory.py`` and, in the browser, never pass through Python at all.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Protocol

from ..errors import SourceError


class ByteSource(Protocol):
    """A run of bytes of known length that can be read by ranges."""

    @property
    def name(self) -> str:
        """What to call the source in messages: a file name or a URL."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``, or raise SourceError."""
        ...


def check_range(source: ByteSource, offset: int, length: int) -> None:
    """Raise SourceError unless ``offset .. offset+length`` lies inside the source."""
    if offset < 0 or length < 0 or offset + length > source.size:
        raise SourceError(
            f"{source.name} ends at byte {source.size}, but bytes {offset} to {offset + length} "
            "were asked for: the file is incomplete or damaged, fetch it again.",
            size=source.size,
            offset=offset,
            length=length,
        )


class MemorySource:
    """Bytes that are already in memory."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "memory") -> None:
        self._data = memoryview(data)
        self.name = name
        self.size = len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        """Return a copy of the range."""
        check_range(self, offset, length)
        return bytes(self._data[offset : offset + length])


class FileSource:
    """A file on disk, read without keeping it in memory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = self.path.name
        try:
            self._file: io.BufferedReader = self.path.open("rb")
        except OSError as error:
            raise SourceError(
                f"{self.path} cannot be opened ({error.strerror}): check the path.", path=str(path)
            ) from error
        self.size = os.fstat(self._file.fileno()).st_size

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range as bytes."""
        return self._read(self._file, offset, length)

    def read_apart(self, offset: int, length: int) -> bytes:
        """Return the range, too, but from any thread."""
        try:
            with self.path.open("rb") as file:
                return self._read(file, offset, length)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read any more ({error.strerror}).") from error

    def _read(self, file: io.BufferedReader, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        file.seek(offset)
        data = file.read(length)
        if len(data) != length:
            raise SourceError(f"{self.name} became shorter while it was read: load it again.")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()
