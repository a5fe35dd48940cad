"""Callbacks that are ready at the same time run in one task of the browser.

Pyodide's event loop makes a JavaScript task of each callback, at 0.1 to 0.3 ms apiece: with four
answers at once that is most of what a token costs. Here they wait in a queue, as in asyncio's own
loop, and one task runs them, and those that they make ready, for at most a few milliseconds: then
the worker hears what the page has to say. For loops whose interpreter is ours alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

TURN_SECONDS = 0.004
"""How long callbacks run before the browser has its turn."""


class ReadyQueue:
    """Stands in for a loop's ``call_soon``; needs only its ``call_later``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._scheduled = False

    def install(self) -> None:
        """Take the place of the loop's own ``call_soon``."""
        self._loop.call_soon = self.call_soon  # type: ignore[assignment]

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback, as ``asyncio.loop.call_soon`` does."""
        handle = asyncio.Handle(callback, args, self._loop, context=context)
        self._ready.append(handle)
        self._schedule()
        return handle

    def _schedule(self) -> None:
        if self._ready and not self._scheduled:
            self._scheduled = True
            self._loop.call_later(0, self._run)

    def _run(self) -> None:
        end = self._clock() + TURN_SECONDS
        try:
            while self._ready:
                for _ in range(len(self._ready)):
                    handle = self._ready.popleft()
                    if not handle.cancelled():
                        handle._run()
                if self._clock() >= end:
                    break
        finally:  # also where a callback ends the interpreter's work: the others are still due
            self._scheduled = False
            self._schedule()
