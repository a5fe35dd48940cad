"""Fused graphs compute what plain ones do, and are as short as promised."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from tests.reference.golden_models import FOLDER, NAMES, load_model
from tests.reference.interpreter import Interpreter, Result

from tilewright.engine.families import fused_graphs
from tilewright.formats.quant import BY_NAME
from tilewright.graph.fuse import FusionPlan, fuse
from tilewright.graph.ops import (
    Attention,
    Combine,
    Embed,
    ExpertLinear,
    GateRows,
    Graph,
    Linear,
    Op,
    QkvPrepare,
    Rows,
    TakeOutputs,
)
from tilewright.webgpu.kernels.kernel import Capabilities

PLANS = [FusionPlan(*flags) for flags in itertools.product([True, False], repeat=7)]
IDS = np.random.default_rng(3).integers(0, 64, 24).tolist()

DENSE = [
    "granite-nope",
    "llama-biases",
    "llama-yarn",
    "mistral",
    "phi3-partial",
    "qwen2",
    "qwen3",
    "smollm3",
    "stablelm",
    "starcoder2",
    "gpt2",
    "gemma2",
    "gemma3-linear",
    "olmo2",
    "stablelm-parallel",
]
MIXTURES = {"llama-moe": 9, "qwen3moe": 9, "olmoe": 9, "granitemoe": 11, "qwen2moe": 11}
"""Experts: router, choice, gate and up, down, sum; and what a shared expert adds."""


def assert_same(found: Result, wanted: Result) -> None:
    for field in fields(Result):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-10)


def layer_sizes(graph: Graph) -> list[int]:
    """Ops from one attention to the next."""
    at = [index for index, op in enumerate(graph.ops) if isinstance(op, Attention)]
    return [after - before for before, after in itertools.pairwise(at)]


@pytest.mark.parametrize("name", NAMES)
async def test_fused_equals_plain(name: str) -> None:
    model = await load_model(FOLDER / f"{name}.gguf")
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    fused = fuse(model.graph)
    assert len(fused.ops) < len(model.graph.ops)
    assert_same(Interpreter(fused, model.tensors).run(IDS), wanted)
    for op in fused.ops:
        for value in op.inputs():
            assert any(value.storage in other.outputs() for other in fused.ops), value.name


@pytest.mark.parametrize("name", ["gemma3-linear", "granitemoe", "olmo2", "bert-cls"])
async def test_every_plan_equals_plain(name: str) -> None:
    model = await load_model(FOLDER / f"{name}.gguf")
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    for plan in PLANS:
        assert_same(Interpreter(fuse(model.graph, plan), model.tensors).run(IDS), wanted)


async def test_no_fusion_is_the_identity() -> None:
    model = await load_model(FOLDER / "qwen2moe.gguf")
    plan = FusionPlan(*[False] * 7)
    assert fuse(model.graph, plan) == model.graph


@pytest.mark.parametrize("name", DENSE)
async def test_a_dense_layer_is_at_most_six_ops(name: str) -> None:
    fused = fuse((await load_model(FOLDER / f"{name}.gguf")).graph)
    assert max(layer_sizes(fused)) <= 6
    first = next(index for index, op in enumerate(fused.ops) if isinstance(op, Linear))
    assert all(isinstance(op, Embed) for op in fused.ops[: min(first, 2)])


@pytest.mark.parametrize("name", MIXTURES)
async def test_a_layer_of_experts_is_as_short_as_stated(name: str) -> None:
    fused = fuse((await load_model(FOLDER / f"{name}.gguf")).graph)
    assert max(layer_sizes(fused)) == MIXTURES[name]


@pytest.mark.parametrize("name", [*DENSE, *MIXTURES])
async def test_a_device_of_guaranteed_limits_decodes_as_short(name: str) -> None:
    """Nothing of it is denied for its bindings; a prompt's plans fold no norms."""
    model = await load_model(FOLDER / f"{name}.gguf")
    graphs = fused_graphs(model.graph, "f16", Capabilities())
    assert max(layer_sizes(graphs["decode"])) <= MIXTURES.get(name, 6)
    assert all(
        op.norm is None and op.delta is None
        for family in ("prefill", "all")
        for op in graphs[family].ops
        if isinstance(op, Linear)
    )


async def test_a_sum_is_left_for_those_who_need_it_later() -> None:
    """The first reader makes the sum; the last layer's has its one reader's norm left out."""
    model = await load_model(FOLDER / "gemma2.gguf")
    fused = fuse(model.graph)
    sums = [op for op in fused.ops if isinstance(op, Linear) and op.delta is not None]
    assert len(sums) == 2 * model.graph.layers - 1
    assert all(op.out_x is not None and op.norm is not None for op in sums)
    denied = fuse(model.graph, accept=lambda op: not (isinstance(op, Linear) and op.delta))
    assert max(layer_sizes(denied)) == 8
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    assert_same(Interpreter(denied, model.tensors).run(IDS), wanted)


