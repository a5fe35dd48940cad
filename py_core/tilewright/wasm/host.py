"""What runs assembled modules here: ``wasmtime`` natively, the browser's own engine in Pyodide.

The two small interfaces behind which the rest of the CPU path does not know the world it is in.
A memory is imported by every module under ``env.memory``; addresses are plain numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import OutOfMemoryError
from ..formats.source import ByteSource
from .assembler import Memory as Import
from .kernels.linear import Splat
from .kernels.packing import Dots

PAGE = 65536
MOST_PAGES = 65536
"""A 32-bit memory ends at 4 GiB."""
IMPORTED = Import("env", "memory", 1)
SHARED = Import("env", "memory", 1, MOST_PAGES, shared=True)


class Instance(Protocol):
    """A module's functions."""

    def call(self, name: str, *values: float) -> Any:
        """Call an exported function. Raises KernelError where it traps."""
        ...


class Memory(Protocol):
    """One linear memory."""

    nbytes: int

    def grow(self, nbytes: int) -> None:
        """Have at least so many bytes. Raises OutOfMemoryError."""
        ...

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the memory."""
        ...

    def read(self, at: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        ...

    async def fill(self, at: int, source: ByteSource, offset: int, length: int) -> None:
        """Copy a range of a source into the memory, past Python where that is possible."""
        ...

    def fetch(self, at: int, source: ByteSource, offset: int, length: int) -> Awaitable[None]:
        """Do the same, reading while this thread computes; done when the result was awaited."""
        ...

    def instantiate(self, module: bytes) -> Instance:
        """Compile a module. Raises KernelError where it is not valid."""
        ...

    def start(self, module: bytes, workers: int) -> None:
        """Let ``workers`` more threads call the module's ``work(number)``, numbers from 1."""
        ...

    def stop(self) -> None:
        """End the threads; they must have been told to return, or to wait."""
        ...

    def close(self) -> None:
        """Do the same and let go of the memory."""
        ...


@dataclass(frozen=True)
class Host:
    """What this machine offers."""

    relaxed: bool
    """Whether relaxed SIMD is there."""
    cores: int
    """Threads that may compute together; 1 where memories cannot be shared."""
    allocate: Callable[[int, bool], Memory]
    """(bytes, whether threads share it) -> a zeroed memory; OutOfMemoryError."""
    splat: Splat = "shuffle"
    """What is likely to be fast here; see ``kernels.linear.Tuning``."""
    engine: str = ""
    """Name and version of what compiles the modules."""
    dots: Dots = "seven"
    """What relaxed dot products are good for."""
    tiers: bool = False
    """Whether it compiles better code while a module runs."""


def here() -> Host:
    """Return the host of the world we run in. Raises DeviceUnavailableError without wasmtime."""
    if sys.platform == "emscripten":
        from . import browser

        return browser.host()
    from . import native

    return native.host()


def pages(nbytes: int) -> int:
    """Return the pages that ``nbytes`` take. Raises OutOfMemoryError beyond 4 GiB."""
    count = -(-nbytes // PAGE)
    if count > MOST_PAGES:
        raise OutOfMemoryError(
            f"The model and its cache take {nbytes / 2**30:.1f} GiB, but a WebAssembly memory "
            "holds 4 GiB: choose a smaller model, format or context, or the WebGPU backend.",
            needed=nbytes,
        )
    return count


def no_room(nbytes: int) -> OutOfMemoryError:
    """Return the error of a host that has not got so much memory."""
    return OutOfMemoryError(
        f"This machine has no room for {nbytes / 2**30:.1f} GiB: choose a smaller model, format "
        "or context.",
        needed=nbytes,
    )
