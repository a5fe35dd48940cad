"""The quantizers that other tests use: close to the weights, and random blocks that are usable."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reference.dequantize import dequantize
from tests.reference.quantize import quantize, random_blocks

from tilewright.formats.quant import BY_NAME, QUANT_TYPES


@pytest.mark.parametrize(
    ("name", "share"),
    # largest error as a share of the largest weight of the block: half a step, but a whole one for
    # Q4_0's end of the range; halves of f16 and of the 6-bit scales on top
    [
        ("Q8_0", 0.5 / 127 + 2**-11),
        ("Q4_0", 1.01 / 8),
        ("Q4_K", 0.08),
        ("BF16", 2**-8),
        ("F16", 2**-11),
    ],
)
def test_quantized_weights_are_close(name: str, share: float) -> None:
    weights = np.random.default_rng(7).standard_normal((32, 512)).astype(np.float32)
    weights[1, :64] = 0
    weights[2] = np.abs(weights[2])
    weights[3] *= 0.1
    quant = BY_NAME[name]
    raw = quantize(quant, weights)
    assert len(raw) == 32 * quant.row_bytes(512)
    values = dequantize(quant, raw, 32, 512)
    blocks = (32, -1, max(quant.block, 32))
    largest = np.abs(weights.reshape(blocks)).max(axis=2, keepdims=True)
    assert (np.abs(values - weights).reshape(blocks) <= share * largest + 1e-9).all()


@pytest.mark.parametrize("name", [quant.name for quant in QUANT_TYPES])
def test_random_blocks_are_finite_and_varied(name: str) -> None:
    quant = BY_NAME[name]
    raw = random_blocks(quant, 16, 512, np.random.default_rng(1))
    values = dequantize(quant, raw, 16, 512)
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 6
    assert values.std() > 0.1
    assert (values < 0).any()
    assert (values > 0).any()
