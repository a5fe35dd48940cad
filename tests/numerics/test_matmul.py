"""Weight times many tokens: every format, epilogues, views, every candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.numerics.linear_case import linear_case

from tilewright.formats.quant import QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matmul
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import LinearStructure

NAMES = [quant.name for quant in QUANT_TYPES]
BLOCK = {quant.name: quant.block for quant in QUANT_TYPES}
GPU = Capabilities()


def plain(name: str, rows: int, tokens: int, columns: int = 0) -> LinearStructure:
    columns = columns or {1: 75, 32: 96, 256: 256}[BLOCK[name]]
    return LinearStructure(name, rows, columns, tokens, Span(columns), Span(rows))


@pytest.mark.parametrize("name", NAMES)
async def test_every_format(device: Device, name: str) -> None:
    structure = plain(name, 45, 19)
    case = await linear_case(device, structure, 18, NAMES.index(name))
    for tuning in (
        matmul.default(structure, Capabilities(software=True)),
        matmul.TileTuning(32, 16, 32, 4),
    ):
        await case.check(device, matmul.kernel(structure, tuning, device.capabilities))


@pytest.mark.parametrize(
    "structure",
    [
        replace(plain("Q8_0", 90, 40), bias=True, activation="silu", gated=True),
        replace(plain("Q6_K", 70, 33), bias=True, residual=Span(99, 13), scale=0.5),
        replace(plain("F16", 35, 70, 41), activation="gelu", x=Span(101, 3), out=Span(64, 2)),
        replace(plain("Q4_0", 64, 65), softcap=1.5, tokens_from="outputs", x=Span(200, 100)),
    ],
)
async def test_epilogues_and_views(device: Device, structure: LinearStructure) -> None:
    case = await linear_case(device, structure, structure.tokens - 1)
    for tuning in (
        matmul.naive(structure),
        matmul.default(structure, GPU),
        matmul.default(structure, Capabilities(software=True)),
        matmul.TileTuning(64, 64, 32, 8),
    ):
        await case.check(device, matmul.kernel(structure, tuning, device.capabilities))


async def test_candidates_equal_the_reference(device: Device) -> None:
    structure = replace(plain("Q4_1", 150, 130), gated=True, activation="silu")
    case = await linear_case(device, structure, 129)
    tunings = matmul.space(structure, GPU)
    assert 10 <= len(tunings) <= 24
    assert matmul.naive(structure) in tunings
    for tuning in tunings[1:]:
        await case.check(device, matmul.kernel(structure, tuning, device.capabilities))


SPLITS = [
    matmul.TileTuning(32, 16, 32, 4, 2),
    matmul.TileTuning(32, 16, 16, 4, 4),
    matmul.TileTuning(64, 32, 16, 8, 2),
]


@pytest.mark.parametrize("tuning", SPLITS, ids=str)
@pytest.mark.parametrize(
    "structure",
    [
        replace(plain("Q4_0", 70, 33, 320), bias=True, activation="silu", gated=True),
        replace(plain("Q6_K", 90, 18, 256), residual=Span(99, 9), scale=0.5),
        plain("F16", 35, 21, 43),
    ],
    ids=["Q4_0, gated", "Q6_K", "fewer passes than groups"],
)
async def test_groups_of_threads_share_the_columns(
    device: Device, structure: LinearStructure, tuning: matmul.TileTuning
) -> None:
    case = await linear_case(device, structure, structure.tokens - 1)
    await case.check(device, matmul.kernel(structure, tuning, device.capabilities))


def test_where_a_split_is_offered() -> None:
    """Few workgroups and many columns, on a GPU."""

    def splits(structure: LinearStructure, capabilities: Capabilities = GPU) -> set[int]:
        found = matmul.space(structure, capabilities)
        assert len(found) <= 26
        return {t.split for t in found if isinstance(t, matmul.TileTuning)}

    assert splits(plain("Q4_0", 576, 32, 1536)) == {1, 2, 4}
    assert splits(plain("Q4_0", 2048, 64, 1536)) == {1, 2}
    assert splits(plain("Q4_0", 4096, 256, 1536)) == {1}, "the grid is large enough"
    assert splits(plain("Q4_0", 576, 32, 32)) == {1}, "there is nothing to share"
    assert splits(plain("Q4_0", 576, 32, 1536), Capabilities(software=True)) <= {1}


async def test_large_grids_are_spread(device: Device) -> None:
    """More workgroups than one dimension of a dispatch takes."""
    structure = plain("Q8_0", 70, 30)
    case = await linear_case(device, structure, 30)
    narrow = Capabilities(max_workgroups=4)
    for tuning in (matmul.naive(structure), matmul.TileTuning(32, 16, 32, 4)):
        kernel = matmul.kernel(structure, tuning, narrow)
        assert kernel.grid[1] > 1
        await case.check(device, kernel)


def test_norms_are_refused() -> None:
    assert matmul.supports(plain("Q4_0", 64, 64), GPU)
    assert not matmul.supports(replace(plain("Q4_0", 64, 64), norm="rms"), GPU)
