"""Route and Pool against their numpy twins."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.activations import Activation, Output, step
from tests.numerics.gpu import run
from tests.reference import ops as reference
from tests.tolerance import assert_close

from tilewright.errors import KernelError
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import pool, route
from tilewright.webgpu.kernels.kernel import Capabilities, Span


@pytest.mark.parametrize("gating", ["softmax", "softmax_after_top", "sigmoid"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("experts", "used"), [(60, 4), (8, 8), (512, 8), (5, 1)])
async def test_route_is_its_twin(device: Device, gating, normalise, experts, used) -> None:
    generator = np.random.default_rng(experts)
    rows, capacity = 5, 6
    logits = Activation(generator, capacity, rows, experts, before=2, after=1, scale=3.0)
    logits.data[1] = np.round(logits.data[1])  # ties
    logits.data[2] = 0.5
    logits.buffer[:rows, 2 : 2 + experts] = logits.data
    chosen, weights = Output(capacity, used, after=1), Output(capacity, used, before=1)
    structure = route.Structure(
        capacity,
        experts,
        used,
        gating,
        normalise,
        2.5,
        logits.span,
        chosen.span,
        weights.span,
    )
    expected = reference.route(logits.data, used, gating=gating, normalise=normalise, scale=2.5)
    arrays = {
        "step": step(rows),
        "logits": logits.buffer,
        "out_experts": chosen.buffer.view(np.uint32),
        "out_weights": weights.buffer,
    }
    tunings = route.space(structure, device.capabilities)
    assert tunings[0] == route.naive(structure)
    assert route.default(structure, device.capabilities) in tunings
    for tuning in tunings:
        kernel = route.kernel(structure, tuning, device.capabilities)
        written = await run(device, kernel, arrays)
        found = chosen.result(written["out_experts"].view(np.float32), rows).copy()
        assert_close(found.view(np.uint32), expected[0], "exact")
        assert_close(weights.result(written["out_weights"], rows), expected[1], "route")


def test_impossible_routes_are_refused() -> None:
    for experts, used, gating in ((513, 2, "softmax"), (4, 5, "softmax"), (4, 2, "argmax")):
        structure = route.Structure(
            1, experts, used, gating, False, 1.0, Span(experts), Span(used), Span(used)
        )
        with pytest.raises(KernelError):
            route.kernel(structure, route.naive(structure), Capabilities())


@pytest.mark.parametrize("kind", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(
    ("runs", "width"), [([(0, 1)], 5), ([(3, 7), (0, 1), (1, 40)], 67), ([(2, 9), (5, 9)], 384)]
)
async def test_pool_is_its_twin(device: Device, kind, normalise, runs, width) -> None:
    generator = np.random.default_rng(width)
    slots = np.concatenate([np.full(length, slot, np.uint32) for slot, length in runs])
    rows, capacity = len(slots), len(slots) + 3
    x = Activation(generator, capacity, rows, width, before=1)
    out = Output(len(runs) + 2, width, after=2)
    structure = pool.Structure(capacity, len(runs) + 2, width, kind, normalise, x.span, out.span)
    arrays = {
        "step": step(rows, sequences=len(runs), first_slot=int(slots[0])),
        "x": x.buffer,
        "slots": np.pad(slots, (0, 3), constant_values=9),
        "out": out.buffer,
    }
    expected = reference.pool(x.data, slots, kind, normalise=normalise)
    tunings = pool.space(structure, device.capabilities)
    assert tunings[0] == pool.naive(structure)
    assert pool.default(structure, device.capabilities) in tunings
    for tuning in tunings:
        kernel = pool.kernel(structure, tuning, device.capabilities)
        written = await run(device, kernel, arrays)
        assert_close(out.result(written["out"], len(runs)), expected, "pool")


def test_an_unknown_pooling_is_refused() -> None:
    structure = pool.Structure(1, 1, 4, "max", False, Span(4), Span(4))
    with pytest.raises(KernelError):
        pool.kernel(structure, pool.naive(structure), Capabilities())
