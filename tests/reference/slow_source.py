"""A source like a slow network, whose last bytes wait for something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tilewright.formats.source import MemorySource


class SlowSource(MemorySource):
    """Pauses before every read; the file's end comes once ``ready()``."""

    def __init__(self, path: Path, ready: Callable[[], bool], *, last: int = 4096) -> None:
        super().__init__(path.read_bytes(), path.name)
        self._ready = ready
        self._last = last

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range, late."""
        await asyncio.sleep(0.01)
        for _ in range(3000):
            if offset + length <= self.size - self._last or self._ready():
                break
            await asyncio.sleep(0.01)
        return await super().read(offset, length)
