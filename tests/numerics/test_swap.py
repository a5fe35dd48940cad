"""The swap kernel: every format it reads, prologues and epilogues, every shape, on this device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.numerics.linear_case import linear_case

from tilewright.errors import KernelError
from tilewright.formats.quant import QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matmul, matvec, swap
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import LinearStructure

BLOCK = {quant.name: quant.block for quant in QUANT_TYPES}
SWIFTSHADER = Capabilities(
    software=True, subgroups=True, subgroup_min=4, subgroup_max=4, workgroup_memory=32768
)


def plain(name: str, rows: int, tokens: int = 1, columns: int = 64) -> LinearStructure:
    columns = max(columns, BLOCK[name])
    return LinearStructure(name, rows, columns, tokens, Span(columns), Span(rows))


@pytest.fixture
def has_subgroups(device: Device) -> None:
    if not device.capabilities.subgroups or device.capabilities.subgroup_min < 4:
        pytest.skip("this device has no subgroups of four lanes")


@pytest.mark.parametrize("name", sorted(swap.FORMATS))
async def test_formats(device: Device, has_subgroups: None, name: str) -> None:
    structure = plain(name, 37, 2, 96)
    case = await linear_case(device, structure, 2)
    tuning = swap.SwapTuning(8, 4, 1)
    await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


CASES = [
    (replace(plain("Q4_0", 36, 9), bias=True, activation="silu", gated=True), (8, 4, 4)),
    (
        replace(plain("Q4_K", 21, 11), residual=Span(40, 7), scale=0.22, x=Span(300, 12)),
        (8, 8, 8),
    ),
    (replace(plain("Q8_0", 70, 17), tokens_from="outputs", softcap=1.5), (8, 8, 2)),
    (replace(plain("Q5_0", 26, 8), gated=True, activation="gelu", out=Span(20, 5)), (16, 8, 4)),
    (replace(plain("Q5_1", 37), norm="rms", norm_epsilon=1e-5, norm_offset=1.0), (32, 8, 1)),
    (
        replace(plain("Q4_0", 64, 3), norm="layer", norm_epsilon=1e-5, norm_bias=True, gated=True),
        (8, 8, 2),
    ),
    (
        replace(plain("Q5_K", 33, 5), delta=Span(256), post_epsilon=1e-6, out_x=Span(256)),
        (8, 4, 4),
    ),
]


@pytest.mark.parametrize(("structure", "shape"), CASES)
async def test_prologues_and_epilogues(
    device: Device, has_subgroups: None, structure: LinearStructure, shape: tuple[int, int, int]
) -> None:
    """With one token less than the capacity, so that tiles have a ragged end."""
    case = await linear_case(device, structure, max(1, structure.tokens - 1))
    tuning = swap.SwapTuning(*shape)
    await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


def test_where_it_is_offered() -> None:
    few, many = plain("Q4_0", 8192), plain("Q4_0", 8192, 256)
    for module, structure in ((matvec, few), (matmul, many)):
        assert isinstance(module.default(structure, SWIFTSHADER), swap.SwapTuning)
        assert any(isinstance(t, swap.SwapTuning) for t in module.space(structure, SWIFTSHADER))
        wider = replace(SWIFTSHADER, subgroup_max=8)
        assert not any(isinstance(t, swap.SwapTuning) for t in module.space(structure, wider))
    assert swap.space(plain("Q6_K", 64), SWIFTSHADER) == []
    ragged = replace(few, rows=1 << 14, columns=48, x=Span(48))
    assert swap.default(ragged, SWIFTSHADER) is None
    with pytest.raises(KernelError, match="cannot run"):
        matvec.kernel(ragged, swap.SwapTuning(), SWIFTSHADER)


@pytest.mark.parametrize(("tokens", "tile"), [(1, 1), (2, 2), (3, 4), (4, 4), (256, 8)])
def test_tiles_fit_the_tokens(tokens: int, tile: int) -> None:
    tuning = swap.default(plain("Q4_0", 512, tokens, 512), SWIFTSHADER)
    assert tuning is not None
    assert tuning.tile == tile
