"""What sources share whose bytes are computed part by part while they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right

from .source import check_range


class ComputedSource(ABC):
    """Parts one after the other; whoever extends it knows what a part is and gives its bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self._starts: list[int] = []

    def _grow(self, nbytes: int) -> int:
        """Note one more part of so many bytes, all known before; return where it begins."""
        start = self.size
        self._starts.append(start)
        self.size += nbytes
        return start

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range as bytes. Raises SourceError, FormatError."""
        check_range(self, offset, length)
        pieces = []
        while length > 0:
            index = bisect_right(self._starts, offset) - 1
            end = self._starts[index + 1] if index + 1 < len(self._starts) else self.size
            count = min(length, end - offset)
            pieces.append(await self._range(index, offset - self._starts[index], count))
            offset, length = offset + count, length - count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @abstractmethod
    async def _range(self, index: int, skip: int, count: int) -> bytes:
        """Return ``count`` bytes of a part, ``skip`` bytes behind its start."""
