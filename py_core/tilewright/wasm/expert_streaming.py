"""Experts that are not in the memory: read from the file when the router chooses them.

There are rooms for some experts of all layers together, and who was used longest ago gives way. A
table per layer tells the kernels where its experts lie. Reads of several experts are on their way
while one is laid out. Knows nothing of what routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from ..errors import TilewrightError
from .weights import ExpertRooms, Job, Loader, expert_bytes, tensor_rows_bytes

Expert = tuple[int, int]
"""Layer and number."""


@dataclass(frozen=True)
class _Coming:
    """An expert on its way: where its bytes will lie, and its room."""

    expert: Expert
    room: int
    raw: int
    parts: list[Awaitable[None]]


class ExpertStreamer:
    """Keeps experts by use."""

    def __init__(self, loader: Loader, rooms: ExpertRooms) -> None:
        self.bytes_read = 0
        """Bytes of the file that were read for experts."""
        self.seconds_waiting = 0.0
        """Seconds in which nothing was computed because experts were not there."""
        self.hits = self.misses = 0
        """Experts that a layer's tokens chose and that were there, or were not."""
        self._loader = loader
        self._rooms = rooms
        self._tensors = {
            layer: [(loader.file.tensor(name), rows, at) for name, rows, at in parts]
            for layer, parts in rooms.parts.items()
        }
        self._raw_bytes = expert_bytes(loader.file, rooms)
        self._held: dict[Expert, int] = {}
        """The room of each that is there, the one used longest ago first."""
        self._free = list(range(rooms.count))
        self._tables = {layer: array("I", bytes(4 * n)) for layer, n in rooms.experts.items()}

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose experts are streamed, rising."""
        return tuple(sorted(self._rooms.parts))

    async def bring(self, layer: int, chosen: Iterable[int]) -> None:
        """Put a layer's chosen experts into the memory. Raises SourceError."""
        # A number that is none is read as 0, as the kernel does.
        wanted = {(layer, e if e < self._rooms.experts[layer] else 0) for e in chosen}
        missing = sorted(wanted - self._held.keys())
        for expert in wanted & self._held.keys():
            self._held[expert] = self._held.pop(expert)
        self.hits += len(wanted) - len(missing)
        self.misses += len(missing)
        if not missing:
            return
        begun = time.perf_counter()
        await self._read(missing)
        table = self._tables[layer]
        for expert in missing:
            table[expert[1]] = self._rooms.first + self._held[expert] * self._rooms.each
        self._loader.memory.write(self._rooms.tables[layer], table.tobytes())
        self.seconds_waiting += time.perf_counter() - begun
        await asyncio.sleep(0)

    async def _read(self, missing: list[Expert]) -> None:
        """Read experts, as many at once as the room for raw weights takes."""
        coming: deque[_Coming] = deque()
        raws = [
            self._loader.raw + n * self._raw_bytes
            for n in range(self._loader.raw_bytes // self._raw_bytes)
        ]
        left = deque(missing)
        try:
            while left or coming:
                while left and raws:
                    coming.append(self._begin(left.popleft(), raws.pop()))
                one = coming[0]
                while one.parts:
                    await one.parts.pop(0)
                self._lay_out(one)
                raws.append(coming.popleft().raw)
        finally:
            for one in coming:  # what is left still writes into the raw room
                for part in one.parts:
                    with contextlib.suppress(TilewrightError):
                        await part
                self._free.append(one.room)

    def _begin(self, expert: Expert, raw: int) -> _Coming:
        """Ask for an expert's bytes; its room is nobody's until they are laid out."""
        oldest = next(iter(self._held), expert)
        room = self._free.pop() if self._free else self._held.pop(oldest)
        parts, at = [], raw
        for tensor, rows, _ in self._tensors[expert[0]]:
            nbytes = tensor_rows_bytes(tensor, rows)
            place = tensor.offset + expert[1] * nbytes
            parts.append(self._loader.read(tensor.source, place, nbytes, at))
            at += -(-nbytes // 16) * 16
        return _Coming(expert, room, raw, parts)

    def _lay_out(self, one: _Coming) -> None:
        raw = one.raw
        room = self._rooms.first + one.room * self._rooms.each
        for tensor, rows, at in self._tensors[one.expert[0]]:
            job = Job(tensor, room + at, 0, one.expert[0], False)
            self._loader.unpack(job, raw, 0, rows)
            nbytes = tensor_rows_bytes(tensor, rows)
            self.bytes_read += nbytes
            raw += -(-nbytes // 16) * 16
        self._held[one.expert] = one.room

    def stats(self) -> dict[str, float]:
        """Return what was streamed so far."""
        return {
            "streamed_layers": len(self._rooms.parts),
            "streamed_bytes": self.bytes_read,
            "streaming_s": self.seconds_waiting,
            "expert_rooms": self._rooms.count,
            "expert_hits": self.hits,
            "expert_misses": self.misses,
        }

    async def close(self) -> None:
        """Nothing is on its way between two steps."""
