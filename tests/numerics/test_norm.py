"""Norm against its numpy twin: random shapes, odd sizes, padding, every candidate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.numerics.activations import Activation, Output, step
from tests.numerics.gpu import run
from tests.reference import ops as reference
from tests.tolerance import assert_close

from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import norm

CASES = [
    # rows, capacity, width, group, options
    (1, 1, 64, 64, {}),
    (3, 5, 577, 577, {"weight": 577}),
    (2, 4, 1000, 1000, {"weight": 1000, "bias": 1000, "center": True}),
    (5, 8, 12 * 20, 20, {"weight": 20}),
    (2, 2, 3 * 96, 96, {"weight": 3 * 96, "weight_offset": 1.0}),
    (4, 9, 2048, 2048, {"weight": 2048, "residual": True}),
    (3, 3, 33, 33, {"weight": 33, "bias": 33, "center": True, "residual": True}),
    (1, 3, 7, 1, {"center": True}),
]


@pytest.mark.parametrize(("rows", "capacity", "width", "group", "options"), CASES)
async def test_norm_is_its_twin(device: Device, rows, capacity, width, group, options) -> None:
    generator = np.random.default_rng(width + rows)
    x = Activation(generator, capacity, rows, width, before=3, after=1)
    residual = Activation(generator, capacity, rows, width, after=5)
    weight = generator.standard_normal(options.get("weight", 1)).astype(np.float32)
    bias = generator.standard_normal(options.get("bias", 1)).astype(np.float32)
    out = Output(capacity, width, before=2)
    structure = norm.Structure(
        capacity,
        width,
        group,
        1e-6,
        x.span,
        out.span,
        center=options.get("center", False),
        weight=options.get("weight", 0),
        bias=options.get("bias", 0),
        weight_offset=options.get("weight_offset", 0.0),
        residual=residual.span if "residual" in options else None,
    )
    expected = reference.norm(
        x.data,
        group=group,
        epsilon=1e-6,
        center=structure.center,
        weight=weight if structure.weight else None,
        bias=bias if structure.bias else None,
        weight_offset=structure.weight_offset,
        residual=residual.data if structure.residual else None,
    )
    arrays = {
        "step": step(rows),
        "x": x.buffer,
        "norm_weight": weight,
        "norm_bias": bias,
        "residual": residual.buffer,
        "out": out.buffer,
    }
    tunings = norm.space(structure, device.capabilities)
    assert tunings[0] == norm.naive(structure)
    assert norm.default(structure, device.capabilities) in tunings
    for tuning in tunings:
        kernel = norm.kernel(structure, tuning, device.capabilities)
        written = await run(device, kernel, arrays)
        assert_close(out.result(written["out"], rows), expected, "norm")


@pytest.mark.parametrize("seed", range(4))
async def test_norm_of_random_shapes(device: Device, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, group, groups = (int(n) for n in generator.integers(1, (40, 300, 5)))
    x = Activation(generator, rows + 2, rows, group * groups, before=int(seed))
    weight = generator.standard_normal(group).astype(np.float32)
    out = Output(rows + 2, group * groups, after=int(seed))
    center = bool(seed % 2)
    structure = norm.Structure(
        rows + 2, x.width, group, 1e-5, x.span, out.span, center=center, weight=group
    )
    expected = reference.norm(x.data, group=group, epsilon=1e-5, center=center, weight=weight)
    arrays = {"step": step(rows), "x": x.buffer, "norm_weight": weight, "out": out.buffer}
    for software in (False, True):
        capabilities = replace(device.capabilities, software=software)
        tuning = norm.default(structure, capabilities)
        written = await run(device, norm.kernel(structure, tuning, capabilities), arrays)
        assert_close(out.result(written["out"], rows), expected, "norm")


async def test_norm_survives_a_large_common_offset(device: Device) -> None:
    """Layer norm subtracts the mean before squaring, so a mean of 1000 costs little accuracy."""
    generator = np.random.default_rng(0)
    x = Activation(generator, 2, 2, 768)
    x.data += 1000
    x.buffer[:] = x.data
    out = Output(2, 768)
    structure = norm.Structure(2, 768, 768, 1e-5, x.span, out.span, center=True)
    expected = reference.norm(x.data, group=768, epsilon=1e-5, center=True)
    for tuning in norm.space(structure, device.capabilities):
        kernel = norm.kernel(structure, tuning, device.capabilities)
        written = await run(device, kernel, {"step": step(2), "x": x.buffer, "out": out.buffer})
        np.testing.assert_allclose(written["out"], expected, atol=1e-3)
