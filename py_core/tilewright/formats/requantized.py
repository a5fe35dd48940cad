"""A model file shown in another weight format: its matrices are encoded while they are read.

The result is an ordinary ``ModelFile`` whose tensors lie in one source, in the order of the
original files, so that whoever loads it needs to know nothing of this. The encoder is given
(``Encode``): formats know no arithmetic.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import InvalidRequestError
from .computed import ComputedSource
from .model_file import ModelFile, TensorInfo
from .quant import BF16, BY_NAME, F16, F32, QuantType
from .source import ByteSource

Target = Literal["Q8_0", "Q4_0", "Q4_K"]
TARGETS: tuple[Target, ...] = ("Q8_0", "Q4_0", "Q4_K")
Encode = Callable[[ByteSource, int, int, QuantType, QuantType], Awaitable[bytes]]
"""(source, byte offset, weights, format there, wanted format) -> the blocks of those weights."""

PIECE = 1 << 20
"""Weights that are encoded at a time."""
_FLOATS = (F32, F16, BF16)
_PRECISE = ("token_embd.weight", "output.weight")
"""Read with eight bits even where the others have four: few bytes for much of the accuracy."""
_KEPT = ("ffn_gate_inp", "position_embd", "token_types")
"""Parts of names of small matrices that decide much: routers, learned positions."""


def requantize(file: ModelFile, target: str, encode: Encode) -> ModelFile:
    """Return ``file`` with its F32, F16 and BF16 matrices in ``target``.

    Embeddings and the output matrix get Q8_0 at least; a row that is no whole number of blocks
    gets Q8_0 or stays as it is, as do routers, vectors and what is quantized already. Raises
    InvalidRequestError for another target.
    """
    if target not in TARGETS:
        raise InvalidRequestError(
            f"Weights cannot be encoded as {str(target)[:20]!r}: choose one of "
            f"{', '.join(TARGETS)}.",
            field="quantize",
        )
    shown = EncodedSource(file.sources[0].name, encode)
    tensors: dict[str, TensorInfo] = {}
    for tensor in sorted(file.items(), key=lambda item: (item.source, item.offset)):
        quant = _format(tensor, BY_NAME[target])
        offset, nbytes = shown.append(file.sources[tensor.source], tensor, quant)
        tensors[tensor.name] = replace(tensor, quant=quant, source=0, offset=offset, nbytes=nbytes)
    ordered = {name: tensors[name] for name in file.tensors}
    return ModelFile(file.metadata, ordered, (shown, *file.sources))


def _format(tensor: TensorInfo, target: QuantType) -> QuantType:
    if len(tensor.shape) < 2 or tensor.quant not in _FLOATS:
        return tensor.quant
    if any(part in tensor.name for part in _KEPT):
        return tensor.quant
    precise = BY_NAME["Q8_0"]
    wanted = (precise,) if tensor.name in _PRECISE else (target, precise)
    return next((kind for kind in wanted if tensor.columns % kind.block == 0), tensor.quant)


@dataclass(frozen=True)
class _Part:
    source: ByteSource
    offset: int
    stored: QuantType
    shown: QuantType


class EncodedSource(ComputedSource):
    """Tensors one after the other, each encoded as it is read, or passed on as it is."""

    def __init__(self, name: str, encode: Encode) -> None:
        super().__init__(name)
        self._encode = encode
        self._parts: list[_Part] = []

    def append(self, source: ByteSource, tensor: TensorInfo, shown: QuantType) -> tuple[int, int]:
        """Add a tensor of ``source``; return its offset and its bytes here."""
        nbytes = tensor.rows * shown.row_bytes(tensor.columns)
        self._parts.append(_Part(source, tensor.offset, tensor.quant, shown))
        return self._grow(nbytes), nbytes

    async def _range(self, index: int, skip: int, count: int) -> bytes:
        part = self._parts[index]
        if part.stored == part.shown:
            return await part.source.read(part.offset + skip, count)
        kind = part.shown
        first, last = skip // kind.nbytes, -(-(skip + count) // kind.nbytes)
        pieces = []
        for block in range(first, last, PIECE // kind.block):
            blocks = min(PIECE // kind.block, last - block)
            at = part.offset + block * kind.block * part.stored.nbytes
            weights = blocks * kind.block
            pieces.append(await self._encode(part.source, at, weights, part.stored, kind))
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        begin = skip - first * kind.nbytes
        return data if len(data) == count else data[begin : begin + count]
