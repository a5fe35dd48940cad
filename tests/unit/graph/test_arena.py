"""The arena never gives two living values one slot, and saves memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.golden_models import FOLDER, NAMES, load_model

from tilewright.formats.quant import BY_NAME
from tilewright.graph.arena import Arena, lifetimes, plan_arena
from tilewright.graph.fuse import fuse
from tilewright.graph.ops import Add, Embed, Graph, Op, Rows, Scale, Value, Weight

ROWS = {Rows.TOKENS: 64, Rows.OUTPUTS: 3, Rows.SEQUENCES: 2}


def check(graph: Graph, rows: dict[Rows, int], arena: Arena) -> None:
    """Walk the ops as an engine does: nothing that is still needed may be overwritten."""
    holder: dict[int, Value] = {}
    for op in graph.ops:
        inputs = {value.storage for value in op.inputs()}
        for value in inputs:
            assert holder[arena.slot_of(value)] is value
        used = {arena.slot_of(value) for value in inputs}
        outputs = [arena.slot_of(value) for value in op.outputs()]
        assert len(set(outputs)) == len(outputs)
        assert not used.intersection(outputs)
        for value in op.outputs():
            slot = arena.slot_of(value)
            assert arena.slots[slot] >= rows[value.rows] * value.width * 4
            holder[slot] = value
    for end in (graph.logits, graph.hidden, graph.pooled):
        if end is not None:
            assert holder[arena.slot_of(end)] is end.storage


@pytest.mark.parametrize("name", NAMES)
async def test_models(name: str) -> None:
    plain = (await load_model(FOLDER / f"{name}.gguf")).graph
    for graph in (plain, fuse(plain)):
        arena = plan_arena(graph, ROWS)
        check(graph, ROWS, arena)
        assert arena.nbytes < arena.unshared
        assert len(arena.slots) <= 12


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random chains and sums with reuse of old values and views."""
    first = Value("v0", Rows.TOKENS, 8)
    values = [first]
    ops: list[Op] = [Embed(Weight(("table",), 9, 8, BY_NAME["F32"]), first)]
    for number in range(1, draw(st.integers(2, 25))):
        out = Value(f"v{number}", Rows.TOKENS, 8)
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        if draw(st.booleans()):
            x = x.view(0, 8)
        ops.append(Add(x, y, out) if draw(st.booleans()) else Scale(y, 2.0, out))
        values.append(out)
    return Graph(tuple(ops), 1, 0, (), draw(st.sampled_from(values[1:])))


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(1, 5))
def test_random_graphs(graph: Graph, tokens: int) -> None:
    rows = {Rows.TOKENS: tokens, Rows.OUTPUTS: 1, Rows.SEQUENCES: 1}
    arena = plan_arena(graph, rows)
    check(graph, rows, arena)
    living = lifetimes(graph, rows)
    for index, one in enumerate(living):
        for other in living[index + 1 :]:
            if one.overlaps(other):
                assert arena.slot_of(one.value) != arena.slot_of(other.value)
    assert sum(item.nbytes for item in living) == arena.unshared
