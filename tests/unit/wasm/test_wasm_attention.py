"""Rotation and attention over the paged cache against their numpy twins."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.paged_cache import pack_rows, unpack_rows
from tests.reference import ops
from tests.tolerance import assert_close
from tests.unit.wasm.conftest import Machine

from tilewright.errors import InvalidRequestError
from tilewright.graph.ops import RopeTable
from tilewright.wasm.kernels import attention, cache
from tilewright.wasm.state import rope_table_bytes


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("head_size", "pairs"), [(8, 4), (10, 3)])
def test_rope(machine: Machine, interleaved: bool, head_size: int, pairs: int) -> None:
    rng = np.random.default_rng(1)
    table = RopeTable(tuple(0.7**i for i in range(pairs)), 1.25, interleaved)
    heads, positions = 3, np.array([0, 1, 255, 256, 1999], np.uint32)
    width = heads * head_size
    x = rng.standard_normal((len(positions), width + 2)).astype(np.float32)
    s = attention.RopeStructure(head_size, pairs, interleaved, 1.25)
    out = machine.room(4 * len(positions) * width)
    machine.call(
        lambda m: attention.add_rope(m, "rope", s),
        "rope",
        *(machine.put(x) + 8, 4 * (width + 2), machine.put(positions), len(positions), heads),
        *(out, 4 * width, machine.put(rope_table_bytes(table, 2000)), machine.room(8 * pairs)),
    )
    expected = ops.rope(x[:, 2:], positions, table, head_size)
    assert_close(machine.get(out, len(positions), width), expected, "rope")


CASES = {
    "plain": {},
    "window": {"window": 37},
    "capped": {"softcap": 5.0},
    "sinks": {"sinks": True},
    "all": {"causal": False},
}


def as_kept(kind: str, rows: np.ndarray) -> np.ndarray:
    """Return what a cache of this format gives back of ``f32[n, width]``."""
    width = rows.shape[1]
    return rows if kind == "f32" else unpack_rows(kind, pack_rows(kind, rows), width)


@pytest.mark.parametrize("kind", cache.KINDS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("head_size", "value_size", "heads"), [(32, 64, 6), (6, 21, 10), (64, 64, 8)]
)
def test_attention(
    machine: Machine, case: str, head_size: int, value_size: int, heads: int, kind: cache.KvKind
) -> None:
    if kind == "q8_0" and head_size % 32:
        with pytest.raises(InvalidRequestError, match="multiple of 32"):
            cache.CacheStructure(2, head_size, value_size, kind)
        return
    rng = np.random.default_rng(2)
    options = CASES[case]
    kv_heads, lengths = 2, {0: 70, 2: 33}
    layer = cache.CacheStructure(kv_heads, head_size, value_size, kind)
    scale = head_size**-0.5
    s = attention.Structure(
        layer,
        heads,
        scale,
        causal=options.get("causal", True),
        window=options.get("window", 0),
        softcap=options.get("softcap", 0.0),
        sinks=bool(options.get("sinks")),
    )
    tables = np.array([[7, 2, 5], [0, 0, 0], [3, 6, 1]], np.uint32)
    blocks = 8
    # What other sequences left behind must not matter, were it ever so large.
    large = {"f32": np.float32(1e30), "f16": np.float16(6e4), "q8_0": np.int8(127)}[kind]
    keys = machine.put(np.full(blocks * kv_heads * layer.key_bytes // large.nbytes, large))
    values = machine.put(np.full(blocks * kv_heads * layer.value_bytes // large.nbytes, large))
    table = machine.put(tables)
    k, v = {}, {}
    for slot, length in lengths.items():
        k[slot] = rng.standard_normal((length, kv_heads * head_size)).astype(np.float32)
        v[slot] = rng.standard_normal((length, kv_heads * value_size)).astype(np.float32)
        positions = np.arange(length, dtype=np.uint32)
        machine.call(
            lambda m: cache.add_kv_write(m, "write", layer),
            "write",
            *(machine.put(k[slot]), 4 * kv_heads * head_size),
            *(machine.put(v[slot]), 4 * kv_heads * value_size),
            *(machine.put(positions), machine.put(np.full(length, slot, np.uint32)), length),
            *(table, 3, keys, values),
        )
        k[slot], v[slot] = as_kept(kind, k[slot]), as_kept(kind, v[slot])
    positions = np.array([0, 31, 32, 69, 5, 32], np.uint32)
    slots = np.array([0, 0, 0, 0, 2, 2], np.uint32)
    q = rng.standard_normal((6, heads * head_size)).astype(np.float32)
    sinks = rng.standard_normal(heads).astype(np.float32)
    counts = np.array([70, 0, 33], np.uint32)
    out = machine.room(4 * 6 * heads * value_size)
    machine.call(
        lambda m: attention.add_attention(m, "attend", s),
        "attend",
        *(machine.put(q), 4 * heads * head_size, machine.put(positions), machine.put(slots)),
        *(table, 3, machine.put(counts), keys, values, out, 4 * heads * value_size),
        *(machine.put(sinks), machine.room(attention.SCRATCH_BYTES), 0, 6 * kv_heads),
    )
    expected = ops.attention(
        q,
        k,
        v,
        positions,
        slots,
        heads=heads,
        kv_heads=kv_heads,
        scale=scale,
        causal=s.causal,
        window=s.window,
        softcap=s.softcap,
        sinks=sinks if s.sinks else None,
    )
    assert_close(machine.get(out, 6, heads * value_size), expected, "attention")
