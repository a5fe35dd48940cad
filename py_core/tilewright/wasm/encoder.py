"""Runs the kernels of ``kernels/encode.py``: weights of a source -> blocks, a piece at a time.

One memory of a few megabytes, made when first needed; a module per pair of formats.
"""

from __future__ import annotations

from ..formats.quant import QuantType
from ..formats.requantized import PIECE
from ..formats.source import ByteSource
from .assembler import Memory, Module
from .kernels.encode import SCRATCH_BYTES, add_encode
from .native import NativeInstance, NativeMemory

_IMPORTED = Memory("env", "memory", 1)
_INPUT = 64
_OUTPUT = _INPUT + 4 * PIECE
_SCRATCH = _OUTPUT + 2 * PIECE
_BYTES = _SCRATCH + SCRATCH_BYTES


class Encoder:
    """Encodes weights; give ``encode`` to ``formats.requantized.requantize``."""

    def __init__(self) -> None:
        self._memory: NativeMemory | None = None
        self._instances: dict[tuple[str, str], NativeInstance] = {}

    async def encode(
        self, source: ByteSource, offset: int, weights: int, stored: QuantType, wanted: QuantType
    ) -> bytes:
        """Return ``weights`` (at most ``PIECE``, whole blocks) from ``offset`` as blocks.

        Raises SourceError, and DeviceUnavailableError where WebAssembly cannot run.
        """
        data = await source.read(offset, weights * stored.nbytes)
        if self._memory is None:
            self._memory = NativeMemory(_BYTES)
        blocks = weights // wanted.block
        instance = self._instance(self._memory, stored, wanted)
        self._memory.write(_INPUT, data)
        instance.call("encode", _INPUT, blocks, _OUTPUT, _SCRATCH)
        return self._memory.read(_OUTPUT, blocks * wanted.nbytes)

    def _instance(
        self, memory: NativeMemory, stored: QuantType, wanted: QuantType
    ) -> NativeInstance:
        key = (stored.name, wanted.name)
        if key not in self._instances:
            module = Module(_IMPORTED)
            add_encode(module, *key)
            self._instances[key] = memory.instantiate(module.assemble())
        return self._instances[key]
