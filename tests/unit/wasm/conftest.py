"""A memory with a kernel in it, called with numpy arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.wasm.assembler import Memory, Module

SIZE = 8 << 20


class Machine:
    """One memory; arrays get addresses, kernels are added to a new module each time."""

    def __init__(self) -> None:
        from tilewright.wasm.native import NativeMemory

        self.memory = NativeMemory(SIZE)
        self._next = 64

    def put(self, array: NDArray[np.generic] | bytes) -> int:
        """Copy an array into the memory and return its address."""
        data = array if isinstance(array, bytes) else np.ascontiguousarray(array).tobytes()
        at = self._next
        self._next += (len(data) + 191) // 64 * 64
        self.memory.write(at, data)
        return at

    def room(self, nbytes: int) -> int:
        """Return the address of bytes that hold NaNs until they are written."""
        return self.put(b"\xff" * nbytes)

    def get(self, at: int, *shape: int, dtype: type = np.float32) -> NDArray[np.generic]:
        """Return an array of the memory."""
        count = int(np.prod(shape))
        return np.frombuffer(self.memory.read(at, 4 * count), dtype).reshape(shape)

    def call(self, add: Callable[[Module], object], name: str, *values: float) -> object:
        """Assemble a module with what ``add`` adds and call one of its functions."""
        module = Module(Memory("env", "memory", 1))
        add(module)
        return self.memory.instantiate(module.assemble()).call(name, *values)


@pytest.fixture
def machine() -> Machine:
    pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
    return Machine()
