"""Rope against its numpy twin: both pairings, partial rotation, long contexts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.activations import Activation, Output, step
from tests.numerics.gpu import run
from tests.reference import ops as reference
from tests.tolerance import assert_close

from tilewright.graph.ops import RopeTable
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import rope


def table_of(dimensions: int, *, interleaved: bool, magnitude: float = 1.0) -> RopeTable:
    frequencies = tuple(10000.0 ** (-2 * i / dimensions) for i in range(dimensions // 2))
    return RopeTable(frequencies, magnitude, interleaved)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    ("heads", "head_size", "dimensions", "magnitude"),
    [(1, 64, 64, 1.0), (3, 80, 20, 1.0), (5, 20, 20, 1.19), (2, 96, 72, 0.5), (2, 10, 2, 1.0)],
)
async def test_rope_is_its_twin(
    device: Device, interleaved, heads, head_size, dimensions, magnitude
) -> None:
    generator = np.random.default_rng(heads)
    table = table_of(dimensions, interleaved=interleaved, magnitude=magnitude)
    capacity, rows, context = 7, 5, 131072
    positions = np.array([0, 255, 256, 4097, context - 1, 9, 9], np.uint32)
    x = Activation(generator, capacity, rows, heads * head_size, before=4, after=2)
    out = Output(capacity, heads * head_size, after=3)
    structure = rope.Structure(
        capacity, heads, head_size, dimensions, x.span, out.span, interleaved, magnitude
    )
    data = np.frombuffer(rope.rope_table_bytes(table, context), np.float32)
    assert data.size == (256 + context // 256) * dimensions
    expected = reference.rope(x.data, positions[:rows], table, head_size)
    for tuning in rope.space(structure, device.capabilities):
        kernel = rope.kernel(structure, tuning, device.capabilities)
        arrays = {
            "step": step(rows),
            "x": x.buffer,
            "rope_table": data,
            "positions": positions,
            "out": out.buffer,
        }
        written = await run(device, kernel, arrays)
        assert_close(out.result(written["out"], rows), expected, "rope")


def test_table_covers_a_context_that_is_no_multiple_of_256() -> None:
    table = table_of(4, interleaved=False)
    data = np.frombuffer(rope.rope_table_bytes(table, 257), np.float32).reshape(-1, 2, 2)
    assert len(data) == 256 + 2
    angles = np.outer([*range(256), 0, 256], table.frequencies)
    np.testing.assert_allclose(data[..., 0], np.cos(angles), atol=1e-7)
    np.testing.assert_allclose(data[..., 1], np.sin(angles), atol=1e-7)
