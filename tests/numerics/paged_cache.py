"""A paged KV cache for tests: shuffled blocks, several slots, both directions of each format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilewright.webgpu.kernels.kv_write import KvLayout, kv_row_bytes, kv_row_elements

Array = NDArray[np.float32]


def pack_rows(kind: str, rows: Array) -> NDArray[np.uint32]:
    """Encode ``f32[n, width]`` as a cache stores it: ``u32[n, row words]``."""
    count, width = rows.shape
    if kind == "q8_0":
        blocks = np.pad(rows, ((0, 0), (0, -width % 32))).reshape(count, -1, 32)
        scales = (np.abs(blocks).max(axis=2) / np.float32(127)).astype(np.float32)
        codes = np.round(blocks / np.where(scales > 0, scales, 1)[:, :, None]).astype(np.int8)
        words = np.concatenate([scales[:, :, None].view(np.uint32), codes.view(np.uint32)], axis=2)
        return words.reshape(count, -1)
    padded = np.pad(rows, ((0, 0), (0, -width % 4)))
    return np.ascontiguousarray(padded.astype(np.float16 if kind == "f16" else np.float32)).view(
        np.uint32
    )


def unpack_rows(kind: str, words: NDArray[np.uint32], width: int) -> Array:
    """Decode what ``pack_rows`` makes: ``f32[n, width]``."""
    count = len(words)
    if kind == "q8_0":
        blocks = np.ascontiguousarray(words.reshape(count, -1, 9))
        scales = np.ascontiguousarray(blocks[:, :, :1]).view(np.float32)
        codes = np.ascontiguousarray(blocks[:, :, 1:]).view(np.int8)
        return (scales * codes.astype(np.float32)).reshape(count, -1)[:, :width]
    floats = np.ascontiguousarray(words).view(np.float16 if kind == "f16" else np.float32)
    return floats.reshape(count, -1)[:, :width].astype(np.float32)


class PagedCache:
    """Slots with given numbers of keys, their blocks scattered over the cache."""

    def __init__(
        self,
        generator: np.random.Generator,
        layout: KvLayout,
        slots: int,
        lengths: dict[int, int],
    ) -> None:
        self.layout = layout
        self.blocks = slots * layout.max_blocks + 1
        order = generator.permutation(self.blocks).astype(np.uint32)
        self.block_tables = order[: slots * layout.max_blocks].reshape(slots, layout.max_blocks)
        self.lengths = np.zeros(slots, np.uint32)
        self.key_words = self._empty(layout.key_width)
        self.value_words = self._empty(layout.value_width)
        self.keys: dict[int, Array] = {}
        self.values: dict[int, Array] = {}
        for slot, length in lengths.items():
            self.lengths[slot] = length
            rows = self.rows(slot, np.arange(length))
            keys = generator.standard_normal((length, layout.key_width)).astype(np.float32)
            values = generator.standard_normal((length, layout.value_width)).astype(np.float32)
            self.key_words[rows] = pack_rows(layout.kind, keys)
            self.value_words[rows] = pack_rows(layout.kind, values)
            self.keys[slot] = unpack_rows(layout.kind, self.key_words[rows], layout.key_width)
            self.values[slot] = unpack_rows(layout.kind, self.value_words[rows], layout.value_width)

    def _empty(self, width: int) -> NDArray[np.uint32]:
        words = kv_row_bytes(self.layout.kind, width) // 4
        assert words % kv_row_elements(self.layout.kind, width) == 0
        # NaNs as f32 and as f16: a key that nobody wrote must not be read
        return np.full((self.blocks * self.layout.block, words), 0x7FC07FC0, np.uint32)

    def rows(self, slot: int, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the cache rows of a slot's positions."""
        block = self.layout.block
        tables = self.block_tables[slot].astype(np.int64)
        found: NDArray[np.int64] = tables[positions // block] * block + positions % block
        return found
