"""Lowers a graph to dispatches: each op becomes one kernel, or a few, bound to buffers.

The only place where ops meet kernels. A matrix in several shards becomes one dispatch per shard.
Which Tuning a kernel gets is the caller's choice (``Choose``): the default guess, the naive one, or
what the tuner found. Knows nothing of sequences or sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import KernelError
from ..graph.ops import (
    Activate,
    Adapters,
    Add,
    AddRow,
    Attention,
    Combine,
    Embed,
    ExpertLinear,
    GateRows,
    Graph,
    KvWrite,
    Linear,
    Norm,
    NormSpec,
    Op,
    Pool,
    QkvPrepare,
    Rope,
    Route,
    Rows,
    Scale,
    TakeOutputs,
    Value,
    Weight,
)
from .device import BufferRange
from .kernels import (
    attention,
    elementwise,
    embed,
    expert,
    kv_write,
    matmul,
    matvec,
    norm,
    pool,
    qkv_prepare,
    rope,
    rounded,
    route,
)
from .kernels.kernel import Capabilities, Kernel
from .memory import PackedWeight
from .plan import Call
from .state import KV_BLOCK, ModelState, StepBuffers
from .structures import (
    ROWS_FROM,
    attention_structure,
    expert_structure,
    length,
    linear_structure,
    qkv_structure,
    span,
)

Choose = Callable[[Any, Any, Capabilities], Any]
"""(kernel module, Structure, capabilities) -> Tuning."""

_EXCEEDS = "{} exceeds one binding and cannot be gated in one dispatch"


def default_choice(module: Any, structure: Any, capabilities: Capabilities) -> Any:
    """Choose the kernel module's own guess."""
    return module.default(structure, capabilities)


def naive_choice(module: Any, structure: Any, capabilities: Capabilities) -> Any:
    """Choose the plain Tuning that is correct everywhere."""
    return module.naive(structure)


