"""Checks that every container needs: that the tensors a header describes fit the file.

Shared by the readers of GGUF and safetensors; knows no container's syntax.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..errors import FormatError
from .model_file import TensorInfo
from .quant import QuantType


def tensor_nbytes(file: str, name: str, shape: tuple[int, ...], quant: QuantType) -> int:
    """Return the bytes that a tensor of this shape takes.

    FormatError where an axis is empty or a row is no whole number of blocks.
    """
    if any(size < 1 for size in shape):
        raise FormatError(f"{file}: tensor {name!r} has an empty axis {shape}.", tensor=name)
    columns = shape[-1] if shape else 1
    if columns % quant.block:
        raise FormatError(
            f"{file}: tensor {name!r} has rows of {columns} weights, which is no multiple of "
            f"{quant.name}'s block of {quant.block}.",
            tensor=name,
        )
    nbytes = quant.row_bytes(columns)
    for size in shape[:-1]:
        nbytes *= size
    return nbytes


def check_layout(
    file: str, size: int, start: int, records: Iterable[TensorInfo]
) -> dict[str, TensorInfo]:
    """Return the tensors by name with absolute offsets, in the order of the file's header.

    ``start`` is where the data section begins, to which the records' offsets are relative. Raises
    FormatError for a name used twice, a tensor outside the file, or two that overlap.
    """
    tensors: dict[str, TensorInfo] = {}
    for info in records:
        if info.name in tensors:
            raise FormatError(f"{file} has the tensor {info.name!r} twice.", tensor=info.name)
        if start + info.offset + info.nbytes > size:
            raise FormatError(
                f"{file} ends at byte {size}, but its tensor {info.name!r} would end at byte "
                f"{start + info.offset + info.nbytes}: the file is incomplete or damaged, fetch it "
                "again.",
                tensor=info.name,
            )
        tensors[info.name] = replace(info, offset=start + info.offset)
    end, before = start, ""
    for info in sorted(tensors.values(), key=lambda item: item.offset):
        if info.offset < end:
            raise FormatError(
                f"{file}: the tensors {before!r} and {info.name!r} overlap: the file is damaged, "
                "fetch it again.",
                tensor=info.name,
            )
        end, before = info.offset + info.nbytes, info.name
    return tensors
