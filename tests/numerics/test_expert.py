"""Linear maps of chosen experts against numpy: shared and own inputs, both forms of gating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.numerics.gpu import run
from tests.numerics.weights import planes, step
from tests.reference.linear import Epilogue, linear, normalised, random_weight
from tests.tolerance import assert_close

from tilewright.formats.quant import BY_NAME, QUANT_TYPES
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import expert
from tilewright.webgpu.kernels.expert import ExpertStructure
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.matvec import Tuning

EXPERTS, USED, TOKENS, ROWS = 5, 3, 4, 18
MARK = np.float32(777)

Rows = NDArray[np.floating]


def plain(name: str) -> ExpertStructure:
    columns = {1: 41, 32: 64, 256: 256}[BY_NAME[name].block]
    return ExpertStructure(
        quant=name,
        experts=EXPERTS,
        expert_rows=ROWS,
        columns=columns,
        tokens=TOKENS,
        used=USED,
        x=Span(columns),
        out=Span(USED * ROWS),
        chosen=Span(USED),
    )


async def check(device: Device, s: ExpertStructure, tunings: list[Tuning]) -> None:
    rng = np.random.default_rng(2)
    parts = 2 if s.gate_then_up else 1
    raw, weight = random_weight(rng, BY_NAME[s.quant], parts * EXPERTS * s.expert_rows, s.columns)
    arrays = await planes(device, BY_NAME[s.quant], raw, len(weight), s.columns)
    norm = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=1).mean())
    x = (rng.standard_normal((TOKENS, s.x.stride)) / norm).astype(np.float32)
    chosen = rng.integers(0, EXPERTS, (TOKENS, s.chosen.stride)).astype(np.uint32)
    count = TOKENS - 1
    if s.norm is not None:
        gains = (rng.standard_normal(s.columns) / norm).astype(np.float32)
        arrays["norm_weight"] = gains
        x = (x * norm + 0.3).astype(np.float32)
    arrays |= {"x": x, "experts": chosen, "step": step(count)}
    matrices = weight.reshape(parts, EXPERTS, s.expert_rows, s.columns)
    expected = []
    for t in range(count):
        for j in range(USED):
            first = s.x.start + (j * s.columns if s.per_expert_input else 0)
            of_expert = matrices[:, chosen[t, s.chosen.start + j]].reshape(-1, s.columns)
            inputs: Rows = x[t : t + 1, first : first + s.columns]
            if s.norm is not None:
                inputs = normalised(inputs, s.norm, gains, None, s.norm_epsilon)
            expected.append(linear(inputs, of_expert, Epilogue(None, s.activation, s.gated))[0])
    rows = np.asarray(expected).reshape(count, USED * s.outputs)
    for tuning in tunings:
        arrays["out"] = np.full((TOKENS, s.out.stride), MARK)
        kernel = expert.kernel(s, tuning, device.capabilities)
        got = (await run(device, kernel, arrays))["out"]
        written = slice(s.out.start, s.out.start + USED * s.outputs)
        assert_close(got[:count, written], rows, "linear")
        got[:count, written] = MARK
        assert (got == MARK).all()


@pytest.mark.parametrize("name", [quant.name for quant in QUANT_TYPES])
async def test_every_format(device: Device, name: str) -> None:
    await check(device, plain(name), [expert.naive(plain(name))])


@pytest.mark.parametrize(
    "structure",
    [
        replace(plain("Q8_0"), per_expert_input=True, x=Span(USED * 64 + 12, 8)),
        replace(plain("Q4_0"), gated=True, activation="silu", out=Span(USED * 9)),
        replace(plain("Q4_K"), gated=True, activation="silu", gate_then_up=True),
        replace(plain("F16"), chosen=Span(9, 4), out=Span(99, 40)),
        replace(plain("Q5_0"), norm="rms", norm_epsilon=1e-5, gated=True, out=Span(USED * 9)),
        replace(plain("F32"), norm="layer", norm_epsilon=1e-5, x=Span(50, 3)),
    ],
)
async def test_inputs_gates_and_views(device: Device, structure: ExpertStructure) -> None:
    assert expert.supports(structure, device.capabilities)
    tunings = [
        expert.naive(structure),
        expert.default(structure, Capabilities(software=True)),
        expert.default(structure, Capabilities()),
    ]
    await check(device, structure, list(dict.fromkeys(tunings)))


@pytest.mark.parametrize(("first", "count"), [(0, 30), (30, 41), (71, 19)])
async def test_a_shard_writes_its_rows_only(device: Device, first: int, count: int) -> None:
    """Shards that end inside an expert; whatever belongs to another stays as it was."""
    s = replace(plain("Q8_0"), shard=(first, count))
    rng = np.random.default_rng(5)
    raw, weight = random_weight(rng, BY_NAME[s.quant], EXPERTS * ROWS, s.columns)
    size = len(raw) // len(weight)
    part = raw[first * size : (first + count) * size]
    arrays = await planes(device, BY_NAME[s.quant], part, count, s.columns)
    x = rng.standard_normal((TOKENS, s.columns)).astype(np.float32)
    chosen = np.array([[0, 1, 2], [3, 4, 0], [1, 4, 3], [2, 2, 1]], np.uint32)
    arrays |= {"x": x, "experts": chosen, "step": step(TOKENS)}
    rows = chosen[:, :, None] * ROWS + np.arange(ROWS)
    here = ((rows >= first) & (rows < first + count)).reshape(TOKENS, -1)
    products = np.einsum("tc,tjrc->tjr", x, weight[rows], dtype=np.float64)
    expected = np.where(here, products.reshape(TOKENS, -1), MARK)
    for tuning in (
        expert.naive(s),
        expert.default(s, Capabilities(software=True)),
        expert.default(s, Capabilities()),
    ):
        arrays["out"] = np.full((TOKENS, USED * ROWS), MARK)
        kernel = expert.kernel(s, tuning, device.capabilities)
        got = (await run(device, kernel, arrays))["out"]
        assert_close(got, expected, "linear")


async def test_candidates_equal_the_reference(device: Device) -> None:
    structure = replace(plain("Q8_0"), gated=True, activation="silu", gate_then_up=True)
    structure = replace(structure, columns=512, x=Span(512))
    tunings = expert.space(structure, Capabilities())
    assert 5 <= len(tunings) <= 40
    await check(device, structure, tunings[::4])
