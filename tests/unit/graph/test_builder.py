"""The builder's own checks: unique names, widths that fit, complete cache layers."""

from __future__ import annotations

import pytest

from tilewright.errors import FormatError
from tilewright.formats.model_file import TensorInfo
from tilewright.formats.quant import BY_NAME
from tilewright.graph.builder import GraphBuilder
from tilewright.graph.ops import Linear, NormSpec, RopeTable, Rows

F32 = BY_NAME["F32"]


def builder(**shapes: tuple[int, ...]) -> GraphBuilder:
    names = {name.replace("_dot_", "."): shape for name, shape in shapes.items()}
    return GraphBuilder({n: TensorInfo(n, s, F32, 0, 0, 0) for n, s in names.items()})


def test_names_are_unique_and_biases_optional() -> None:
    build = builder(table=(9, 4), a_dot_weight=(6, 4), a_dot_bias=(6,), b_dot_weight=(4, 6))
    x = build.embed("table", 9, 4)
    y = build.linear(x, "a", 6)
    z = build.linear(build.linear(y, "b", 4), "a", 6)
    graph = build.finish(vocabulary=9, hidden=z)
    names = [value.name for op in graph.ops for value in op.outputs()]
    assert len(set(names)) == len(names)
    first, second = (op for op in graph.ops[1:3] if isinstance(op, Linear))
    assert first.bias is not None
    assert first.bias.columns == 6
    assert second.bias is None
    assert (z.rows, z.width) == (Rows.TOKENS, 6)


def test_tensors_are_checked() -> None:
    build = builder(table=(9, 4), a_dot_weight=(6, 5), c_dot_weight=(6, 4), c_dot_bias=(5,))
    x = build.embed("table", 9, 4)
    for name in ("a", "missing", "c"):
        with pytest.raises(FormatError) as error:
            build.linear(x, name, 6)
        assert error.value.details["tensor"].startswith(name)


def test_impossible_calls_are_refused() -> None:
    build = builder(table=(9, 4), other=(9, 6))
    x, y = build.embed("table", 9, 4), build.embed("other", 9, 6)
    outputs = build.take_outputs(x)
    norm = NormSpec(None, None, 1e-5, 3)
    table = RopeTable((1.0, 0.5))
    calls = [
        lambda: build.add(x, y, "sum"),
        lambda: build.add(x, outputs, "sum"),
        lambda: build.take_outputs(outputs),
        lambda: build.pool(outputs, "mean"),
        lambda: build.norm(x, norm, "norm"),
        lambda: build.rope(x, table, 2, 2, "rope"),
        lambda: build.route(x, 5, name="route", normalise=True),
        lambda: build.gate_rows(x, y, "gate"),
        lambda: build.attention(y, x, x, layer=0, heads=3, kv_heads=2, scale=1.0, name="attention"),
        lambda: build.attention(x, y, y, layer=0, heads=2, kv_heads=2, scale=1.0, name="attention"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r": | different "):
            call()
    build.attention(x, x, x, layer=1, heads=2, kv_heads=2, scale=1.0, name="attention")
    with pytest.raises(ValueError, match="gaps"):
        build.finish(vocabulary=9)
