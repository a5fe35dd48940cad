"""Runs assembled modules natively through ``wasmtime`` (the extra ``cpu``).

Nothing but this file knows wasmtime. Threads are Python's: a call of a module's function lets go of
Python's lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import mmap
import os
import platform
import threading
from collections.abc import Awaitable
from typing import Any

from .. import settings
from ..errors import DeviceUnavailableError, KernelError
from ..formats.source import ByteSource, FileSource
from . import dots
from .host import MOST_PAGES, PAGE, Host, no_room, pages


def host() -> Host:
    """Return what this machine offers. Raises DeviceUnavailableError without wasmtime."""
    _wasmtime()
    engine = f"wasmtime {importlib.metadata.version('wasmtime')} {platform.machine()}"
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return Host(True, cores, NativeMemory, engine=engine, dots=dots.measure(NativeMemory))


class NativeMemory:
    """One linear memory and the engine it lives in."""

    def __init__(self, nbytes: int, shared: bool = False, *, relaxed: bool = True) -> None:
        """Allocate ``nbytes``, zeroed. Raises OutOfMemoryError beyond 4 GiB.

        ``relaxed`` False: as an engine that has no relaxed SIMD.
        """
        count = pages(nbytes)
        wasmtime = _wasmtime()
        config = wasmtime.Config()
        config.wasm_relaxed_simd = relaxed
        config.cranelift_opt_level = "speed"
        if shared:
            config.wasm_threads = True
            config.shared_memory = True
        self._wasmtime = wasmtime
        self._engine = wasmtime.Engine(config)
        self._store = wasmtime.Store(self._engine)
        self._shared = shared
        self._threads: list[threading.Thread] = []
        self._base: int | None = None
        """Where a shared memory lies, which does not move."""
        try:
            limits = wasmtime.Limits(count, MOST_PAGES)
            kind = wasmtime.MemoryType(limits, shared=shared)
            if shared:
                self._memory = _shared_memory(wasmtime)(self._engine, kind)
            else:
                self._memory = wasmtime.Memory(self._store, kind)
        except wasmtime.WasmtimeError as error:
            raise no_room(nbytes) from error
        self.nbytes = count * PAGE
        if settings.current().large_pages:
            _ask_for_large_pages(self._address(), self.nbytes)

    def grow(self, nbytes: int) -> None:
        """Have at least so many bytes. Raises OutOfMemoryError."""
        more = pages(nbytes) - self.nbytes // PAGE
        if more <= 0:
            return
        try:
            self._memory.grow(more) if self._shared else self._memory.grow(self._store, more)
        except self._wasmtime.WasmtimeError as error:
            raise no_room(nbytes) from error
        self.nbytes += more * PAGE

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the memory."""
        if at < 0 or at + len(data) > self.nbytes:
            raise KernelError(f"{len(data)} bytes at {at} are outside the memory.")
        if self._shared:
            ctypes.memmove(self._address() + at, bytes(data), len(data))
        else:
            self._memory.write(self._store, data, at)

    def read(self, at: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        if at < 0 or at + length > self.nbytes:
            raise KernelError(f"{length} bytes at {at} are outside the memory.")
        if self._shared:
            return ctypes.string_at(self._address() + at, length)
        return bytes(self._memory.read(self._store, at, at + length))

    def _address(self) -> int:
        if self._base is not None:
            return self._base
        at = self._memory.data_ptr() if self._shared else self._memory.data_ptr(self._store)
        address = ctypes.cast(at, ctypes.c_void_p).value or 0
        self._base = address if self._shared else None
        return address

    async def fill(self, at: int, source: ByteSource, offset: int, length: int) -> None:
        """Copy a range of a source into the memory."""
        self.write(at, await source.read(offset, length))

    def fetch(self, at: int, source: ByteSource, offset: int, length: int) -> Awaitable[None]:
        """Do the same; a file is read in a thread of its own, beginning now."""
        if not isinstance(source, FileSource):
            return self.fill(at, source, offset, length)
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(None, source.read_apart, offset, length)

        async def written() -> None:
            self.write(at, await reading)

        return written()

    def instantiate(self, module: bytes) -> NativeInstance:
        """Compile a module. Raises KernelError where it is not valid."""
        return self._instance(self._compiled(module), self._store)

    def _compiled(self, module: bytes) -> Any:
        try:
            return self._wasmtime.Module(self._engine, module)
        except self._wasmtime.WasmtimeError as error:
            raise KernelError(f"A WebAssembly module does not compile: {error}") from error

    def _instance(self, compiled: Any, store: Any) -> NativeInstance:
        try:
            instance = self._wasmtime.Instance(store, compiled, [self._memory])
        except self._wasmtime.WasmtimeError as error:
            raise KernelError(f"A WebAssembly module does not fit: {error}") from error
        return NativeInstance(store, instance)

    def start(self, module: bytes, workers: int) -> None:
        """Let ``workers`` more threads call the module's ``work(number)``."""
        compiled = self._compiled(module)
        for number in range(1, workers + 1):
            instance = self._instance(compiled, self._wasmtime.Store(self._engine))
            thread = threading.Thread(target=instance.call, args=("work", number), daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Wait for the threads, which must have been told to return."""
        self.stop()

    def stop(self) -> None:
        """Do the same; new ones may be started."""
        for thread in self._threads:
            thread.join(timeout=1.0)
        self._threads.clear()


class NativeInstance:
    """A module's functions."""

    def __init__(self, store: Any, instance: Any) -> None:
        self._store = store
        self._exports = instance.exports(store)
        self._functions: dict[str, _Function] = {}

    def call(self, name: str, *values: float) -> Any:
        """Call an exported function. Raises KernelError where it traps."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = _Function(self._store, self._exports[name])
        try:
            return found(*values)
        except found.trap as trap:
            raise KernelError(f"The kernel {name} stopped: {trap.message}") from trap


class _Function:
    """An exported function that takes plain numbers.

    wasmtime's own asks for the types again at every call and makes objects of all values: 78
    microseconds instead of 4, where a step of a small model takes 400.
    """

    def __init__(self, store: Any, function: Any) -> None:
        from wasmtime import _ffi as ffi

        wasmtime = _wasmtime()
        kind = function.type(store)
        self._kinds = [str(each) for each in kind.params]
        self._results = [str(each) for each in kind.results]
        self._raw = (ffi.wasmtime_val_raw_t * max(len(self._kinds), len(self._results), 1))()
        self._given = store._context(), ctypes.byref(function._func), self._raw, len(self._raw)
        self._call = ffi.wasmtime_func_call_unchecked
        self._no_trap = ctypes.POINTER(ffi.wasm_trap_t)
        self._error = wasmtime.WasmtimeError
        self.trap = wasmtime.Trap

    def __call__(self, *values: float) -> Any:
        """Return the only result, or None. Raises ``trap``."""
        raw, trap = self._raw, self._no_trap()
        for at, (kind, value) in enumerate(zip(self._kinds, values, strict=True)):
            setattr(raw[at], kind, value)  # addresses beyond 2 GiB become negative numbers
        error = self._call(*self._given, ctypes.byref(trap))
        if trap:
            raise self.trap._from_ptr(trap)
        if error:
            raise self._error._from_ptr(error)
        return getattr(raw[0], self._results[0]) if self._results else None


def _ask_for_large_pages(address: int, nbytes: int) -> None:
    """Ask Linux for pages of 2 MiB: a step reads all weights, and finding small pages costs."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is not None:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        madvise(address, nbytes, advice)  # refused: then there are none


def _shared_memory(wasmtime: Any) -> Any:
    """Return wasmtime's class with its way into an instance put right.

    Version 50 hands on a pointer to the pointer.
    """
    from wasmtime import _ffi as ffi

    class SharedMemory(wasmtime.SharedMemory):  # type: ignore[misc]
        def _as_extern(self) -> Any:
            union = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
            return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)

    return SharedMemory


def _wasmtime() -> Any:
    try:
        import wasmtime
    except ImportError as error:
        raise DeviceUnavailableError(
            "The WebAssembly backend needs wasmtime here: pip install 'tilewright[cpu]'."
        ) from error
    return wasmtime
