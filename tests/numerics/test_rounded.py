"""Linear maps in int8 and f16: plain kernels against numpy, every candidate, which formats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.numerics.linear_case import linear_case
from tests.reference import rounded as twin

from tilewright.errors import KernelError
from tilewright.formats.quant import QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matmul, matvec, rounded
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import Arithmetic, LinearStructure

GPU = Capabilities(packed_dot=True)
"""The guaranteed limits."""
NAMES = tuple(rounded.FORMATS)


@pytest.fixture(params=["int8", "f16"])
def arithmetic(request: pytest.FixtureRequest, device: Device) -> Arithmetic:
    found: Arithmetic = request.param
    if found == "f16" and not device.capabilities.f16:
        pytest.skip("this device has no f16")
    return found


def plain(name: str, rows: int, tokens: int = 1, columns: int = 0) -> LinearStructure:
    columns = columns or (512 if name == "Q4_K" else 96)
    return LinearStructure(
        name, rows, columns, tokens, Span(columns), Span(rows), arithmetic="int8"
    )


def test_rounding_is_exact_in_the_twin() -> None:
    """The largest of 32 columns is 127 units of their scale; zeros stay zeros."""
    x = np.random.default_rng(1).standard_normal((3, 64))
    x[1, 32:] = 0
    kept = twin.rounded(x)
    codes, scales = twin.codes_of(x)
    assert np.abs(codes).max(axis=2)[0, 0] == pytest.approx(127)
    assert (np.abs(kept - x).reshape(3, 2, 32) <= scales / 2 * (1 + 1e-9)).all()
    assert (kept[1, 32:] == 0).all()


@pytest.mark.parametrize("name", NAMES)
async def test_every_format(device: Device, name: str, arithmetic: Arithmetic) -> None:
    structure = replace(plain(name, 37, 3), arithmetic=arithmetic)
    case = await linear_case(device, structure, 2, NAMES.index(name))
    tunings: list[matvec.Tuning] = [
        matvec.naive(structure),
        matvec.RoundedLanesTuning(64, 4, 2, 2),
        matvec.RoundedLanesTuning(32, 1, 4, 1, "thread"),
    ]
    for tuning in tunings:
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))
    many = replace(structure, tokens=19)
    case = await linear_case(device, many, 18, NAMES.index(name))
    for other in (matmul.naive(many), matmul.RoundedTileTuning(32, 16, 64, 4)):
        await case.check(device, matmul.kernel(many, other, device.capabilities))


FUSED = [
    replace(plain("Q8_0", 24), bias=True, activation="silu", gated=True),
    replace(plain("Q8_0", 21, 5), row_gate=Span(9, 8), scale=0.5, residual=Span(40, 7)),
    replace(plain("Q4_0", 33, 2), softcap=1.5, activation="tanh", tokens_from="sequences"),
    replace(plain("Q4_K", 9, 3), activation="relu", x=Span(611, 99), out=Span(30, 5)),
    replace(plain("Q4_0", 20, 5), norm="rms", norm_epsilon=1e-6, norm_offset=1.0, bias=True),
    replace(plain("Q4_0", 20), norm="layer", norm_epsilon=1e-5, norm_bias=True),
    replace(plain("Q4_K", 30, 2), norm="rms", norm_epsilon=1e-5, gated=True, activation="silu"),
    replace(plain("Q4_0", 20, 3), delta=Span(96), post_epsilon=1e-6, out_x=Span(96)),
    replace(
        plain("Q8_0", 20, 3), norm="rms", delta=Span(100, 4), post_epsilon=0.1, out_x=Span(99, 3)
    ),
]


@pytest.mark.parametrize("structure", FUSED)
async def test_prologues_and_epilogues(
    device: Device, structure: LinearStructure, arithmetic: Arithmetic
) -> None:
    """With one token less than the capacity."""
    structure = replace(structure, arithmetic=arithmetic)
    assert matvec.supports(structure, device.capabilities)
    case = await linear_case(device, structure, max(1, structure.tokens - 1))
    tunings: list[matvec.Tuning] = [
        matvec.naive(structure),
        matvec.default(structure, Capabilities(software=True)),
        matvec.default(structure, GPU),
        matvec.RoundedLanesTuning(64, 8, 1, 2, "thread"),
    ]
    for tuning in dict.fromkeys(tunings):
        await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


async def test_candidates_for_few_tokens(device: Device, arithmetic: Arithmetic) -> None:
    gated = replace(plain("Q4_K", 132, 3, 1024), norm="rms", norm_epsilon=1e-5, gated=True)
    for given in (plain("Q4_0", 130, 1, 1056), gated):
        structure = replace(given, arithmetic=arithmetic)
        case = await linear_case(device, structure, structure.tokens)
        tunings = matvec.space(structure, GPU)
        assert matvec.naive(structure) == tunings[0]
        assert matvec.default(structure, GPU) == tunings[1]
        software = matvec.space(structure, replace(GPU, software=True))
        for tuning in dict.fromkeys([*tunings, *software]):
            await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


async def test_candidates_for_many_tokens(device: Device, arithmetic: Arithmetic) -> None:
    gated = replace(plain("Q4_K", 150, 130), gated=True, activation="silu")
    for given in (plain("Q4_0", 70, 33, 544), gated):
        structure = replace(given, arithmetic=arithmetic)
        case = await linear_case(device, structure, structure.tokens - 1)
        tunings = matmul.space(structure, GPU)
        assert matmul.naive(structure) == tunings[0]
        assert matmul.default(structure, GPU) == tunings[1]
        assert 8 <= len(tunings) <= 24
        software = matmul.space(structure, replace(GPU, software=True))
        for tuning in dict.fromkeys([*tunings[1:], *software]):
            await case.check(device, matmul.kernel(structure, tuning, device.capabilities))
    splits = matmul.space(plain("Q4_0", 576, 32, 1536), replace(GPU, workgroup_memory=1 << 15))
    assert {t.split for t in splits if isinstance(t, matmul.RoundedTileTuning)} == {1, 2, 4}


def test_spaces_are_small() -> None:
    shuffling = replace(GPU, subgroups=True, subgroup_min=16, subgroup_max=32)
    for capabilities in (GPU, shuffling, replace(GPU, software=True)):
        for tokens, gated in ((1, False), (1, True), (4, True)):
            structure = replace(plain("Q4_0", 3072, tokens, 576), gated=gated, norm="rms")
            assert 5 <= len(matvec.space(structure, capabilities)) <= 24
        many = plain("Q4_0", 3072, 256, 576)
        assert 3 <= len(matmul.space(many, capabilities)) <= 24


async def test_reduction_by_shuffles(device: Device, arithmetic: Arithmetic) -> None:
    if not device.capabilities.subgroups:
        pytest.skip("this device has no subgroups")
    structure = replace(plain("Q8_0", 70, 2, 288), arithmetic=arithmetic)
    case = await linear_case(device, structure, 2)
    size = min(8, device.capabilities.subgroup_min)
    tuning = matvec.RoundedLanesTuning(64, size, 2, 2, "workgroup", "subgroup")
    await case.check(device, matvec.kernel(structure, tuning, device.capabilities))


def test_rows_too_wide_for_workgroup_memory_are_rounded_by_each_thread() -> None:
    for software in (False, True):
        capabilities = replace(GPU, software=software)
        wide = matvec.default(plain("Q4_0", 64, 4, 14336), capabilities)
        assert isinstance(wide, matvec.RoundedLanesTuning)
        assert (wide.activations, wide.tile) == ("thread", 1)
        less = matvec.default(plain("Q4_0", 64, 4, 4096), capabilities)
        assert isinstance(less, matvec.RoundedLanesTuning)
        assert (less.activations, less.tile) == ("workgroup", 2)


def test_formats_without_kernels_stay_in_f32() -> None:
    for quant in QUANT_TYPES:
        has = quant.name in ("Q4_0", "Q4_K", "Q8_0")
        assert rounded.arithmetic_for(quant.name, "int8", GPU) == ("int8" if has else "f32")
        assert rounded.arithmetic_for(quant.name, "f32", GPU) == "f32"
        assert rounded.arithmetic_for(quant.name, "f16", GPU) == "f32", "GPU has no shader-f16"
        halves = replace(GPU, f16=True)
        assert rounded.arithmetic_for(quant.name, "f16", halves) == ("f16" if has else "f32")
    with pytest.raises(KernelError, match="stay in f32"):
        matvec.kernel(plain("Q6_K", 8, 1, 256), matvec.DirectTuning(), GPU)


def test_tunings_of_another_arithmetic_are_refused() -> None:
    whole = plain("Q4_0", 64)
    floats = replace(whole, arithmetic="f32")
    for module in (matvec, matmul):
        with pytest.raises(KernelError, match="does not compute in int8"):
            module.kernel(whole, matvec.QuadTuning(), GPU)
    with pytest.raises(KernelError, match="only"):
        matvec.kernel(floats, matvec.RoundedLanesTuning(), GPU)
    with pytest.raises(KernelError, match="does not compute in f32"):
        matmul.kernel(floats, matmul.RoundedTileTuning(), GPU)


def test_without_packed_products_only_the_plain_kernel_is_tried() -> None:
    bare = Capabilities(packed_dot=False)
    assert matvec.space(plain("Q4_0", 64), bare) == [matvec.DirectTuning()]
