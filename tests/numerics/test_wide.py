"""The wide kernel: every format, prologues and epilogues, every candidate, on this device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.numerics.linear_case import linear_case

from tilewright.errors import KernelError
from tilewright.formats.quant import QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matmul, matvec, wide
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import LinearStructure

BLOCK = {quant.name: quant.block for quant in QUANT_TYPES}
CPU = Capabilities(software=True, subgroups=True, subgroup_min=4, subgroup_max=8)


def plain(name: str, rows: int, tokens: int = 1, columns: int = 64) -> LinearStructure:
    columns = max(columns, BLOCK[name])
    return LinearStructure(name, rows, columns, tokens, Span(columns), Span(rows))


@pytest.fixture(autouse=True)
def has_subgroups(device: Device) -> None:
    if not device.capabilities.subgroups or device.capabilities.subgroup_min < 4:
        pytest.skip("this device has no subgroups of four lanes")


# Those read by the vector, and some of each kind of the others (groups of 8, 16, 32; a table).
FORMATS = ("Q4_0", "Q4_K", "Q8_0", "F32", "BF16", "Q5_1", "Q6_K", "IQ4_XS", "IQ2_XXS")


@pytest.mark.parametrize("name", FORMATS)
async def test_formats(device: Device, name: str) -> None:
    structure = plain(name, 37, 2)
    case = await linear_case(device, structure, 2)
    tuning = wide.WideTuning(8, 4, 1)
    await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


CASES = [
    replace(plain("Q4_0", 36, 9), bias=True, activation="silu", gated=True),
    replace(plain("Q4_K", 21, 11), residual=Span(40, 7), scale=0.22, x=Span(300, 12)),
    replace(plain("Q8_0", 70, 17), tokens_from="outputs", softcap=1.5),
    replace(plain("Q6_K", 26, 8), gated=True, activation="gelu", out=Span(20, 5)),
    replace(plain("Q5_1", 37), norm="rms", norm_epsilon=1e-5, norm_offset=1.0),
    replace(plain("Q4_0", 64, 3), norm="layer", norm_epsilon=1e-5, norm_bias=True, gated=True),
    replace(plain("Q4_0", 33, 5), delta=Span(64), post_epsilon=1e-6, out_x=Span(64)),
    replace(plain("F16", 33, 2), norm="rms", delta=Span(68, 4), post_epsilon=0.1, out_x=Span(64)),
]


@pytest.mark.parametrize("structure", CASES)
async def test_prologues_and_epilogues(device: Device, structure: LinearStructure) -> None:
    """With one token less than the capacity, so that tiles have a ragged end."""
    case = await linear_case(device, structure, max(1, structure.tokens - 1))
    tunings = [
        wide.WideTuning(8, 4, 4),
        wide.WideTuning(8, 8, 2),
        wide.WideTuning(8, 8, 8 if structure.tokens > 4 else 1),
    ]
    for tuning in tunings:
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


async def test_every_candidate(device: Device) -> None:
    if not device.capabilities.software:
        pytest.skip("these candidates are for CPU adapters")
    for structure in (plain("Q4_0", 64), plain("Q4_K", 64, 9)):
        case = await linear_case(device, structure, structure.tokens)
        tunings = wide.space(structure, device.capabilities)
        assert len(tunings) >= 3
        for tuning in tunings:
            await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K"])
async def test_batches(device: Device, name: str) -> None:
    """Sizes of a batch with their defaults, one sequence less than the capacity."""
    if not device.capabilities.software:
        pytest.skip("these defaults are for CPU adapters")
    for tokens, tile in ((2, 2), (3, 4), (4, 4)):
        structure = replace(plain(name, 520, tokens, 512), norm="rms", norm_epsilon=1e-5)
        tuning = matvec.default(structure, device.capabilities)
        assert isinstance(tuning, wide.WideTuning)
        assert tuning.tile == tile
        case = await linear_case(device, structure, tokens - 1)
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


def test_a_batch_too_wide_for_workgroup_memory_shares_less() -> None:
    structure = replace(plain("Q4_0", 8192, 4, 1024), norm="rms", norm_epsilon=1e-5)
    tight = replace(CPU, workgroup_memory=12 << 10)
    for capabilities, tile in ((replace(CPU, workgroup_memory=1 << 15), 4), (tight, 2)):
        tuning = matvec.default(structure, capabilities)
        assert isinstance(tuning, wide.WideTuning)
        assert tuning.tile == tile


def test_where_it_is_offered() -> None:
    few, many = plain("Q4_0", 8192), plain("Q4_0", 8192, 256)
    for module, structure in ((matvec, few), (matmul, many)):
        assert isinstance(module.default(structure, CPU), wide.WideTuning)
        assert any(isinstance(t, wide.WideTuning) for t in module.space(structure, CPU))
        bare = replace(CPU, subgroups=False)
        assert not any(isinstance(t, wide.WideTuning) for t in module.space(structure, bare))
        assert not isinstance(module.default(structure, bare), wide.WideTuning)
    assert not isinstance(matvec.default(plain("Q4_0", 64), CPU), wide.WideTuning)
    small = replace(CPU, subgroup_min=2)
    assert not isinstance(matvec.default(few, small), wide.WideTuning)
    ragged = replace(few, columns=48, x=Span(48))
    assert wide.space(ragged, CPU) == []
    with pytest.raises(KernelError, match="cannot run"):
        matvec.kernel(ragged, wide.WideTuning(), CPU)
