"""Elementwise ops against their numpy twins, scalar and four at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.numerics.activations import Activation, Output, step
from tests.numerics.gpu import run
from tests.reference import ops as reference
from tests.tolerance import assert_close

from tilewright.errors import KernelError
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import elementwise
from tilewright.webgpu.kernels.header import ACTIVATIONS
from tilewright.webgpu.kernels.kernel import Capabilities

SHAPES = [(1, 1, 1), (3, 5, 127), (4, 4, 256)]


async def check(
    device: Device,
    structure: elementwise.Structure,
    arrays: dict[str, Any],
    out: Output,
    rows: int,
    expected: Any,
    tolerance: str = "elementwise",
) -> None:
    tunings = elementwise.space(structure, device.capabilities)
    assert tunings[0] == elementwise.naive(structure)
    assert elementwise.default(structure, device.capabilities) in tunings
    for tuning in tunings:
        kernel = elementwise.kernel(structure, tuning, device.capabilities)
        written = await run(device, kernel, {**arrays, "out": out.buffer})
        assert_close(out.result(written["out"], rows), expected, tolerance)


@pytest.mark.parametrize(("rows", "capacity", "width"), SHAPES)
async def test_add_scale_and_add_row(device: Device, rows, capacity, width) -> None:
    generator = np.random.default_rng(width)
    x = Activation(generator, capacity, rows, width, before=4, after=4)
    y = Activation(generator, capacity, rows, width, after=8)
    row = generator.standard_normal(width).astype(np.float32)
    out = Output(capacity, width, before=8)
    arrays = {"step": step(rows), "x": x.buffer, "y": y.buffer, "row": row}
    add = elementwise.Structure("add", capacity, width, out.span, x.span, y.span, factor=0.22)
    await check(device, add, arrays, out, rows, x.data + np.float32(0.22) * y.data)
    scale = elementwise.Structure("scale", capacity, width, out.span, x.span, factor=12.0)
    await check(device, scale, arrays, out, rows, np.float32(12.0) * x.data)
    add_row = elementwise.Structure("add_row", capacity, width, out.span, x.span)
    await check(device, add_row, arrays, out, rows, x.data + row)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("gated", [False, True])
async def test_activate(device: Device, activation, gated) -> None:
    generator = np.random.default_rng(len(activation))
    rows, capacity, width = 3, 4, 260
    x = Activation(generator, capacity, rows, width, scale=3.0)
    extremes = [0.0, -0.0, 1e-30, -1e-6, 0.2499, 0.2501, 0.999, 1.001, 30.0, -30.0, 1e4, -1e4]
    x.data[0, : len(extremes)] = extremes
    x.buffer[:rows] = x.data
    up = Activation(generator, capacity, rows, width, before=4)
    out = Output(capacity, width)
    structure = elementwise.Structure(
        "activate",
        capacity,
        width,
        out.span,
        x.span,
        up=up.span if gated else None,
        activation=activation,
    )
    arrays = {"step": step(rows), "x": x.buffer, "up": up.buffer}
    expected = reference.activate(x.data, activation, up.data if gated else None)
    name = "erf" if activation == "gelu_erf" else "elementwise"
    await check(device, structure, arrays, out, rows, expected, name)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(("rows", "capacity", "width"), SHAPES)
async def test_gate_rows_and_combine(device: Device, rows, capacity, width, with_residual) -> None:
    generator = np.random.default_rng(width)
    used = 3
    x = Activation(generator, capacity, rows, width, after=4)
    gate = Activation(generator, capacity, rows, 1, before=1, scale=4.0)
    residual = Activation(generator, capacity, rows, width, before=4)
    y = Activation(generator, capacity, rows, used * width)
    weights = Activation(generator, capacity, rows, used, after=2)
    out = Output(capacity, width, after=4)
    arrays = {
        "step": step(rows),
        "x": x.buffer,
        "gate": gate.buffer,
        "residual": residual.buffer,
        "y": y.buffer,
        "weights": weights.buffer,
    }
    more = residual.data if with_residual else None
    place = residual.span if with_residual else None
    gated = elementwise.Structure(
        "gate_rows", capacity, width, out.span, x.span, gate=gate.span, residual=place
    )
    expected = reference.gate_rows(x.data, gate.data, more)
    await check(device, gated, arrays, out, rows, expected)
    combined = elementwise.Structure(
        "combine",
        capacity,
        width,
        out.span,
        y=y.span,
        weights=weights.span,
        residual=place,
        used=used,
    )
    await check(device, combined, arrays, out, rows, reference.combine(y.data, weights.data, more))


async def test_take_outputs(device: Device) -> None:
    generator = np.random.default_rng(1)
    x = Activation(generator, 9, 8, 68)
    outputs = np.array([7, 0, 3, 3, 99], np.uint32)
    out = Output(5, 68, after=4)
    structure = elementwise.Structure("take_outputs", 5, 68, out.span, x.span, rows_from="outputs")
    arrays = {"step": step(8, outputs=4), "x": x.buffer, "outputs": outputs}
    await check(device, structure, arrays, out, 4, x.data[outputs[:4]], "exact")


async def test_a_grid_wider_than_the_limit_is_folded(device: Device) -> None:
    generator = np.random.default_rng(2)
    rows, width = 9, 64 * 11
    x = Activation(generator, rows, rows, width)
    out = Output(rows, width)
    structure = elementwise.Structure("scale", rows, width, out.span, x.span, factor=2.0)
    narrow = replace(device.capabilities, max_workgroups=7)
    kernel = elementwise.kernel(structure, elementwise.naive(structure), narrow)
    assert kernel.grid[0] <= 7
    written = await run(device, kernel, {"step": step(rows), "x": x.buffer, "out": out.buffer})
    assert_close(written["out"], 2 * x.data, "exact")


def test_unknown_activation_and_impossible_vector_are_refused() -> None:
    span = Output(1, 6).span
    caps = Capabilities()
    with pytest.raises(KernelError):
        elementwise.kernel(
            elementwise.Structure("activate", 1, 6, span, span, activation="swish9"),
            elementwise.Tuning(),
            caps,
        )
    with pytest.raises(KernelError):
        elementwise.kernel(
            elementwise.Structure("scale", 1, 6, span, span), elementwise.Tuning(vector=True), caps
        )
