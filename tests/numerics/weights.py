"""Puts a weight on the GPU the way the loader does, for the tests of kernels that read weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tests.numerics.gpu import run

from tilewright.formats.quant import QuantType
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import repack
from tilewright.webgpu.kernels.packing import packing, table_bytes


async def planes(
    device: Device, quant: QuantType, raw: bytes, rows: int, columns: int
) -> dict[str, NDArray[np.uint32]]:
    """Return the arrays ``quants``, ``scales`` and ``table`` of ``rows`` raw rows, by repacking."""
    form = packing(quant)
    kernel = repack.kernel(quant, rows, columns, device.capabilities)
    result = await run(
        device,
        kernel,
        {
            "raw": np.frombuffer(raw + bytes(-len(raw) % 4), np.uint32),
            "quants": np.zeros(rows * form.quant_words(columns), np.uint32),
            "scales": np.zeros(max(4, rows * form.scale_words(columns)), np.uint32),
            "job": np.array([0, rows, rows, 0], np.uint32),
        },
    )
    table = b"" if form.table is None else table_bytes(form.table)
    return {**result, "table": np.frombuffer(table or bytes(16), np.uint32)}


def step(tokens: int, outputs: int = 0, sequences: int = 0) -> NDArray[np.uint32]:
    """Return the Step uniform."""
    return np.array([tokens, outputs or tokens, sequences or 1, 0], np.uint32)
