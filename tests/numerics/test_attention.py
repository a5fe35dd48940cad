"""Attention against its numpy twin: options, slots, shuffled blocks, every candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.numerics.activations import Activation, Output, step
from tests.numerics.gpu import run
from tests.numerics.paged_cache import PagedCache
from tests.reference import ops as reference
from tests.tolerance import assert_close

from tilewright.errors import KernelError
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import attention
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.kv_write import KvLayout

TILE = attention.Tuning("tile", 8, keys_per_thread=3)


async def check(
    device: Device,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    head_size: int = 64,
    value_size: int | None = None,
    kind: str = "f32",
    block: int = 16,
    tokens: tuple[tuple[int, int], ...] = ((0, 40), (0, 41), (0, 42)),
    capacity: int | None = None,
    lengths: dict[int, int] | None = None,
    max_blocks: int = 6,
    tunings: list[attention.Tuning] | None = None,
    **options: Any,
) -> None:
    """Run every candidate for ``tokens`` = (slot, position) and compare with numpy."""
    generator = np.random.default_rng(heads * head_size + len(tokens))
    value_size = value_size or head_size
    layout = KvLayout(kind, kv_heads, head_size, value_size, block, max_blocks)
    used: dict[int, int] = {}
    for slot, position in tokens:
        used[slot] = max(used.get(slot, 0), position + 1)
    cache = PagedCache(generator, layout, max(used) + 2, lengths or used)
    rows = len(tokens)
    capacity = capacity or rows + 1
    q = Activation(generator, capacity, rows, heads * head_size, before=4, after=8, scale=2.0)
    out = Output(capacity, heads * value_size, before=4)
    sinks = generator.standard_normal(heads).astype(np.float32)
    with_sinks = options.pop("sinks", False)
    structure = attention.Structure(
        capacity, heads, layout, head_size**-0.5, q.span, out.span, sinks=with_sinks, **options
    )
    slots = np.zeros(capacity, np.uint32)
    positions = np.zeros(capacity, np.uint32)
    slots[:rows] = [slot for slot, _ in tokens]
    positions[:rows] = [position for _, position in tokens]
    expected = reference.attention(
        q.data,
        cache.keys,
        cache.values,
        positions[:rows],
        slots[:rows],
        heads=heads,
        kv_heads=kv_heads,
        scale=structure.scale,
        causal=structure.causal,
        window=structure.window,
        softcap=structure.softcap,
        sinks=sinks if with_sinks else None,
    )
    arrays = {
        "step": step(rows),
        "q": q.buffer,
        "positions": np.pad(positions, (0, -capacity % 4)),
        "slots": np.pad(slots, (0, -capacity % 4)),
        "block_tables": cache.block_tables,
        "lengths": cache.lengths,
        "sinks": sinks,
        "keys": cache.key_words,
        "values": cache.value_words,
        "out": out.buffer,
    }
    space = attention.space(structure, device.capabilities)
    assert space[0] == attention.naive(structure)
    assert attention.default(structure, device.capabilities) in space
    if tunings is None:
        tunings = [space[0], space[1], TILE]
    tunings = tunings or space
    for tuning in tunings:
        kernel = attention.kernel(structure, tuning, device.capabilities)
        if tuning.splits > 1:
            partials = np.zeros(attention.partials_bytes(structure, tuning) // 4, np.float32)
            arrays["partials"] = (await run(device, kernel, {**arrays, "partials": partials}))[
                "partials"
            ]
            kernel = attention.combine(structure, tuning, device.capabilities)
        written = await run(device, kernel, arrays)
        assert_close(out.result(written["out"], rows), expected, "attention")


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
async def test_formats_and_slots(device: Device, kind: str) -> None:
    tokens = ((2, 5), (0, 70), (2, 6), (1, 0), (1, 1))
    await check(device, kind=kind, tokens=tokens)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_size", "value_size"),
    [
        (1, 1, 20, 20),
        (9, 3, 64, 64),
        (6, 1, 96, 32),
        (2, 2, 256, 256),
        (4, 2, 80, 80),
        (3, 3, 7, 5),
    ],
)
async def test_head_shapes(device: Device, heads, kv_heads, head_size, value_size) -> None:
    await check(device, heads=heads, kv_heads=kv_heads, head_size=head_size, value_size=value_size)


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1},
        {"window": 17},
        {"window": 1000, "softcap": 2.0},
        {"sinks": True, "window": 20, "softcap": 50.0},
    ],
)
async def test_options(device: Device, options: dict[str, Any]) -> None:
    await check(device, tokens=((0, 0), (0, 40), (1, 63), (1, 64), (1, 65)), **options)


async def test_a_token_of_an_encoder_sees_its_whole_sequence(device: Device) -> None:
    tokens = (*((0, p) for p in range(3)), *((1, p) for p in range(18)))
    await check(device, tokens=tokens, causal=False)
    await check(device, tokens=((1, 0), (1, 2)), causal=False, lengths={1: 33}, sinks=True)


async def test_every_candidate_of_a_long_decode(device: Device) -> None:
    """Split or not, with contexts that leave splits without a key, and with a window."""
    tokens = ((0, 1100), (1, 2), (2, 511))
    small = {"heads": 6, "head_size": 32, "max_blocks": 70}
    await check(device, tokens=tokens, tunings=[], sinks=True, **small)
    quads = [attention.Tuning("quad", 16, tile_heads=h, splits=s) for h, s in ((1, 3), (3, 16))]
    tiles = [attention.Tuning("tile", 32, tile_heads=3, splits=8)]
    await check(device, tokens=tokens, heads=6, max_blocks=70, tunings=quads + tiles, window=300)


async def test_every_candidate_of_a_prefill_with_several_slots(device: Device) -> None:
    """Tiles of tokens that change slots inside, and a last tile that is not full."""
    tokens = (*((0, 30 + p) for p in range(9)), (3, 77), *((1, p) for p in range(5)))
    await check(device, tokens=tokens, heads=6, kind="f16", tunings=[])
    tiles = [attention.Tuning("tile", 8, tile_tokens=2, tile_heads=3, keys_per_thread=2)]
    await check(device, tokens=tokens, heads=6, head_size=36, tunings=tiles)


@pytest.mark.parametrize("seed", range(3))
async def test_random_shapes(device: Device, seed: int) -> None:
    generator = np.random.default_rng(seed)
    kv_heads, group = (int(n) for n in generator.integers(1, 6, 2))
    slots = generator.integers(0, 4, int(generator.integers(1, 20)))
    tokens = tuple((int(slot), int(generator.integers(0, 120))) for slot in slots)
    causal = bool(generator.integers(0, 4))
    await check(
        device,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_size=int(generator.integers(1, 140)),
        value_size=int(generator.integers(1, 140)),
        kind=("f32", "f16", "q8_0")[seed % 3],
        block=(1, 16, 32)[int(generator.integers(0, 3))],
        max_blocks=200,
        tokens=tokens,
        causal=causal,
        window=int(generator.integers(0, 90)) if causal else 0,
        softcap=float(generator.integers(0, 3)),
        sinks=bool(generator.integers(0, 2)),
    )


@pytest.fixture
def has_quads(device: Device) -> None:
    if not device.capabilities.subgroups or device.capabilities.subgroup_min < 4:
        pytest.skip("this device has no subgroups of four lanes")


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        ("f32", (2, 2), {"splits": 3}),
        ("f16", (1, 4), {"sinks": True}),
        ("q8_0", (3, 2), {"window": 17, "softcap": 2.0}),
    ],
)
async def test_swap_tiles(
    device: Device, has_quads: None, kind: str, shape: tuple[int, int], options: dict[str, Any]
) -> None:
    """Rows of several slots in one tile, a last tile that is not full, keys to the left out."""
    tokens = (*((0, 30 + p) for p in range(5)), (3, 77), *((1, p) for p in range(3)))
    tuning = attention.Tuning(
        "swap", 4, tile_tokens=shape[0], tile_heads=shape[1], splits=options.pop("splits", 1)
    )
    sizes = {"heads": 8, "kv_heads": 2, "head_size": 32, "value_size": 16}
    await check(device, kind=kind, tokens=tokens, tunings=[tuning], **sizes, **options)


async def test_swap_tile_of_an_encoder(device: Device, has_quads: None) -> None:
    tokens = tuple((1, p) for p in range(7))
    tuning = attention.Tuning("swap", 4, tile_tokens=16)
    await check(device, tokens=tokens, head_size=16, causal=False, tunings=[tuning])


def test_where_swap_tiles_are_offered() -> None:
    swiftshader = Capabilities(software=True, subgroups=True, subgroup_min=4, subgroup_max=4)
    layout = KvLayout("f32", 2, 64, 64, 16, 4)
    many = attention.Structure(64, 14, layout, 1.0, Span(896), Span(896))
    one = replace(many, tokens=1)
    for structure in (many, one):
        assert attention.default(structure, swiftshader).kind == "swap"
        odd = replace(structure, layout=replace(layout, head_size=72))
        assert all(tuning.kind != "swap" for tuning in attention.space(odd, swiftshader))
        gpu = replace(swiftshader, software=False)
        assert all(tuning.kind != "swap" for tuning in attention.space(structure, gpu))
        wider = replace(swiftshader, subgroup_max=8)
        assert attention.default(structure, wider).kind == "quad"
        offered = [t for t in attention.space(structure, wider) if t.kind == "swap"]
        assert offered
        assert all(t.tile_tokens * t.tile_heads <= 4 for t in offered)


def test_what_is_not_implemented_is_refused() -> None:
    layout = KvLayout("f32", 2, 64, 64, 16, 4)
    for wrong in ({"alibi": True}, {"causal": False, "window": 4}):
        structure = attention.Structure(1, 4, layout, 1.0, Span(256), Span(256), **wrong)
        with pytest.raises(KernelError):
            attention.kernel(structure, attention.naive(structure), Capabilities())
    structure = attention.Structure(1, 4, layout, 1.0, Span(256), Span(256))
    for unfit in (
        attention.Tuning("quad", 8),
        attention.Tuning("swap", 4),
        attention.Tuning("tile", 256, tile_heads=2),
    ):
        with pytest.raises(KernelError):
            attention.kernel(structure, unfit, Capabilities(max_invocations=128))
    structure = attention.Structure(1, 3, layout, 1.0, Span(192), Span(192))
    with pytest.raises(KernelError):
        attention.kernel(structure, attention.naive(structure), Capabilities())
