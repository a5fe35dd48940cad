"""KvWrite: rows land where the block table says, in each format, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.activations import Activation, step
from tests.numerics.gpu import run
from tests.numerics.paged_cache import PagedCache, unpack_rows
from tests.tolerance import assert_close

from tilewright.errors import KernelError
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import kv_write
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.kv_write import KvLayout, kv_row_bytes


def check_rows(kind: str, words, width: int, expected) -> None:
    """Compare cache rows with the floats that were written."""
    found = unpack_rows(kind, words, width)
    if kind == "f32":
        assert_close(found, expected, "exact")
    elif kind == "f16":
        assert_close(found, expected, "kv_f16")
    else:
        blocks = np.pad(expected, ((0, 0), (0, -width % 32))).reshape(len(expected), -1, 32)
        half_step = np.abs(blocks).max(axis=2, keepdims=True) / 254 * (1 + 1e-5)
        error = np.pad(found - expected, ((0, 0), (0, -width % 32))).reshape(blocks.shape)
        assert (np.abs(error) <= half_step).all()


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize(
    ("kv_heads", "head_size", "value_size", "block"),
    [(2, 64, 64, 16), (3, 20, 12, 32), (1, 5, 7, 16)],
)
async def test_rows_land_where_the_block_table_says(
    device: Device, kind, kv_heads, head_size, value_size, block
) -> None:
    generator = np.random.default_rng(head_size)
    layout = KvLayout(kind, kv_heads, head_size, value_size, block, max_blocks=5)
    cache = PagedCache(generator, layout, slots=3, lengths={})
    slots = np.array([2, 2, 0, 1, 2, 0, 0], np.uint32)
    positions = np.array([block - 1, block, 3, 5 * block - 1, 2 * block + 1, 0, 0], np.uint32)
    rows, capacity = 5, 7
    k = Activation(generator, capacity, rows, layout.key_width, before=2, after=1, scale=5)
    v = Activation(generator, capacity, rows, layout.value_width, after=3)
    k.data[0, :5] = k.buffer[0, 2:7] = 0.0
    structure = kv_write.Structure(capacity, k.span, v.span, layout)
    arrays = {
        "step": step(rows),
        "k": k.buffer,
        "v": v.buffer,
        "positions": positions,
        "slots": slots,
        "block_tables": cache.block_tables,
        "keys": cache.key_words,
        "values": cache.value_words,
    }
    places = [
        int(cache.rows(int(s), np.array([p]))[0]) for s, p in zip(slots, positions, strict=True)
    ]
    places = places[:rows]
    for tuning in kv_write.space(structure, device.capabilities):
        kernel = kv_write.kernel(structure, tuning, device.capabilities)
        written = await run(device, kernel, arrays)
        check_rows(kind, written["keys"][places], layout.key_width, k.data)
        check_rows(kind, written["values"][places], layout.value_width, v.data)
        others = np.delete(np.arange(len(cache.key_words)), places)
        assert (written["keys"][others] == cache.key_words[others]).all()
        assert (written["values"][others] == cache.value_words[others]).all()


def test_row_bytes() -> None:
    assert [kv_row_bytes(kind, 64) for kind in ("f32", "f16", "q8_0")] == [256, 128, 72]
    assert [kv_row_bytes(kind, 5) for kind in ("f32", "f16", "q8_0")] == [32, 16, 36]


def test_a_block_that_is_no_power_of_two_is_refused() -> None:
    layout = KvLayout("f32", 1, 4, 4, 24, 2)
    structure = kv_write.Structure(1, Span(4), Span(4), layout)
    with pytest.raises(KernelError):
        kv_write.kernel(structure, kv_write.Tuning(), Capabilities())
