"""Runs the kernels of ``kernels/encode.py``: weights of a source -> blocks, a piece at a time.

One memory of a few megabytes, made when first needed; a module per pair of formats.
"""

from __future__ import annotations

from ..formats.quant import QuantType
from ..formats.requantized import PIECE
from ..formats.source import ByteSource
from .assembler import Module
from .host import IMPORTED, Instance, Memory, here
from .kernels.encode import SCRATCH_BYTES, add_encode

_INPUT = 64
_OUTPUT = _INPUT + 4 * PIECE
_SCRATCH = _OUTPUT + 2 * PIECE
_BYTES = _SCRATCH + SCRATCH_BYTES


class Encoder:
    """Encodes weights; give ``encode`` to ``formats.requantized.requantize``."""

    def __init__(self) -> None:
        self._memory: Memory | None = None
        self._instances: dict[tuple[str, str], Instance] = {}

    async def encode(
        self, source: ByteSource, offset: int, weights: int, stored: QuantType, wanted: QuantType
    ) -> bytes:
        """Return ``weights`` (at most ``PIECE``, whole blocks) from ``offset`` as blocks.

        Raises SourceError, and DeviceUnavailableError where WebAssembly cannot run.
        """
        if self._memory is None:
            self._memory = here().allocate(_BYTES, False)
        blocks = weights // wanted.block
        instance = self._instance(self._memory, stored, wanted)
        await self._memory.fill(_INPUT, source, offset, weights * stored.nbytes)
        instance.call("encode", _INPUT, blocks, _OUTPUT, _SCRATCH)
        return self._memory.read(_OUTPUT, blocks * wanted.nbytes)

    def _instance(self, memory: Memory, stored: QuantType, wanted: QuantType) -> Instance:
        key = (stored.name, wanted.name)
        if key not in self._instances:
            module = Module(IMPORTED)
            add_encode(module, *key)
            self._instances[key] = memory.instantiate(module.assemble())
        return self._instances[key]
