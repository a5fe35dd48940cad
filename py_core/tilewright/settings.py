"""The few documented switches of Tilewright, read once from the environment.

| variable | meaning | default |
|---|---|---|
| ``TILEWRIGHT_DEBUG`` | 1 devices, 2 kernel times, 3 tuning, 4 linked WGSL, 5 plans | 0 |
| ``TILEWRIGHT_BACKEND`` | ``webgpu`` or ``wasm``; empty: chosen by measurement | empty |
| ``TILEWRIGHT_CACHE`` | folder of tuning records and downloads | the platform's cache folder |
| ``TILEWRIGHT_ADAPTER`` | part of the name of the GPU adapter to use | empty |
| ``TILEWRIGHT_LARGE_PAGES`` | 1: the CPU path asks Linux for pages of 2 MiB | 0 |

In the browser the page passes the same names as query parameters (``?debug=4``). Imports nothing
of Tilewright.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """One consistent set of switches."""

    debug: int = 0
    backend: str = ""
    cache: str = ""
    adapter: str = ""
    large_pages: bool = False

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables of the table above; unreadable numbers count as 0."""
        debug = os.environ.get("TILEWRIGHT_DEBUG", "0")
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(
            debug=int(debug) if debug.isdigit() else 0,
            backend=os.environ.get("TILEWRIGHT_BACKEND", ""),
            cache=os.environ.get("TILEWRIGHT_CACHE") or str(Path(home) / "tilewright"),
            adapter=os.environ.get("TILEWRIGHT_ADAPTER", ""),
            large_pages=os.environ.get("TILEWRIGHT_LARGE_PAGES") == "1",
        )


_current = Settings.from_environment()


def current() -> Settings:
    """Return the switches in force."""
    return _current


@contextmanager
def scope(**changes: int | str) -> Iterator[Settings]:
    """Change switches for the length of a ``with`` block."""
    global _current
    before = _current
    _current = replace(before, **changes)  # type: ignore[arg-type]
    try:
        yield _current
    finally:
        _current = before
