"""Runs assembled modules in the browser: the Python half of ``web/src/wasm_bridge.ts``.

The memory is one of its own, not Pyodide's. Weights go into it straight from the JavaScript
sources; Python writes only the few numbers of a step.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ..errors import KernelError
from ..formats.source import ByteSource, check_range
from . import dots
from .assembler import Module, f32x4
from .host import PAGE, Host, no_room, pages


def bridge() -> Any:
    """Return the JavaScript half."""
    import tilewright_wasm_bridge

    return tilewright_wasm_bridge


def host() -> Host:
    """Return what this browser offers."""
    probe = Module()
    zero = f32x4.const(0.0)
    probe.function("probe").do(f32x4.relaxed_madd(zero, zero, zero))
    js = bridge()
    relaxed = bool(js.validates(probe.assemble()))
    found = dots.measure(BrowserMemory) if relaxed else "seven"
    engine = str(js.engine())
    return Host(relaxed, int(js.cores()), BrowserMemory, "load", engine, found, tiers=True)


class BrowserMemory:
    """One ``WebAssembly.Memory``."""

    def __init__(self, nbytes: int, shared: bool) -> None:
        from pyodide.ffi import JsException

        count = pages(nbytes)
        try:
            self._memory = bridge().LinearMemory.new(count, shared)
        except JsException as error:
            raise no_room(nbytes) from error
        self.nbytes = count * PAGE

    @classmethod
    def adopt(cls, js_memory: Any) -> BrowserMemory:
        """Return a memory that JavaScript has made (a ``WebAssembly.Memory``)."""
        made = cls.__new__(cls)
        count = int(js_memory.buffer.byteLength) // PAGE
        made._memory = bridge().LinearMemory.new(count, True, js_memory)
        made.nbytes = count * PAGE
        return made

    def grow(self, nbytes: int) -> None:
        """Have at least so many bytes. Raises OutOfMemoryError."""
        from pyodide.ffi import JsException

        more = pages(nbytes) - self.nbytes // PAGE
        if more <= 0:
            return
        try:
            self._memory.grow(more)
        except JsException as error:
            raise no_room(nbytes) from error
        self.nbytes += more * PAGE

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the memory."""
        if at < 0 or at + len(data) > self.nbytes:
            raise KernelError(f"{len(data)} bytes at {at} are outside the memory.")
        self._memory.write(at, data)

    def read(self, at: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        if at < 0 or at + length > self.nbytes:
            raise KernelError(f"{length} bytes at {at} are outside the memory.")
        data: bytes = self._memory.read(at, length).to_bytes()
        return data

    async def fill(self, at: int, source: ByteSource, offset: int, length: int) -> None:
        """Copy a range of a source into the memory; past Python where it is JavaScript's."""
        move = getattr(source, "move", None)
        if move is None:
            self.write(at, await source.read(offset, length))
            return
        if at < 0 or at + length > self.nbytes:
            raise KernelError(f"{length} bytes at {at} are outside the memory.")
        await move(
            offset,
            length,
            lambda js_source, signal: self._memory.fill(at, js_source, offset, length, signal),
        )

    def fetch(self, at: int, source: ByteSource, offset: int, length: int) -> Awaitable[None]:
        """Do the same; what JavaScript reads is asked for now."""
        here: Any = source
        if not hasattr(here, "js_source"):
            return self.fill(at, source, offset, length)
        if at < 0 or at + length > self.nbytes:
            raise KernelError(f"{length} bytes at {at} are outside the memory.")
        check_range(source, offset, length)
        asked = self._memory.fetch(at, here.js_source, offset, length, here.signal)
        moved: Awaitable[None] = here.move(offset, length, lambda *_: asked)
        return moved

    def instantiate(self, module: bytes) -> BrowserInstance:
        """Compile a module. Raises KernelError where it is not valid."""
        from pyodide.ffi import JsException

        try:
            return BrowserInstance(self._memory.instantiate(module))
        except JsException as error:
            raise KernelError(f"A WebAssembly module does not compile: {error}") from error

    def start(self, module: bytes, workers: int) -> None:
        """Let ``workers`` more threads call the module's ``work(number)``."""
        self._memory.start(module, workers)

    def stop(self) -> None:
        """End the threads."""
        self._memory.stop()

    def close(self) -> None:
        """End the threads and let go of the memory."""
        self._memory.close()
        self._memory = None


class BrowserInstance:
    """A module's functions."""

    def __init__(self, exports: Any) -> None:
        self._exports = exports
        self._functions: dict[str, Any] = {}

    def call(self, name: str, *values: float) -> Any:
        """Call an exported function. Raises KernelError where it traps."""
        from pyodide.ffi import JsException

        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = getattr(self._exports, name)
        try:
            return found(*values)
        except JsException as error:
            raise KernelError(f"The kernel {name} stopped: {error}") from error