@dataclass
class Lowering:
    """One plan's translation."""

    capabilities: Capabilities
    rows: Mapping[Rows, int]
    """Capacities of T, R and B in this plan."""
    context_length: int
    """Most keys that a token of this plan may see."""
    state: ModelState
    step: StepBuffers
    choose: Choose = default_choice

    def lower(self, graph: Graph) -> list[Call]:
        """Return the dispatches of ``graph`` in order."""
        calls: list[Call] = []
        for op in graph.ops:
            calls.extend(self._op(op))
        return calls

    def _op(self, op: Op) -> list[Call]:
        match op:
            case Adapters():
                return []  # inputs of the step
            case Linear():
                return self._linear(op)
            case QkvPrepare():
                return [self._qkv_prepare(op)]
            case Attention():
                return self._attention(op)
            case Norm():
                return [self._norm(op)]
            case Embed():
                return self._embed(op)
            case Rope():
                return [self._rope(op)]
            case KvWrite():
                return [self._kv_write(op)]
            case ExpertLinear():
                return self._expert(op)
            case Route():
                return [self._route(op)]
            case Pool():
                return [self._pool(op)]
            case _:
                return [self._elementwise(op)]

    # -- helpers ---------------------------------------------------------------------------------

    def _call(self, module: Any, structure: Any, ranges: Mapping[str, BufferRange]) -> Call:
        tuning = self.choose(module, structure, self.capabilities)
        return self._bound(module.kernel(structure, tuning, self.capabilities), ranges)

    def _bound(self, kernel: Kernel, ranges: Mapping[str, BufferRange]) -> Call:
        step = self.step
        known = {
            "step": step.step,
            "ids": step.ids,
            "positions": step.positions,
            "slots": step.slots,
            "outputs": step.outputs,
            "block_tables": self.state.block_tables,
            "lengths": self.state.lengths,
        }
        return Call(kernel, {**known, **ranges})

    def _values(self, **values: Value | None) -> dict[str, BufferRange]:
        return {name: self.step.value(v) for name, v in values.items() if v is not None}

    def _vector(self, weight: Weight) -> BufferRange:
        return self.state.weights.vectors[weight]

    def _packed(self, weight: Weight) -> PackedWeight:
        return self.state.weights.packed[weight]

    def _norm_ranges(self, spec: NormSpec | None) -> dict[str, BufferRange]:
        ranges = {}
        if spec is not None and spec.weight is not None:
            ranges["norm_weight"] = self._vector(spec.weight)
        if spec is not None and spec.bias is not None:
            ranges["norm_bias"] = self._vector(spec.bias)
        return ranges

    def _weight_ranges(self, packed: PackedWeight, shard: int) -> dict[str, BufferRange]:
        ranges = {"quants": packed.shards[shard].quants, "scales": packed.shards[shard].scales}
        if packed.packing.table is not None:
            ranges["table"] = self.state.weights.tables[packed.packing.table]
        return ranges

    # -- matrices --------------------------------------------------------------------------------

    def _linear(self, op: Linear) -> list[Call]:
        packed = self._packed(op.weight)
        if op.gated and len(packed.shards) > 1:
            raise KernelError(f"{_EXCEEDS.format(op.weight.name)}: lower the unfused graph.")
        ranges = self._values(x=op.x, delta=op.delta, row_gate=op.row_gate, residual=op.residual)
        ranges |= self._values(out=op.out, out_x=op.out_x)
        ranges |= self._norm_ranges(op.norm)
        if op.post_norm is not None and op.post_norm.weight is not None:
            ranges["post_weight"] = self._vector(op.post_norm.weight)
        quant, wanted = op.weight.quant.name, self.state.arithmetic
        arithmetic = rounded.arithmetic_for(quant, wanted, self.capabilities)
        calls = []
        for number, shard in enumerate(packed.shards):
            structure = linear_structure(
                op, self.rows[op.out.rows], shard.first_row, shard.rows, arithmetic
            )
            named = ranges | self._weight_ranges(packed, number)
            if op.bias is not None:
                bias = self._vector(op.bias)
                offset = 4 * shard.first_row
                named["bias"] = BufferRange(bias.buffer, offset, 4 * shard.rows)
            few = structure.tokens <= matvec.MAX_TOKENS or structure.has_prologue
            module = matvec if few else matmul
            calls.append(self._call(module, structure, named))
        return calls

    def _embed(self, op: Embed) -> list[Call]:
        packed = self._packed(op.table)
        calls = []
        for number, shard in enumerate(packed.shards):
            structure = embed.EmbedStructure(
                quant=op.table.quant.name,
                columns=op.table.columns,
                first_row=shard.first_row,
                rows=shard.rows,
                tokens=self.rows[op.out.rows],
                out=span(op.out),
                scale=op.scale,
                index=op.index,
            )
            ranges = self._weight_ranges(packed, number) | self._values(out=op.out)
            calls.append(self._call(embed, structure, ranges))
        return calls

    def _expert(self, op: ExpertLinear) -> list[Call]:
        packed = self._packed(op.weight)
        named = self._values(x=op.x, experts=op.experts, out=op.out) | self._norm_ranges(op.norm)
        structure = expert_structure(op, self.rows[op.out.rows])
        if len(packed.shards) == 1:
            return [self._call(expert, structure, named | self._weight_ranges(packed, 0))]
        if op.gated:
            raise KernelError(f"{_EXCEEDS.format(op.weight.name)}: lower the unfused graph.")
        return [
            self._call(
                expert,
                replace(structure, shard=(shard.first_row, shard.rows)),
                named | self._weight_ranges(packed, number),
            )
            for number, shard in enumerate(packed.shards)
        ]

    # -- attention -------------------------------------------------------------------------------

    def _rope(self, op: Rope) -> Call:
        structure = rope.Structure(
            tokens=self.rows[op.out.rows],
            heads=op.heads,
            head_size=op.head_size,
            dimensions=op.table.dimensions,
            x=span(op.x),
            out=span(op.out),
            interleaved=op.table.interleaved,
            magnitude=op.table.magnitude,
        )
        ranges = self._values(x=op.x, out=op.out)
        return self._call(
            rope, structure, ranges | {"rope_table": self.state.rope_tables[op.table]}
        )

    def _cache(self, layer: int) -> dict[str, BufferRange]:
        return {"keys": self.state.keys[layer], "values": self.state.values[layer]}

    def _layout(self, kv_heads: int, head_size: int, value_size: int) -> kv_write.KvLayout:
        return kv_write.KvLayout(
            self.state.kv, kv_heads, head_size, value_size, KV_BLOCK, self.state.max_blocks
        )

    def _kv_write(self, op: KvWrite) -> Call:
        structure = kv_write.Structure(
            tokens=self.rows[op.key.rows],
            k=span(op.key),
            v=span(op.value),
            layout=self._layout(
                op.kv_heads, op.key.width // op.kv_heads, op.value.width // op.kv_heads
            ),
        )
        ranges = self._values(k=op.key, v=op.value)
        return self._call(kv_write, structure, ranges | self._cache(op.layer))

    def _qkv_prepare(self, op: QkvPrepare) -> Call:
        ranges = self._values(q=op.q, k=op.k, v=op.v, out=op.out)
        ranges["x"] = self.step.value(op.q)
        if op.table is not None:
            ranges["rope_table"] = self.state.rope_tables[op.table]
        for name, spec in (("q_norm_weight", op.q_norm), ("k_norm_weight", op.k_norm)):
            if spec is not None and spec.weight is not None:
                ranges[name] = self._vector(spec.weight)
        layout = self._layout(op.kv_heads, op.head_size, op.v.width // op.kv_heads)
        structure = qkv_structure(op, layout, self.rows[op.out.rows])
        return self._call(qkv_prepare, structure, ranges | self._cache(op.layer))

    def _attention(self, op: Attention) -> list[Call]:
        layout = self._layout(op.kv_heads, op.head_size, op.value_size)
        structure = attention_structure(op, layout, self.rows[op.out.rows])
        ranges = self._values(q=op.q, out=op.out) | self._cache(op.layer)
        if op.sinks is not None:
            ranges["sinks"] = self._vector(op.sinks)
        tuning = self.choose(attention, structure, self.capabilities)
        needed = attention.partials_bytes(structure, tuning)
        if needed:
            ranges["partials"] = self.state.scratch.at_least(needed)
        calls = [self._bound(attention.kernel(structure, tuning, self.capabilities), ranges)]
        if needed:
            combine = attention.combine(structure, tuning, self.capabilities)
            calls.append(self._bound(combine, ranges))
        return calls

    # -- the rest --------------------------------------------------------------------------------

    def _norm(self, op: Norm) -> Call:
        spec = op.norm
        structure = norm.Structure(
            tokens=self.rows[op.out.rows],
            width=op.out.width,
            group=spec.group,
            epsilon=spec.epsilon,
            x=span(op.x),
            out=span(op.out),
            rows_from=ROWS_FROM[op.out.rows],
            center=spec.center,
            weight=length(spec.weight),
            bias=length(spec.bias),
            weight_offset=spec.weight_offset,
            residual=None if op.residual is None else span(op.residual),
        )
        ranges = self._values(x=op.x, residual=op.residual, out=op.out)
        return self._call(norm, structure, ranges | self._norm_ranges(spec))

    def _route(self, op: Route) -> Call:
        structure = route.Structure(
            tokens=self.rows[op.logits.rows],
            experts=op.logits.width,
            used=op.used,
            gating=op.gating,
            normalise=op.normalise,
            scale=op.scale,
            logits=span(op.logits),
            out_experts=span(op.out_experts),
            out_weights=span(op.out_weights),
        )
        ranges = self._values(
            logits=op.logits, out_experts=op.out_experts, out_weights=op.out_weights
        )
        return self._call(route, structure, ranges)

    def _pool(self, op: Pool) -> Call:
        structure = pool.Structure(
            tokens=self.rows[op.x.rows],
            sequences=self.rows[op.out.rows],
            width=op.out.width,
            kind=op.kind,
            normalise=op.normalise,
            x=span(op.x),
            out=span(op.out),
        )
        return self._call(pool, structure, self._values(x=op.x, out=op.out))

    def _elementwise(self, op: Op) -> Call:
        ranges: dict[str, BufferRange]
        name: elementwise.Operation
        match op:
            case Add():
                fields: dict[str, Any] = {"x": span(op.x), "y": span(op.y), "factor": op.scale}
                ranges = self._values(x=op.x, y=op.y)
                name, out = "add", op.out
            case AddRow():
                fields = {"x": span(op.x)}
                ranges = self._values(x=op.x) | {"row": self._vector(op.row)}
                name, out = "add_row", op.out
            case Scale():
                fields = {"x": span(op.x), "factor": op.factor}
                ranges = self._values(x=op.x)
                name, out = "scale", op.out
            case Activate():
                fields = {"x": span(op.x), "activation": op.activation}
                if op.up is not None:
                    fields["up"] = span(op.up)
                ranges = self._values(x=op.x, up=op.up)
                name, out = "activate", op.out
            case GateRows():
                fields = {"x": span(op.x), "gate": span(op.gate)}
                if op.residual is not None:
                    fields["residual"] = span(op.residual)
                ranges = self._values(x=op.x, gate=op.gate, residual=op.residual)
                name, out = "gate_rows", op.out
            case Combine():
                fields = {"y": span(op.y), "weights": span(op.weights_of), "used": op.used}
                if op.residual is not None:
                    fields["residual"] = span(op.residual)
                ranges = self._values(y=op.y, weights=op.weights_of, residual=op.residual)
                name, out = "combine", op.out
            case TakeOutputs():
                fields = {"x": span(op.x)}
                ranges = self._values(x=op.x)
                name, out = "take_outputs", op.out
            case _:
                raise KernelError(f"The op {type(op).__name__} has no WebGPU kernel.")
        structure = elementwise.Structure(
            operation=name,
            tokens=self.rows[out.rows],
            width=out.width,
            out=span(out),
            rows_from=ROWS_FROM[out.rows],
            **fields,
        )
        return self._call(elementwise, structure, ranges | self._values(out=out))
