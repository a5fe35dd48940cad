"""QkvPrepare against Norm, Rope and KvWrite's twins, in one buffer or three."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.numerics.activations import Activation, Output, step
from tests.numerics.gpu import run
from tests.numerics.paged_cache import PagedCache
from tests.numerics.test_kv_write import check_rows
from tests.reference import ops as reference
from tests.tolerance import assert_close

from tilewright.errors import KernelError
from tilewright.graph.ops import RopeTable
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import qkv_prepare, rope
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.kv_write import KvLayout


@pytest.mark.parametrize(
    ("kind", "heads", "kv_heads", "head_size", "dimensions", "options"),
    [
        ("f32", 9, 3, 64, 64, {}),
        ("f16", 4, 2, 20, 8, {"interleaved": True, "magnitude": 1.2}),
        ("q8_0", 2, 1, 96, 96, {"norms": True}),
        ("f16", 4, 2, 128, 128, {"norms": True, "offset": 1.0}),
        ("f32", 2, 2, 80, 0, {}),
        ("f32", 2, 2, 36, 0, {"norms": True, "per_head": True}),
        ("f32", 4, 2, 36, 36, {"norms": True, "per_head": True, "center": True}),
        ("f16", 6, 2, 40, 40, {"norms": True, "per_head": True, "whole": True}),
        ("f32", 3, 1, 12, 12, {"separate": True, "value_size": 20}),
    ],
)
@pytest.mark.parametrize("storage_buffers", [8, 16])
async def test_qkv_prepare_is_its_twin(
    device: Device, kind, heads, kv_heads, head_size, dimensions, options, storage_buffers
) -> None:
    generator = np.random.default_rng(head_size)
    rows, capacity, context = 5, 6, 1024
    value_size = options.get("value_size", head_size)
    layout = KvLayout(kind, kv_heads, head_size, value_size, 16, 64)
    cache = PagedCache(generator, layout, 3, {})
    slots = np.array([1, 1, 0, 2, 1, 0], np.uint32)
    positions = np.array([300, 301, 0, 1023, 15, 0], np.uint32)
    widths = heads * head_size, layout.key_width, layout.value_width
    fused = Activation(generator, capacity, rows, sum(widths), before=4, after=4)
    starts = [4, 4 + widths[0], 4 + widths[0] + widths[1]]
    q, k, v = (
        fused.buffer[:rows, start : start + width]
        for start, width in zip(starts, widths, strict=True)
    )
    shared = not options.get("separate", False)
    out = Output(capacity, widths[0], before=4)
    norms = options.get("norms", False)
    lengths = (widths[0], widths[1]) if options.get("per_head") else (head_size, head_size)
    offset = options.get("offset", 0.0)
    center, whole = options.get("center", False), options.get("whole", False)
    weights = [generator.standard_normal(n).astype(np.float32) for n in lengths]
    spans = [Span(fused.span.stride, start) for start in starts]
    structure = qkv_prepare.Structure(
        capacity,
        heads,
        layout,
        *spans,
        out.span,
        shared,
        dimensions,
        options.get("interleaved", False),
        options.get("magnitude", 1.0),
        qkv_prepare.HeadNorm(1e-6, lengths[0], offset, center, whole) if norms else None,
        qkv_prepare.HeadNorm(1e-5, lengths[1], offset, center, whole) if norms else None,
    )
    frequencies = tuple(500.0 ** (-2 * i / max(dimensions, 1)) for i in range(dimensions // 2))
    table = RopeTable(frequencies, structure.magnitude, structure.interleaved)
    expected_q, expected_k = q, k
    if norms:
        expected_q, expected_k = (
            reference.norm(
                a,
                group=a.shape[1] if whole else head_size,
                epsilon=e,
                center=center,
                weight=w,
                weight_offset=offset,
            )
            for a, e, w in zip((q, k), (1e-6, 1e-5), weights, strict=True)
        )
    expected_q, expected_k = (
        reference.rope(a, positions[:rows], table, head_size) for a in (expected_q, expected_k)
    )
    arrays = {
        "step": step(rows),
        "x": fused.buffer,
        "q": fused.buffer,
        "k": fused.buffer,
        "v": fused.buffer,
        "q_norm_weight": weights[0],
        "k_norm_weight": weights[1],
        "rope_table": np.frombuffer(rope.rope_table_bytes(table, context), np.float32),
        "positions": np.pad(positions, (0, 2)),
        "slots": np.pad(slots, (0, 2)),
        "block_tables": cache.block_tables,
        "keys": cache.key_words,
        "values": cache.value_words,
        "out": out.buffer,
    }
    places = [
        int(cache.rows(int(s), np.array([p]))[0])
        for s, p in zip(slots[:rows], positions[:rows], strict=True)
    ]
    others = np.delete(np.arange(len(cache.key_words)), places)
    capabilities = replace(device.capabilities, storage_buffers=storage_buffers)
    if storage_buffers > device.capabilities.storage_buffers:
        pytest.skip("the device has fewer storage bindings")
    if not qkv_prepare.supports(structure, capabilities):
        assert storage_buffers == 8
        assert not shared
        with pytest.raises(KernelError):
            qkv_prepare.kernel(structure, qkv_prepare.naive(structure), capabilities)
        return
    tunings = qkv_prepare.space(structure, capabilities)
    assert tunings[0] == qkv_prepare.naive(structure)
    assert qkv_prepare.default(structure, capabilities) in tunings
    for tuning in tunings if storage_buffers == 8 else tunings[:2]:
        kernel = qkv_prepare.kernel(structure, tuning, capabilities)
        used = sum(binding.access != "uniform" for binding in kernel.bindings)
        assert used <= storage_buffers
        written = await run(device, kernel, arrays)
        assert_close(out.result(written["out"], rows), expected_q, "norm")
        for name, expected in (("keys", expected_k), ("values", v)):
            width = expected.shape[1]
            found = written[name][places]
            if kind == "f32":
                assert_close(found.view(np.float32)[:, :width], expected, "norm")
            else:
                check_rows(kind, found, width, expected.astype(np.float32))
            words = cache.key_words if name == "keys" else cache.value_words
            assert (written[name][others] == words[others]).all()


def test_heads_that_no_store_unit_divides_are_left_to_the_unfused_ops() -> None:
    caps = Capabilities()
    spans = [Span(400)] * 4
    for kind, head_size, fits in (("f32", 20, True), ("q8_0", 20, False), ("f16", 7, False)):
        layout = KvLayout(kind, 1, head_size, head_size, 16, 4)
        structure = qkv_prepare.Structure(1, 1, layout, *spans)
        assert qkv_prepare.supports(structure, caps) is fits
