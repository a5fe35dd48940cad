"""Weight times few tokens: every format, every epilogue and prologue, every candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.numerics.linear_case import linear_case

from tilewright.formats.quant import QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matvec
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import LinearStructure

NAMES = [quant.name for quant in QUANT_TYPES]
BLOCK = {quant.name: quant.block for quant in QUANT_TYPES}


def plain(name: str, rows: int, tokens: int = 1, columns: int = 0) -> LinearStructure:
    columns = columns or {1: 75, 32: 96, 256: 512}[BLOCK[name]]
    return LinearStructure(name, rows, columns, tokens, Span(columns), Span(rows))


@pytest.mark.parametrize("name", NAMES)
async def test_every_format(device: Device, name: str) -> None:
    structure = plain(name, 37)
    case = await linear_case(device, structure, 1, NAMES.index(name))
    software = matvec.QuadTuning(16)
    for tuning in (matvec.naive(structure), software, matvec.LanesTuning(rows=2)):
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


EPILOGUES = [
    replace(plain("Q8_0", 24), bias=True, activation="silu", gated=True),
    replace(plain("Q8_0", 21, 5), bias=True, residual=Span(40, 7), scale=0.22),
    replace(plain("Q8_0", 21, 5), row_gate=Span(9, 8), scale=0.5, residual=Span(21)),
    replace(plain("Q4_K", 26, 3), activation="gelu", gated=True, residual=Span(13), scale=2.5),
    replace(plain("F16", 19, 6, 41), activation="gelu_erf", bias=True, tokens_from="outputs"),
    replace(plain("Q4_0", 33, 2), softcap=1.5, activation="tanh", tokens_from="sequences"),
    replace(plain("Q4_1", 9, 3), activation="relu", x=Span(200, 100), out=Span(30, 5)),
    replace(plain("Q4_1", 9, 3), activation="sigmoid", x=Span(201, 99), out=Span(30, 5)),
]
NORMS = [
    replace(plain("Q8_0", 20, 3), norm="rms", norm_epsilon=1e-5),
    replace(plain("Q4_1", 20, 5), norm="rms", norm_epsilon=1e-6, norm_offset=1.0, bias=True),
    replace(plain("Q4_0", 20), norm="layer", norm_epsilon=1e-5, norm_bias=True),
    replace(plain("F32", 20, 2, 43), norm="layer", norm_epsilon=1e-5, norm_bias=True),
    replace(plain("Q6_K", 20, 4), norm="layer", norm_epsilon=1e-5, norm_weight=False),
    replace(plain("Q5_K", 30, 2), norm="rms", norm_epsilon=1e-5, gated=True, activation="silu"),
]

SUMS = [
    replace(plain("Q4_0", 20, 3), delta=Span(96), post_epsilon=1e-6, out_x=Span(96)),
    replace(NORMS[0], delta=Span(100, 4), post_epsilon=1e-6, out_x=Span(99, 3)),
    replace(NORMS[3], delta=Span(43), post_epsilon=1e-5, residual=Span(20)),
    replace(NORMS[5], delta=Span(513, 1), post_epsilon=1e-6, post_offset=1.0, out_x=Span(512)),
    replace(plain("Q4_1", 9), x=Span(200, 100), delta=Span(96), post_epsilon=0.1, out_x=Span(96)),
]


@pytest.mark.parametrize("structure", [*EPILOGUES, *NORMS, *SUMS])
async def test_prologues_and_epilogues(device: Device, structure: LinearStructure) -> None:
    """With one token less than the capacity; naive, both defaults and other work layouts."""
    assert matvec.supports(structure, device.capabilities)
    case = await linear_case(device, structure, max(1, structure.tokens - 1))
    tunings: list[matvec.Tuning] = [
        matvec.naive(structure),
        matvec.default(structure, Capabilities(software=True)),
        matvec.default(structure, Capabilities()),
        matvec.LanesTuning(64, 8, 1, 2, 4, "workgroup"),
    ]
    for tuning in dict.fromkeys(tunings):
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


GPU = Capabilities()
"""The guaranteed limits: what ``space`` gives a device of which nothing is known."""


@pytest.mark.parametrize(
    "structure",
    [
        plain("Q4_0", 130, 1, 320),
        replace(plain("Q8_0", 66, 3), norm="rms", norm_epsilon=1e-5, gated=True, activation="silu"),
        replace(SUMS[1], rows=70, out=Span(70)),
    ],
)
async def test_candidates_equal_the_reference(device: Device, structure: LinearStructure) -> None:
    case = await linear_case(device, structure, structure.tokens)
    tunings = matvec.space(structure, GPU)
    assert matvec.naive(structure) in tunings
    assert matvec.default(structure, GPU) in tunings
    software = matvec.space(structure, Capabilities(software=True))
    assert 5 <= len(software) <= 16
    for tuning in dict.fromkeys([*tunings[:: 2 if structure.tokens == 1 else 5], *software[::3]]):
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


async def test_subgroup_reduction(device: Device) -> None:
    capabilities = device.capabilities
    if not capabilities.subgroups:
        pytest.skip("this device has no subgroups")
    structure = replace(plain("Q4_1", 70, 2, 160), norm="rms", norm_epsilon=1e-5)
    case = await linear_case(device, structure, 2)
    size = min(8, capabilities.subgroup_min)
    tuning = matvec.LanesTuning(64, size, 2, 2, 1, "global", "subgroup")
    await case.check(device, matvec.kernel(structure, tuning, capabilities))
    guaranteed = Capabilities(subgroups=True, subgroup_min=16, subgroup_max=32)
    assert any(
        isinstance(found, matvec.LanesTuning) and found.reduction == "subgroup"
        for found in matvec.space(plain("Q4_0", 576, 1, 1536), guaranteed)
    )


async def test_shards_write_their_rows(device: Device) -> None:
    """Two shards of one weight write beside each other into one output."""
    whole = plain("Q8_0", 40, 2)
    for rows, start in ((25, 0), (15, 25)):
        shard = replace(whole, rows=rows, out=Span(40, start))
        case = await linear_case(device, shard, 2)
        await case.check(device, matvec.kernel(shard, matvec.naive(shard), device.capabilities))


def test_space_is_small_and_fits() -> None:
    for tokens in (1, 8):
        for gated in (False, True):
            structure = replace(plain("Q4_0", 3072, tokens, 576), gated=gated, norm="rms")
            assert 8 <= len(matvec.space(structure, GPU)) <= 30
            assert matvec.default(structure, GPU) in matvec.space(structure, GPU)


def test_odd_gated_rows_are_refused() -> None:
    assert not matvec.supports(replace(plain("Q4_0", 33), gated=True), GPU)


def test_too_many_bindings_are_refused() -> None:
    structure = replace(
        plain("IQ2_S", 32), norm="layer", norm_bias=True, bias=True, residual=Span(32)
    )
    assert not matvec.supports(structure, GPU)
