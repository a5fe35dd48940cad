"""Lowers a graph to one WebAssembly function per family of steps, which calls the kernels in order.

All addresses are constants of that function; how many tokens, outputs and sequences a step has are
its parameters, so that one function serves every size and a step is one call from the host. The
kernels are added to the same module as they are needed. Knows nothing of sequences or sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import KernelError, UnsupportedModelError
from ..graph.fuse import FusionPlan, fuse
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
    Pool,
    Rope,
    Route,
    Rows,
    Scale,
    TakeOutputs,
    Value,
    Weight,
)
from .assembler import Function
from .kernel_set import Kernels
from .kernels import attention, cache, experts, floats, quantize, rows
from .kernels.packing import PAIR, Packing, packing
from .scratch import Scratch
from .state import Activations, State
from .steps import COUNT, END, START, Call, Count, Moving, Private, Split, Steps, of, row_split

FUSION = FusionPlan(norm=False, prepare=False)
"""Norms are apart because their result is quantized once; rotation and cache need no dispatch."""


def fused(graph: Graph, outputs: Any) -> Graph:
    """Return the graph as this lowering wants it."""
    plan = FusionPlan(norm=FUSION.norm, prepare=FUSION.prepare, outputs=outputs)
    return fuse(graph, plan, accept=lambda op: True)


_FEW = 8
"""Rows of a piece where a row is little work; families of fewer are cut along something else."""
_LONG_ROW = 1024
"""Roundings or exponentials of a row that is worth a piece: some microseconds."""
_WORK = 1 << 15
"""Products of a piece of a matrix for one token: two microseconds."""


class Lowering:
    """One family's function: ``step_<name>(tokens, outputs, sequences)``."""

    def __init__(
        self,
        kernels: Kernels,
        state: State,
        activations: Activations,
        scratch: Scratch,
        counts: Mapping[Rows, int],
        *,
        many: bool,
    ) -> None:
        self._kernels = kernels
        self._module = kernels.module
        self._state = state
        self._activations = activations
        self._scratch = scratch.shared
        self._scratch_end = scratch.shared + scratch.shared_bytes
        self._private = Private(scratch.private, scratch.private_bytes)
        self._counts = counts
        """Most tokens, outputs and sequences of a step."""
        self._many = many
        self._apart = not many and activations.rows > 0
        """Whether rows are those of different sequences, with a place of their own."""
        self._calls: list[Call] = []
        self._quantized: tuple[Value, int, bool] | None = None

    def lower(self, graph: Graph, name: str, steps: Steps, last: Sequence[Call] = ()) -> Function:
        """Add the kernels and the function that calls them, and then what is ``last``.

        A graph's parts are lowered one after the other.
        """
        begun = len(self._calls)
        for op in graph.ops:
            getattr(self, "_" + type(op).__name__)(op)
            written = {self._activations.arena.slot_of(value) for value in op.outputs()}
            if self._quantized is not None and self._quantized[1] in written:
                self._quantized = None
        self._calls += last
        return steps.add(name, self._calls[begun:])

    @property
    def calls(self) -> int:
        """How many kernels a step calls."""
        return len(self._calls)

    # -- helpers ---------------------------------------------------------------------------------

    def _call(self, kernel: Function, *values: Any) -> None:
        """Note a call by one thread; a ``Rows`` stands for that count."""
        given = (of(v) if isinstance(v, Rows) else v for v in values)
        self._calls.append(Call(kernel, tuple(given)))

    def _rows(self, kernel: Function, rows: Rows, unit: int, *values: Any) -> None:
        """Note a call over ``rows``, in pieces of ``unit`` where there are many."""
        split = Split(rows, unit) if self._counts[rows] > 2 * unit else None
        self._calls.append(Call(kernel, values, rows, split, apart=self._apart))

    def _cut(self, kernel: Function, split: Split, *values: Any, apart: bool = False) -> None:
        """Note a call that can be cut along something other than the step's rows."""
        given = tuple(of(v) if isinstance(v, Rows) else v for v in values)
        self._calls.append(Call(kernel, given, split.total, split, apart))

    def _span(self, value: Value) -> tuple[int, int]:
        """Return address and bytes from row to row."""
        return self._activations.span(value)

    def _moving(self, value: Value) -> tuple[Moving, int]:
        """Return the same for a call that is cut along rows."""
        at, stride = self._span(value)
        return Moving(at, stride), stride

    def _vector(self, weight: Any) -> int:
        return 0 if weight is None else self._state.weights.vectors[weight]

    def _map(
        self,
        key: Any,
        body: rows.Body,
        count: int,
        number: Rows,
        vectors: list[tuple[int, int]],
        scalars: list[tuple[int, int]],
        out: tuple[int, int],
        times: int = 1,
    ) -> None:
        """Note an element-wise kernel over ``times`` rows for each of the step's ``number``."""
        kernel = self._kernels.get(
            ("map", key, len(vectors), len(scalars)),
            lambda name: rows.add_map(self._module, name, len(vectors), len(scalars), body),
        )
        spans = (*vectors, *scalars, out)
        streams = [p for at, stride in spans for p in (Moving(at, stride * times), stride)]
        unit = _unit(count * times if getattr(key, "activation", None) else 0)
        self._rows(kernel, number, unit, count, Count(times), *streams)

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
            out = Moving(self._scratch, size)
            start = Moving(address, stride)
            unit = _unit(x.width)
            self._rows(kernel, x.rows, unit, start, stride, x.width // 32, COUNT, out)
            self._quantized = (x, self._activations.arena.slot_of(x), wide)
        return self._scratch, size

    def _products(self, nbytes: int) -> int:
        """Return scratch for products, behind the quantized x."""
        return (self._scratch_end - nbytes) // 64 * 64 - 64

    def _Adapters(self, op: Adapters) -> None:
        """Do nothing: the runner has written them."""

    # -- matrices --------------------------------------------------------------------------------

    def _Linear(self, op: Linear) -> None:
        if op.norm is not None:
            raise KernelError("The WebAssembly lowering takes norms apart from matrices.")
        form = self._kernels.form(op.weight.quant)
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
        many = self._many and op.out.rows is Rows.TOKENS
        weights = Moving(self._state.weights.matrices[op.weight], _row_bytes(op.weight))
        self._cut(
            self._kernels.linear(op.weight.quant, many),
            row_split(op.weight.rows, op.weight.columns, 0 if many else _WORK, 2 * PAIR),
            weights,
            columns,
            COUNT,
            x,
            x_row,
            op.out.rows,
            Moving(target[0], 4),
            target[1],
            self._private,
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
        form = self._kernels.form(op.weight.quant)
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
        rooms = self._state.weights.experts
        listed = rooms is not None and op.weight in rooms.places
        kernel = self._kernels.get(
            ("experts", base.name, listed),
            lambda name: experts.add_experts(self._module, base, listed=listed),
        )
        step, half_bytes = size, count * size
        if rooms is not None and listed:
            weights, step, half_bytes = rooms.places[op.weight], rooms.table(op.weight), size
        else:
            weights = self._state.weights.matrices[op.weight]
        chosen, chosen_row = self._span(op.experts)
        by_rows = self._counts[op.x.rows] <= 2 * _FEW
        for half in range(2 if op.gate_then_up else 1):
            first, result = weights + half * half_bytes, target + half * 4 * many
            tail = (op.used, Moving(result, 4 if by_rows else op.used * out_used), out_used)
            shape = (step, count, cells)
            steady = (piece if op.per_expert_input else 0,)
            of_x: tuple[Any, ...]
            if by_rows:
                split = row_split(many, columns * op.used, _WORK, 2 * PAIR)
                moving = Moving(first, size // -(-many // PAIR) // PAIR)
                of_x = (x, x_row, *steady, op.x.rows, chosen, chosen_row)
                self._cut(kernel, split, moving, *shape, COUNT, *of_x, *tail)
            else:
                of_x = (Moving(x, x_row), x_row, *steady, COUNT, Moving(chosen, chosen_row))
                self._rows(kernel, op.x.rows, 2, first, *shape, many, *of_x, chosen_row, *tail)
        if not op.gated and op.activation is None:
            return
        width = wide // 2 if op.gated else many
        epilogue = rows.Epilogue(activation=op.activation, gated=op.gated)
        vectors = [(target, out_used)]
        if op.gated:
            vectors.append((target + 4 * width, out_used))
        out = (address, stride // op.used)
        self._map(epilogue, epilogue.body, width, op.x.rows, vectors, [], out, op.used)

    def _Embed(self, op: Embed) -> None:
        form = self._kernels.form(op.table.quant)
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
        out, indices = self._moving(op.out), Moving(index, 4)
        shape = (table, columns, indices, COUNT, *out, op.scale, op.table.rows)
        self._rows(kernel, op.out.rows, _FEW, *shape)

    # -- attention -------------------------------------------------------------------------------

    def _Rope(self, op: Rope) -> None:
        table = op.table
        s = attention.RopeStructure(
            op.head_size, len(table.frequencies), table.interleaved, table.magnitude
        )
        kernel = self._kernels.get(s, lambda name: attention.add_rope(self._module, name, s))
        x, out = self._moving(op.x), self._moving(op.out)
        ropes, positions = self._state.ropes[table], Moving(self._state.inputs.positions, 4)
        tail = (op.heads, *out, ropes, self._private)
        self._rows(kernel, op.x.rows, _FEW, *x, positions, COUNT, *tail)

    def _KvWrite(self, op: KvWrite) -> None:
        s = cache.CacheStructure(
            op.kv_heads,
            op.key.width // op.kv_heads,
            op.value.width // op.kv_heads,
            self._state.kv,
        )
        kernel = self._kernels.get(s, lambda name: cache.add_kv_write(self._module, name, s))
        inputs = self._state.inputs
        self._rows(
            kernel,
            op.key.rows,
            _FEW,
            *self._moving(op.key),
            *self._moving(op.value),
            Moving(inputs.positions, 4),
            Moving(inputs.slots, 4),
            COUNT,
            inputs.tables,
            inputs.max_blocks,
            self._state.keys[op.layer],
            self._state.values[op.layer],
        )

    def _Attention(self, op: Attention) -> None:
        if op.alibi:
            raise UnsupportedModelError("The WebAssembly backend has no ALiBi attention.")
        s = attention.Structure(
            cache.CacheStructure(op.kv_heads, op.head_size, op.value_size, self._state.kv),
            op.heads,
            op.scale,
            op.causal,
            op.window,
            op.softcap,
            op.sinks is not None,
        )
        kernel = self._kernels.get(s, lambda name: attention.add_attention(self._module, name, s))
        inputs = self._state.inputs
        few = self._counts[op.q.rows] <= 2 * _FEW
        units = Split(op.q.rows, 1 if few else 2 * op.kv_heads, op.kv_heads)
        self._cut(
            kernel,
            units,
            *self._span(op.q),
            inputs.positions,
            inputs.slots,
            inputs.tables,
            inputs.max_blocks,
            inputs.lengths,
            self._state.keys[op.layer],
            self._state.values[op.layer],
            *self._span(op.out),
            self._vector(op.sinks),
            self._private,
            START,
            END,
            apart=self._apart,
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
        residual = (0, 0) if op.residual is None else self._moving(op.residual)
        self._rows(
            kernel,
            op.out.rows,
            _FEW,
            *self._moving(op.x),
            COUNT,
            op.out.width // spec.group,
            *self._moving(op.out),
            self._vector(spec.weight),
            self._vector(spec.bias),
            *residual,
        )

    def _Route(self, op: Route) -> None:
        s = experts.RouteStructure(op.logits.width, op.used, op.gating, op.normalise, op.scale)
        kernel = self._kernels.get(s, lambda name: experts.add_route(self._module, name, s))
        spans = (*self._moving(op.out_experts), *self._moving(op.out_weights))
        logits = self._moving(op.logits)
        self._rows(kernel, op.logits.rows, _FEW, *logits, COUNT, *spans, self._private)

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


def _unit(work: int) -> int:
    """Return how many rows a piece should have that takes ``work`` roundings or exponentials."""
    return 1 if work >= _LONG_ROW else _FEW


def _row_bytes(weight: Weight) -> int:
    """Return the bytes from row to row of a matrix, on the mean of eight."""
    form = packing(weight.quant)
    return 4 * weight.columns if form is None else form.nbytes(PAIR, weight.columns) // PAIR
