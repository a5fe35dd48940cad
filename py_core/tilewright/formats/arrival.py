"""How the bytes of a load come in: what is there, and whether there is time for something else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SLOW = 20e6
"""Bytes per second below which a network is waited for, and not a disk or this processor."""
WAITING = 0.7
"""Share of the time that is spent waiting where bytes are what is missing."""
SETTLED = 1.0
"""Seconds before anything is said: a small model is there by then."""


class Arrival:
    """Measures one load."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        """Names of the tensors that are in their place."""
        self._begun = time.perf_counter()
        self._since: float | None = None
        self._waited = 0.0
        self._nbytes = 0

    @contextmanager
    def of(self, nbytes: int) -> Iterator[None]:
        """Wait for so many bytes inside."""
        self._since = begun = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - begun
            self._since = None
        self._nbytes += nbytes

    @property
    def slow(self) -> bool:
        """Whether the load waits now, and has done little else so far."""
        if self._since is None:
            return False
        now = time.perf_counter()
        elapsed, waited = now - self._begun, self._waited + now - self._since
        slow = self._nbytes < SLOW * elapsed and waited > WAITING * elapsed
        return slow and elapsed > SETTLED
