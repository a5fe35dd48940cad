"""Runs assembled modules natively through ``wasmtime`` (the extra ``cpu``), on one thread.

The browser's half of this small interface (``Instance``) is another module; nothing but this file
knows wasmtime. A memory is imported by every module under ``env.memory``.
"""

from __future__ import annotations

from typing import Any

from ..errors import DeviceUnavailableError, KernelError, OutOfMemoryError

PAGE = 65536
MOST_PAGES = 65536
"""A 32-bit memory ends at 4 GiB."""


class NativeMemory:
    """One linear memory and the store it lives in."""

    def __init__(self, nbytes: int) -> None:
        """Allocate ``nbytes``, zeroed. Raises OutOfMemoryError beyond 4 GiB."""
        pages = -(-nbytes // PAGE)
        if pages > MOST_PAGES:
            raise OutOfMemoryError(
                f"The model and its cache take {nbytes / 2**30:.1f} GiB, but a WebAssembly memory "
                "holds 4 GiB: choose a smaller model, format or context, or the WebGPU backend.",
                needed=nbytes,
            )
        wasmtime = _wasmtime()
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        config.cranelift_opt_level = "speed"
        self._wasmtime = wasmtime
        self._engine = wasmtime.Engine(config)
        self._store = wasmtime.Store(self._engine)
        try:
            limits = wasmtime.Limits(pages, pages)
            self._memory = wasmtime.Memory(self._store, wasmtime.MemoryType(limits))
        except wasmtime.WasmtimeError as error:
            raise OutOfMemoryError(
                f"The host has no room for {nbytes / 2**30:.1f} GiB: choose a smaller model.",
                needed=nbytes,
            ) from error
        self.nbytes = pages * PAGE

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the memory."""
        if at < 0 or at + len(data) > self.nbytes:
            raise KernelError(f"{len(data)} bytes at {at} are outside the memory.")
        self._memory.write(self._store, data, at)

    def read(self, at: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        if at < 0 or at + length > self.nbytes:
            raise KernelError(f"{length} bytes at {at} are outside the memory.")
        return bytes(self._memory.read(self._store, at, at + length))

    def instantiate(self, module: bytes) -> NativeInstance:
        """Compile a module. Raises KernelError where it is not valid."""
        try:
            compiled = self._wasmtime.Module(self._engine, module)
            instance = self._wasmtime.Instance(self._store, compiled, [self._memory])
        except self._wasmtime.WasmtimeError as error:
            raise KernelError(f"A WebAssembly module does not compile: {error}") from error
        return NativeInstance(self._store, instance, self._wasmtime)


class NativeInstance:
    """A module's functions."""

    def __init__(self, store: Any, instance: Any, wasmtime: Any) -> None:
        self._store = store
        self._trap = wasmtime.Trap
        self._exports = instance.exports(store)
        self._functions: dict[str, Any] = {}

    def call(self, name: str, *values: float) -> Any:
        """Call an exported function. Raises KernelError where it traps."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = self._exports[name]
        try:
            return found(self._store, *values)
        except self._trap as trap:
            raise KernelError(f"The kernel {name} stopped: {trap.message}") from trap


def _wasmtime() -> Any:
    try:
        import wasmtime
    except ImportError as error:
        raise DeviceUnavailableError(
            "The WebAssembly backend needs wasmtime here: pip install 'tilewright[cpu]'."
        ) from error
    return wasmtime
