"""How many threads a step is given, from how long it had to wait for them.

A core that the machine has given to someone else costs nothing while its thread holds no piece;
where it holds one, thread 0 waits for its next turn. With ``n`` threads that costs more than the
last of them brings once it is the ``n``-th part of the time. Knows times and counts, no threads.
"""

from __future__ import annotations

TURN = 4e-3
"""Seconds that a late thread costs, about: what a busy machine gives to another process."""
_WEIGHT = 0.25
"""Of the newest step in the average, at most."""
_FIRST, _LAST = 0.25, 8.0
"""Seconds of steps until one more thread is tried again: doubled each time that was no good."""


class Crew:
    """The number of threads of the next step."""

    def __init__(self, most: int) -> None:
        self.size = most
        """Threads that take part."""
        self._most = most
        self._lost = 0.0
        self._late = 0
        self._wait = _FIRST
        self._since = 0.0
        self._grown = False

    def after(self, seconds: float, late: int) -> bool:
        """Take note of a step; return whether ``size`` has changed.

        ``late``: calls so far, of all steps, at whose end a thread had to be waited for.
        """
        lost = min((late - self._late & 0xFFFFFFFF) * TURN / max(seconds, 1e-6), 1.0)
        self._late = late
        # A long step says as much as many short ones.
        weight = max(_WEIGHT, min(seconds / _FIRST, 1.0))
        self._lost += weight * (lost - self._lost)
        self._since += seconds
        if self.size > 1 and self._lost > 1 / self.size:
            # Just grown, and already no good: wait longer before the next try.
            soon = self._grown and self._since < self._wait
            self._wait = min(2 * self._wait, _LAST) if soon else _FIRST
            return self._change(-1)
        if self.size < self._most and self._since > self._wait:
            return self._change(1)
        return False

    def _change(self, by: int) -> bool:
        self.size += by
        self._grown = by > 0
        self._lost, self._since = 0.0, 0.0
        return True
