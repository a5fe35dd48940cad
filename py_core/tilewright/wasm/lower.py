"""Lowers a graph to one WebAssembly function per family of steps, which calls the kernels in order.

All addresses are constants of that function; how many tokens, outputs and sequences a step has are
its parameters, so that one function serves every size and a step is one call from the host. The
kernels are added to the same module as they are needed. Knows nothing of sequences or sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import KernelError, UnsupportedModelError
from ..graph.fuse import FusionPlan, fuse
from ..graph.ops import (
    Activate,
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
    Pool,
    Rope,
    Route,
    Rows,
    Scale,
    TakeOutputs,
    Value,
)
from .assembler import Expr, Function
from .kernel_set import Kernels
from .kernels import attention, experts, floats, quantize, rows
from .kernels.packing import Packing, packing
from .state import Activations, State
from .weights import matrix_bytes

FUSION = FusionPlan(norm=False, prepare=False)
"""Norms are apart because their result is quantized once; rotation and cache need no dispatch."""


def fused(graph: Graph, outputs: Any) -> Graph:
    """Return the graph as this lowering wants it."""
    plan = FusionPlan(norm=FUSION.norm, prepare=FUSION.prepare, outputs=outputs)
    return fuse(graph, plan, accept=lambda op: True)


def bytes_read(graph: Graph) -> int:
    """Return the bytes of weights that one token reads."""
    total = 0
    for op in graph.ops:
        if isinstance(op, Linear):
            total += matrix_bytes(op.weight)
        elif isinstance(op, ExpertLinear):
            experts_ = op.weight.rows // op.expert_rows // (2 if op.gate_then_up else 1)
            total += matrix_bytes(op.weight) * op.used // experts_
    return total


def scratch_bytes(graph: Graph, counts: Mapping[Rows, int]) -> int:
    """Return the bytes that ops of a family need while they run: quantized x, then products."""
    inputs, products = 0, 256
    for op in graph.ops:
        if isinstance(op, Linear | ExpertLinear):
            size = counts[op.x.rows] * quantize.activation_bytes(op.x.width + 31, wide=True)
            inputs = max(inputs, size)
            used = op.used if isinstance(op, ExpertLinear) else 1
            wide = 2 * op.out.width if op.gated else op.out.width
            products = max(products, counts[op.out.rows] * max(wide, used) * 4)
        elif isinstance(op, Rope):
            products = max(products, 8 * len(op.table.frequencies))
        elif isinstance(op, Route):
            products = max(products, 4 * op.logits.width)
    return inputs + products + 128


class Lowering:
    """One family's function: ``step_<name>(tokens, outputs, sequences)``."""

    def __init__(
        self,
        kernels: Kernels,
        state: State,
        activations: Activations,
        scratch: int,
        scratch_bytes: int,
        counts: Mapping[Rows, int],
        *,
        many: bool,
    ) -> None:
        self._kernels = kernels
        self._module = kernels.module
        self._state = state
        self._activations = activations
        self._scratch = scratch
        self._scratch_end = scratch + scratch_bytes
        self._counts = counts
        """Most tokens, outputs and sequences of a step."""
        self._many = many
        self._calls: list[tuple[Function, list[Any]]] = []
        self._quantized: tuple[Value, int, bool] | None = None

    def lower(self, graph: Graph, name: str) -> Function:
        """Add the kernels and the function that calls them."""
        for op in graph.ops:
            getattr(self, "_" + type(op).__name__)(op)
            written = {self._activations.arena.slot_of(value) for value in op.outputs()}
            if self._quantized is not None and self._quantized[1] in written:
                self._quantized = None
        f = self._module.function(f"step_{name}", ["i32"] * 3)
        counts = dict(zip((Rows.TOKENS, Rows.OUTPUTS, Rows.SEQUENCES), f.parameters, strict=True))
        for kernel, values in self._calls:
            given = [value(counts) if callable(value) else value for value in values]
            f.do(f.call(kernel, *given))
        return f

    @property
    def calls(self) -> int:
        """How many kernels a step calls."""
        return len(self._calls)

    # -- helpers ---------------------------------------------------------------------------------

    def _call(self, kernel: Function, *values: Any) -> None:
        """Note a call; a ``Rows`` stands for that count."""
        self._calls.append((kernel, [_count(v) if isinstance(v, Rows) else v for v in values]))

    def _span(self, value: Value) -> tuple[int, int]:
        """Return address and bytes from row to row."""
        return self._activations.at(value), 4 * value.storage.width

    def _vector(self, weight: Any) -> int:
        return 0 if weight is None else self._state.weights.vectors[weight]

    def _map(
        self,
        key: Any,
        body: rows.Body,
        count: int,
        of: Any,
        vectors: list[tuple[int, int]],
        scalars: list[tuple[int, int]],
        out: tuple[int, int],
    ) -> None:
        kernel = self._kernels.get(
            ("map", key, len(vectors), len(scalars)),
            lambda name: rows.add_map(self._module, name, len(vectors), len(scalars), body),
        )
        streams = [number for pair in (*vectors, *scalars, out) for number in pair]
        self._call(kernel, count, of, *streams)

    def _input(self, x: Value, form: Packing | None) -> tuple[int, int]:
        """Return where a linear map finds x: itself, or quantized into the scratch."""
        address, stride = self._span(x)
        if form is None:
            return address, stride
        wide = self._kernels.is_wide(form)
        size = quantize.activation_bytes(x.width, wide=wide)
        if self._quantized is None or self._quantized[::2] != (x, wide):
            add = quantize.add_quantize_wide if wide else quantize.add_quantize
            kernel = self._kernels.get(("quantize", wide), lambda name: add(self._module))
            self._call(kernel, address, stride, x.width // 32, x.rows, self._scratch)
            self._quantized = (x, self._activations.arena.slot_of(x), wide)
        return self._scratch, size

    def _products(self, nbytes: int) -> int:
        """Return scratch for products, behind the quantized x."""
        return (self._scratch_end - nbytes) // 64 * 64 - 64

    # -- matrices --------------------------------------------------------------------------------

    def _Linear(self, op: Linear) -> None:
        if op.norm is not None:
            raise KernelError("The WebAssembly lowering takes norms apart from matrices.")
        form = packing(op.weight.quant)
        x, x_row = self._input(op.x, form)
        columns = op.weight.columns if form is None else op.weight.columns // 32
        out = self._span(op.out)
        epilogue = rows.Epilogue(
            op.bias is not None,
            op.activation,
            op.gated,
            op.scale,
            op.residual is not None,
            op.softcap,
        )
        target = out
        if op.gated:
            nbytes = self._counts[op.out.rows] * 4 * op.weight.rows
            target = (self._products(nbytes), 4 * op.weight.rows)
        self._call(
            self._kernels.linear(op.weight.quant, self._many and op.out.rows is Rows.TOKENS),
            self._state.weights.matrices[op.weight],
            columns,
            op.weight.rows,
            x,
            x_row,
            op.out.rows,
            *target,
        )
        if epilogue.nothing:
            return
        width = op.out.width
        vectors = [target]
        if op.gated:
            vectors.append((target[0] + 4 * width, target[1]))
        if op.bias is not None:
            bias = self._vector(op.bias)
            vectors += [(bias, 0), (bias + 4 * width, 0)][: 1 + op.gated]
        if op.residual is not None:
            vectors.append(self._span(op.residual))
        self._map(epilogue, epilogue.body, width, op.out.rows, vectors, [], out)

    def _ExpertLinear(self, op: ExpertLinear) -> None:
        form = packing(op.weight.quant)
        x, x_row = self._input(op.x, form)
        columns = op.weight.columns
        piece = 4 * columns
        if form is not None:
            wide_x = self._kernels.is_wide(form)
            piece = quantize.activation_bytes(columns, wide=wide_x)
        cells = columns if form is None else columns // 32
        many = op.expert_rows
        size = floats.float_bytes(many, columns) if form is None else form.nbytes(many, columns)
        count = op.weight.rows // many // (2 if op.gate_then_up else 1)
        wide = 2 * many if op.gate_then_up else many
        address, stride = self._span(op.out)
        target, out_used = address, 4 * many
        if op.gated:
            nbytes = self._counts[op.out.rows] * op.used * 4 * wide
            target, out_used = self._products(nbytes), 4 * wide
        base = self._kernels.linear(op.weight.quant, many=False)
        kernel = self._kernels.get(
            ("experts", base.name), lambda name: experts.add_experts(self._module, base)
        )
        weights = self._state.weights.matrices[op.weight]
        chosen = self._span(op.experts)
        for half in range(2 if op.gate_then_up else 1):
            self._call(
                kernel,
                weights + half * count * size,
                size,
                count,
                cells,
                many,
                x,
                x_row,
                piece if op.per_expert_input else 0,
                op.x.rows,
                *chosen,
                op.used,
                target + half * 4 * many,
                out_used,
            )
        if not op.gated and op.activation is None:
            return
        width = wide // 2 if op.gated else many
        epilogue = rows.Epilogue(activation=op.activation, gated=op.gated)
        vectors = [(target, out_used)]
        if op.gated:
            vectors.append((target + 4 * width, out_used))
        used = op.used
        self._map(
            epilogue,
            epilogue.body,
            width,
            lambda counts: counts[op.x.rows] * used,
            vectors,
            [],
            (address, stride // used),
        )

    def _Embed(self, op: Embed) -> None:
        form = packing(op.table.quant)
        inputs = self._state.inputs
        index = inputs.ids if op.index == "ids" else inputs.positions
        table = self._state.weights.matrices[op.table]
        if form is None:
            kernel = self._kernels.get(
                "embed_float", lambda name: floats.add_float_embed(self._module)
            )
            columns = op.table.columns
        else:
            kernel = self._kernels.get(
                ("embed", form), lambda name: experts.add_embed(self._module, name, form)
            )
            columns = op.table.columns // 32
        out = self._span(op.out)
        self._call(kernel, table, columns, index, op.out.rows, *out, op.scale, op.table.rows)

    # -- attention -------------------------------------------------------------------------------

    def _Rope(self, op: Rope) -> None:
        table = op.table
        s = attention.RopeStructure(
            op.head_size, len(table.frequencies), table.interleaved, table.magnitude
        )
        kernel = self._kernels.get(s, lambda name: attention.add_rope(self._module, name, s))
        x, out = self._span(op.x), self._span(op.out)
        ropes, positions = self._state.ropes[table], self._state.inputs.positions
        scratch = self._products(8 * len(table.frequencies))
        self._call(kernel, *x, positions, op.x.rows, op.heads, *out, ropes, scratch)

    def _KvWrite(self, op: KvWrite) -> None:
        s = attention.CacheStructure(
            op.kv_heads, op.key.width // op.kv_heads, op.value.width // op.kv_heads
        )
        kernel = self._kernels.get(s, lambda name: attention.add_kv_write(self._module, name, s))
        inputs = self._state.inputs
        self._call(
            kernel,
            *self._span(op.key),
            *self._span(op.value),
            inputs.positions,
            inputs.slots,
            op.key.rows,
            inputs.tables,
            inputs.max_blocks,
            self._state.keys[op.layer],
            self._state.values[op.layer],
        )

    def _Attention(self, op: Attention) -> None:
        if op.alibi:
            raise UnsupportedModelError("The WebAssembly backend has no ALiBi attention.")
        s = attention.Structure(
            attention.CacheStructure(op.kv_heads, op.head_size, op.value_size),
            op.heads,
            op.scale,
            op.causal,
            op.window,
            op.softcap,
            op.sinks is not None,
        )
        kernel = self._kernels.get(s, lambda name: attention.add_attention(self._module, name, s))
        inputs = self._state.inputs
        self._call(
            kernel,
            *self._span(op.q),
            inputs.positions,
            inputs.slots,
            op.q.rows,
            inputs.tables,
            inputs.max_blocks,
            inputs.lengths,
            self._state.keys[op.layer],
            self._state.values[op.layer],
            *self._span(op.out),
            self._vector(op.sinks),
            self._products(128),
        )

    # -- rows ------------------------------------------------------------------------------------

    def _Norm(self, op: Norm) -> None:
        spec = op.norm
        s = rows.NormStructure(
            spec.group,
            spec.epsilon,
            spec.center,
            0 if spec.weight is None else spec.weight.rows * spec.weight.columns,
            0 if spec.bias is None else spec.bias.rows * spec.bias.columns,
            spec.weight_offset,
            op.residual is not None,
        )
        kernel = self._kernels.get(s, lambda name: rows.add_norm(self._module, name, s))
        residual = (0, 0) if op.residual is None else self._span(op.residual)
        self._call(
            kernel,
            *self._span(op.x),
            op.out.rows,
            op.out.width // spec.group,
            *self._span(op.out),
            self._vector(spec.weight),
            self._vector(spec.bias),
            *residual,
        )

    def _Route(self, op: Route) -> None:
        s = experts.RouteStructure(op.logits.width, op.used, op.gating, op.normalise, op.scale)
        kernel = self._kernels.get(s, lambda name: experts.add_route(self._module, name, s))
        spans = (*self._span(op.out_experts), *self._span(op.out_weights))
        scratch = self._products(4 * op.logits.width)
        self._call(kernel, *self._span(op.logits), op.logits.rows, *spans, scratch)

    def _Combine(self, op: Combine) -> None:
        y, stride = self._span(op.y)
        weight, weight_stride = self._span(op.weights_of)
        vectors = [(y + 4 * op.out.width * j, stride) for j in range(op.used)]
        scalars = [(weight + 4 * j, weight_stride) for j in range(op.used)]
        extra = op.residual is not None
        if op.residual is not None:
            vectors.append(self._span(op.residual))
        body = rows.weighted(op.used, extra)
        out = self._span(op.out)
        self._map(("weighted", extra), body, op.out.width, op.out.rows, vectors, scalars, out)

    def _GateRows(self, op: GateRows) -> None:
        vectors = [self._span(op.x)]
        extra = op.residual is not None
        if op.residual is not None:
            vectors.append(self._span(op.residual))
        scalars, out = [self._span(op.gate)], self._span(op.out)
        body = rows.gated_rows(extra)
        self._map(("gate", extra), body, op.out.width, op.out.rows, vectors, scalars, out)

    def _Add(self, op: Add) -> None:
        vectors, out = [self._span(op.x), self._span(op.y)], self._span(op.out)
        body = rows.scaled_sum(op.scale)
        self._map(("sum", op.scale), body, op.out.width, op.out.rows, vectors, [], out)

    def _AddRow(self, op: AddRow) -> None:
        vectors = [self._span(op.x), (self._vector(op.row), 0)]
        body, out = rows.scaled_sum(1.0), self._span(op.out)
        self._map(("sum", 1.0), body, op.out.width, op.out.rows, vectors, [], out)

    def _Scale(self, op: Scale) -> None:
        self._elementwise(rows.Epilogue(scale=op.factor), [op.x], op.out)

    def _Activate(self, op: Activate) -> None:
        gated = op.up is not None
        values = [op.x] if op.up is None else [op.x, op.up]
        self._elementwise(rows.Epilogue(activation=op.activation, gated=gated), values, op.out)

    def _elementwise(self, body: rows.Epilogue, values: list[Value], out: Value) -> None:
        vectors = [self._span(value) for value in values]
        self._map(body, body.body, out.width, out.rows, vectors, [], self._span(out))

    def _TakeOutputs(self, op: TakeOutputs) -> None:
        kernel = self._kernels.get("take", lambda name: rows.add_take(self._module))
        indices = self._state.inputs.outputs
        self._call(
            kernel, *self._span(op.x), indices, op.out.rows, 4 * op.out.width, *self._span(op.out)
        )

    def _Pool(self, op: Pool) -> None:
        kernel = self._kernels.get(
            ("pool", op.kind, op.normalise),
            lambda name: rows.add_pool(self._module, op.kind, op.normalise),
        )
        slots = self._state.inputs.slots
        self._call(kernel, *self._span(op.x), slots, op.x.rows, op.out.width, *self._span(op.out))


def _count(of: Rows) -> Callable[[Mapping[Rows, Expr]], Expr]:
    return lambda counts: counts[of]