async def test_only_weights_of_one_format_are_stacked() -> None:
    """As in Q4_K_M files, where some values and down projections are Q6_K."""
    model = await load_model(FOLDER / "qwen2.gguf")
    ops = []
    for op in model.graph.ops:
        if isinstance(op, Linear) and op.weight.name == "blk.0.attn_k.weight":
            op = replace(op, weight=replace(op.weight, quant=BY_NAME["BF16"]))
        if isinstance(op, Linear) and op.weight.name == "blk.1.ffn_up.weight":
            op = replace(op, weight=replace(op.weight, quant=BY_NAME["BF16"]))
        ops.append(op)
    mixed = replace(model.graph, ops=tuple(ops))
    fused = fuse(mixed)
    stacks = Counter(op.weight.tensors for op in fused.ops if isinstance(op, Linear))
    assert stacks[("blk.0.attn_q.weight", "blk.0.attn_v.weight")] == 1
    assert stacks[("blk.0.attn_k.weight",)] == 1
    assert stacks[("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight")] == 1
    assert stacks[("blk.1.ffn_gate.weight",)] == 1
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    assert_same(Interpreter(fused, model.tensors).run(IDS), wanted)


async def test_a_missing_bias_prevents_stacking() -> None:
    model = await load_model(FOLDER / "qwen2.gguf")
    ops = [
        replace(op, bias=None)
        if isinstance(op, Linear) and op.weight.name == "blk.0.attn_v.weight"
        else op
        for op in model.graph.ops
    ]
    plain = replace(model.graph, ops=tuple(ops))
    fused = fuse(plain)
    weights = {op.weight.tensors for op in fused.ops if isinstance(op, Linear)}
    assert ("blk.0.attn_q.weight", "blk.0.attn_k.weight") in weights
    wanted = Interpreter(plain, model.tensors).run(IDS)
    assert_same(Interpreter(fused, model.tensors).run(IDS), wanted)


DECODERS = [name for name in NAMES if "bert" not in name]


@pytest.mark.parametrize("name", DECODERS)
async def test_outputs_taken_early(name: str) -> None:
    """The rows that are wanted, in any order and repeated, at less work in the last layer."""
    model = await load_model(FOLDER / f"{name}.gguf")
    wanted = Interpreter(model.graph, model.tensors).run(IDS, outputs=[5, 23, 0, 5])
    for plan in (FusionPlan(outputs="early"), FusionPlan(*[False] * 7, outputs="early")):
        graph = fuse(model.graph, plan)
        assert_same(Interpreter(graph, model.tensors).run(IDS, outputs=[5, 23, 0, 5]), wanted)
        last = max(i for i, op in enumerate(graph.ops) if isinstance(op, Attention))
        after = [op for op in graph.ops[last + 1 :] if not isinstance(op, TakeOutputs)]
        assert all(value.rows is Rows.OUTPUTS for op in after for value in op.outputs())


@pytest.mark.parametrize("name", DECODERS)
async def test_no_outputs_taken_where_all_are(name: str) -> None:
    model = await load_model(FOLDER / f"{name}.gguf")
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    graph = fuse(model.graph, FusionPlan(outputs="all"))
    assert not any(isinstance(op, TakeOutputs) for op in graph.ops)
    assert_same(Interpreter(graph, model.tensors).run(IDS), wanted)


async def test_what_is_not_accepted_is_not_fused() -> None:
    """Whatever single kind of fused op a lowering denies, the rest is still right."""
    model = await load_model(FOLDER / "qwen2moe.gguf")
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    seen: set[type[Op]] = set()

    def deny(kind: type[Op] | None, op: Op) -> bool:
        seen.add(type(op))
        return kind is None or not isinstance(op, kind)

    everything = fuse(model.graph, accept=partial(deny, None))
    made = set(seen)
    for kind in made:
        fused = fuse(model.graph, accept=partial(deny, kind))
        assert len(fused.ops) > len(everything.ops)
        assert_same(Interpreter(fused, model.tensors).run(IDS), wanted)
    assert made == {Linear, QkvPrepare, ExpertLinear, Combine}
    assert GateRows in seen - made, "where its Linear cannot take it, it takes the residual"
    assert fuse(model.graph, accept=lambda op: False) == model.graph


async def test_gate_and_up_are_stacked_where_they_cannot_be_gated() -> None:
    model = await load_model(FOLDER / "qwen3.gguf")
    fused = fuse(model.graph, accept=lambda op: not (isinstance(op, Linear) and op.gated))
    assert max(layer_sizes(fused)) == 7
    wanted = Interpreter(model.graph, model.tensors).run(IDS)
    assert_same(Interpreter(fused, model.tensors).run(IDS), wanted)
