"""Repacking and the role files: every format, read back through the embedding kernel."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.gpu import run
from tests.numerics.weights import planes, step
from tests.reference.linear import random_weight

from tilewright.formats.quant import BY_NAME, QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import embed, repack
from tilewright.webgpu.kernels.kernel import Span
from tilewright.webgpu.kernels.packing import packing

NAMES = [quant.name for quant in QUANT_TYPES]


@pytest.mark.parametrize("name", NAMES)
async def test_values_equal_the_reference(device: Device, name: str) -> None:
    quant = BY_NAME[name]
    rng = np.random.default_rng(NAMES.index(name))
    rows, columns = 5, {1: 43, 32: 96, 256: 768}[quant.block]
    raw, expected = random_weight(rng, quant, rows, columns)
    arrays = await planes(device, quant, raw, rows, columns)
    structure = embed.EmbedStructure(name, 0, rows, columns, rows, Span(columns))
    kernel = embed.kernel(structure, embed.naive(structure), device.capabilities)
    arrays |= {
        "step": step(rows),
        "ids": np.arange(rows, dtype=np.uint32),
        "out": np.zeros((rows, columns), np.float32),
    }
    got = (await run(device, kernel, arrays))["out"]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["F16", "Q4_0", "Q6_K"])
async def test_pieces_equal_the_whole(device: Device, name: str) -> None:
    """Rows that arrive in several pieces, at unaligned byte offsets, give the same planes."""
    quant = BY_NAME[name]
    rng = np.random.default_rng(1)
    rows, columns = 7, 256 if quant.block > 1 else 33
    raw, _ = random_weight(rng, quant, rows, columns)
    whole = await planes(device, quant, raw, rows, columns)
    form = packing(quant)
    kernel = repack.kernel(quant, 4, columns, device.capabilities)
    quants = np.zeros(rows * form.quant_words(columns), np.uint32)
    scales = np.zeros(max(4, rows * form.scale_words(columns)), np.uint32)
    row_bytes = quant.row_bytes(columns)
    for first, count, shift in ((0, 3, 0), (3, 4, 6)):
        piece = bytes(shift) + raw[first * row_bytes : (first + count) * row_bytes]
        result = await run(
            device,
            kernel,
            {
                "raw": np.frombuffer(piece + bytes(-len(piece) % 4), np.uint32),
                "quants": quants,
                "scales": scales,
                "job": np.array([first, count, rows, shift], np.uint32),
            },
        )
        quants, scales = result["quants"], result["scales"]
    np.testing.assert_array_equal(quants, whole["quants"])
    np.testing.assert_array_equal(scales, whole["scales"])


@pytest.mark.parametrize("name", NAMES)
def test_planes_take_at_most_an_eighth_more_than_the_file(name: str) -> None:
    quant = BY_NAME[name]
    form = packing(quant)
    columns = 4096
    words = form.quant_words(columns) + form.scale_words(columns)
    assert 4 * words <= 1.12 * quant.row_bytes(columns)
