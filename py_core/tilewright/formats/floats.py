"""Small float tensors read on the host: rope factors, norm weights stored as f16.

Matrices never come this way: they are unpacked on the GPU.
"""

from __future__ import annotations

import struct
import sys
from array import array

from ..errors import UnsupportedModelError
from .model_file import ModelFile, TensorInfo
from .quant import BF16, F16, F32


def to_floats(tensor: TensorInfo, data: bytes) -> array[float]:
    """Convert the bytes of an F32, F16 or BF16 tensor to ``array('f')``.

    Raises UnsupportedModelError for other formats: vectors are never quantized.
    """
    if tensor.quant == F32:
        values = array("f", data)
    elif tensor.quant == F16:
        return array("f", struct.unpack(f"<{len(data) // 2}e", data))
    elif tensor.quant == BF16:
        # A bfloat16 is the upper half of a float32.
        padded = bytearray(2 * len(data))
        padded[2::4], padded[3::4] = data[0::2], data[1::2]
        values = array("f", bytes(padded))
    else:
        raise UnsupportedModelError(
            f"The tensor {tensor.name} is stored as {tensor.quant.name}, but a vector must be F32, "
            "F16 or BF16.",
            tensor=tensor.name,
        )
    if sys.byteorder != "little":
        values.byteswap()
    return values


async def read_floats(file: ModelFile, name: str) -> array[float]:
    """Read one small tensor as ``array('f')``."""
    tensor = file.tensor(name)
    data = await file.sources[tensor.source].read(tensor.offset, tensor.nbytes)
    return to_floats(tensor, data)
