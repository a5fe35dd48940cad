"""Norms, activations, routing, pooling against their numpy twins, over odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reference import ops
from tests.tolerance import assert_close
from tests.unit.wasm.conftest import Machine

from tilewright.wasm.kernels import experts, rows

QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@QUICK
@given(
    group=st.sampled_from([1, 6, 8, 36, 200]),
    groups=st.integers(1, 3),
    center=st.booleans(),
    whole=st.booleans(),
    parts=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_norm(
    machine: Machine,
    group: int,
    groups: int,
    center: bool,
    whole: bool,
    parts: tuple[bool, bool, bool],
) -> None:
    width, tokens = group * groups, 3
    length = width if whole else group
    x, residual = random(tokens, width + 5), random(tokens, width, seed=1)
    weight, bias = random(length, seed=2), random(length, seed=3)
    has_weight, has_bias, has_residual = parts
    structure = rows.NormStructure(
        group,
        1e-3,
        center,
        length if has_weight else 0,
        length if has_bias else 0,
        1.0 if has_weight and whole else 0.0,
        has_residual,
    )
    out = machine.room(4 * tokens * width)
    machine.call(
        lambda m: rows.add_norm(m, "norm", structure),
        "norm",
        *(machine.put(x) + 4, 4 * (width + 5), tokens, groups, out, 4 * width),
        *(machine.put(weight), machine.put(bias), machine.put(residual), 4 * width),
    )
    expected = ops.norm(
        x[:, 1 : 1 + width].astype(np.float64),
        group=group,
        epsilon=1e-3,
        center=center,
        weight=weight if has_weight else None,
        bias=bias if has_bias else None,
        weight_offset=structure.offset,
        residual=residual if has_residual else None,
    )
    assert_close(machine.get(out, tokens, width), expected, "norm")


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_erf", "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("gated", [False, True])
def test_activations(machine: Machine, name: str, gated: bool) -> None:
    x = np.concatenate(
        [np.linspace(-9, 9, 1003), [0.0, -0.0, 1e-30, -50.0, 60.0, 1e4, -1e4]]
    ).astype(np.float32)[None]
    up = random(1, x.size, seed=4)
    body = rows.Epilogue(activation=name, gated=gated)
    out = machine.room(4 * x.size)
    streams = [machine.put(x), 0] + ([machine.put(up), 0] if gated else []) + [out, 0]
    machine.call(
        lambda m: rows.add_map(m, "map", 1 + gated, 0, body.body), "map", x.size, 1, *streams
    )
    expected = ops.activate(x, name, up if gated else None)
    row = "erf" if name == "gelu_erf" else "elementwise"
    assert_close(machine.get(out, 1, x.size), expected, row)


def test_the_epilogue_is_applied_in_order(machine: Machine) -> None:
    tokens, width = 3, 7
    y, residual = random(tokens, 2 * width), random(tokens, width, seed=1)
    bias = random(2 * width, seed=2)
    body = rows.Epilogue(True, "silu", True, 0.5, True, 3.0)
    out = machine.room(4 * tokens * width)
    base, b = machine.put(y), machine.put(bias)
    stride = 8 * width
    streams = [base, stride, base + 4 * width, stride, b, 0, b + 4 * width, 0]
    streams += [machine.put(residual), 4 * width, out, 4 * width]
    machine.call(
        lambda m: rows.add_map(m, "map", body.vectors, 0, body.body), "map", width, tokens, *streams
    )
    z = y.astype(np.float64) + bias
    expected = ops.activate(z[:, :width], "silu") * z[:, width:] * 0.5 + residual
    expected = 3.0 * np.tanh(expected / 3.0)
    assert_close(machine.get(out, tokens, width), expected, "elementwise")


def test_weighted_and_gated_rows(machine: Machine) -> None:
    tokens, width, used = 4, 10, 3
    y, weights = random(tokens, used * width), random(tokens, used, seed=1)
    residual = random(tokens, width, seed=2)
    base, w = machine.put(y), machine.put(weights)
    out, gated = (machine.room(4 * tokens * width) for _ in range(2))
    streams = [n for j in range(used) for n in (base + 4 * width * j, 4 * used * width)]
    streams += [machine.put(residual), 4 * width]
    streams += [n for j in range(used) for n in (w + 4 * j, 4 * used)]
    machine.call(
        lambda m: rows.add_map(m, "map", used + 1, used, rows.weighted(used, True)),
        "map",
        *(width, tokens, *streams, out, 4 * width),
    )
    assert_close(machine.get(out, tokens, width), ops.combine(y, weights, residual), "elementwise")
    machine.call(
        lambda m: rows.add_map(m, "map", 1, 1, rows.gated_rows(False)),
        "map",
        *(width, tokens, base, 4 * used * width, w, 4 * used, gated, 4 * width),
    )
    expected = ops.gate_rows(y[:, :width], weights[:, 0])
    assert_close(machine.get(gated, tokens, width), expected, "elementwise")


@pytest.mark.parametrize("gating", ["softmax", "softmax_after_top", "sigmoid"])
@pytest.mark.parametrize("normalise", [False, True])
def test_route(machine: Machine, gating: str, normalise: bool) -> None:
    tokens, count, used = 5, 13, 4
    logits = 3 * random(tokens, count)
    logits[1, 3] = logits[1, 9] = 20.0  # equal scores: the lower expert first
    s = experts.RouteStructure(count, used, gating, normalise, 1.5)
    chosen, weights = machine.room(4 * tokens * used), machine.room(4 * tokens * used)
    machine.call(
        lambda m: experts.add_route(m, "route", s),
        "route",
        *(machine.put(logits), 4 * count, tokens, chosen, 4 * used, weights, 4 * used),
        machine.room(4 * count),
    )
    wanted, shares = ops.route(logits, used, gating=gating, normalise=normalise, scale=1.5)
    assert np.array_equal(machine.get(chosen, tokens, used, dtype=np.uint32), wanted)
    assert_close(machine.get(weights, tokens, used), shares, "route")


@pytest.mark.parametrize("kind", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalise", [False, True])
def test_pool(machine: Machine, kind: str, normalise: bool) -> None:
    slots = np.array([2, 2, 2, 0, 1, 1], np.uint32)
    x = random(len(slots), 9)
    out = machine.room(4 * 3 * 9)
    machine.call(
        lambda m: rows.add_pool(m, kind, normalise),
        f"pool_{kind}_{int(normalise)}",
        *(machine.put(x), 36, machine.put(slots), len(slots), 9, out, 36),
    )
    assert_close(machine.get(out, 3, 9), ops.pool(x, slots, kind, normalise=normalise), "pool")


def test_take(machine: Machine) -> None:
    x, indices = random(6, 11), np.array([5, 0, 3], np.uint32)
    out = machine.room(4 * 33)
    machine.call(rows.add_take, "take", machine.put(x), 44, machine.put(indices), 3, 44, out, 44)
    assert_close(machine.get(out, 3, 11), x[indices], "exact")
