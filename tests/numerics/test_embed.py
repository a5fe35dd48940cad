"""Embedding rows: shards, scale, views and padding (all formats are in test_repack)."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.gpu import run
from tests.numerics.weights import planes, step
from tests.reference.linear import random_weight
from tests.tolerance import assert_close

from tilewright.formats.quant import BY_NAME
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import embed
from tilewright.webgpu.kernels.kernel import Span

MARK = np.float32(777)


@pytest.mark.parametrize("name", ["F16", "Q6_K", "Q4_1"])
async def test_shards_fill_one_output(device: Device, name: str) -> None:
    quant = BY_NAME[name]
    rng = np.random.default_rng(3)
    rows, columns, tokens = 11, 43 if quant.block == 1 else 256, 6
    raw, table = random_weight(rng, quant, rows, columns)
    ids = np.array([10, 0, 6, 7, 3, 5], np.uint32)
    out = np.full((tokens, columns + 9), MARK)
    row_bytes = quant.row_bytes(columns)
    for first, count in ((0, 7), (7, 4)):
        piece = raw[first * row_bytes : (first + count) * row_bytes]
        arrays = await planes(device, quant, piece, count, columns)
        structure = embed.EmbedStructure(
            name, first, count, columns, tokens, Span(columns + 9, 4), 1.5, "positions"
        )
        kernel = embed.kernel(structure, embed.naive(structure), device.capabilities)
        arrays |= {"step": step(tokens - 1), "positions": ids, "out": out}
        out = (await run(device, kernel, arrays))["out"]
    assert_close(out[:5, 4 : 4 + columns], 1.5 * table[ids[:5]].astype(np.float64), "elementwise")
    assert (out[5] == MARK).all()
    assert (out[:, :4] == MARK).all()
    assert (out[:, 4 + columns :] == MARK).all()
