"""Byte sources that show bytes of other sources in another order, without rewriting any file.

GGUF keeps the experts of a layer as one tensor and every matrix row-major; other containers hold
one tensor per expert, two matrices interleaved, or transposed ones. ``PiecesSource`` and
``TransposedSource`` show those as GGUF has them, so that whoever loads weights sees one contiguous
range. They know nothing of what the bytes mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from .computed import ComputedSource
from .source import ByteSource, check_range


@dataclass(frozen=True)
class Piece:
    """A byte range of a source."""

    source: ByteSource
    offset: int
    nbytes: int


class PiecesSource:
    """Pieces of other sources, one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self._pieces: list[Piece] = []
        self._starts: list[int] = []

    def append(self, pieces: list[Piece]) -> int:
        """Add pieces at the end; return the offset of the first."""
        start = self.size
        for piece in pieces:
            self._pieces.append(piece)
            self._starts.append(self.size)
            self.size += piece.nbytes
        return start

    def ranges(self, offset: int, length: int) -> Iterator[Piece]:
        """Yield the ranges of the underlying sources that make up a range of this one."""
        check_range(self, offset, length)
        index = bisect_right(self._starts, offset) - 1
        while length > 0:
            piece = self._pieces[index]
            skip = offset - self._starts[index]
            count = min(length, piece.nbytes - skip)
            if count:
                yield Piece(piece.source, piece.offset + skip, count)
            offset, length, index = offset + count, length - count, index + 1

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range as bytes."""
        parts = [
            await piece.source.read(piece.offset, piece.nbytes)
            for piece in self.ranges(offset, length)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(frozen=True)
class _Matrix:
    source: ByteSource
    offset: int
    rows: int
    columns: int
    item: int


class TransposedSource(ComputedSource):
    """Matrices of other sources, each transposed, one after the other.

    The matrix that is being read is held in memory until its last byte has been given out.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._matrices: list[_Matrix] = []
        self._held: tuple[int, memoryview[int]] | None = None

    def append(self, source: ByteSource, offset: int, rows: int, columns: int, item: int) -> int:
        """Add ``[rows, columns]`` of 2 or 4 byte items; return where ``[columns, rows]`` begins."""
        self._matrices.append(_Matrix(source, offset, rows, columns, item))
        return self._grow(rows * columns * item)

    async def _range(self, index: int, skip: int, count: int) -> bytes:
        matrix = self._matrices[index]
        total = matrix.rows * matrix.columns * matrix.item
        if self._held is None or self._held[0] != index:
            data = await matrix.source.read(matrix.offset, total)
            view = memoryview(data)
            self._held = (index, view.cast("H") if matrix.item == 2 else view.cast("I"))
        elements = self._held[1]
        row_bytes = matrix.rows * matrix.item
        first, last = skip // row_bytes, -(-(skip + count) // row_bytes)
        rows = [elements[column :: matrix.columns].tobytes() for column in range(first, last)]
        if skip + count == total:
            self._held = None
        begin = skip - first * row_bytes
        return b"".join(rows)[begin : begin + count]
