"""GraphBuilder: what architecture files write graphs with.

Each method appends one op, checks the shapes that meet there against the tensors of the file, and
returns the new value. A tensor that is missing or of another shape is a FormatError; an impossible
call (widths that do not fit) is a ValueError, because then an architecture file is wrong. The
builder knows names and shapes only: no metadata, no container format, no bytes.

Shapes are ``[rows, width]`` with symbolic rows (``Rows``): T tokens, R outputs, B sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..errors import FormatError
from ..formats.quant import QuantType
from .ops import (
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
    NormSpec,
    Op,
    Pool,
    Rope,
    RopeTable,
    Route,
    Rows,
    TakeOutputs,
    Value,
    Weight,
)

_FLOAT_TYPES = ("F32", "F16", "BF16")


class TensorShape(Protocol):
    """What the builder needs to know of a tensor (``formats.model_file.TensorInfo`` has it)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Row-major."""

    @property
    def quant(self) -> QuantType:
        """Format of the weights."""

    @property
    def rows(self) -> int:
        """Product of all axes but the last."""

    @property
    def columns(self) -> int:
        """Length of the contiguous axis."""


class GraphBuilder:
    """Collects ops in execution order; names of values are made unique."""

    def __init__(self, tensors: Mapping[str, TensorShape]) -> None:
        self._tensors = tensors
        self._ops: list[Op] = []
        self._names: dict[str, int] = {}
        self._kv_width: dict[int, tuple[int, int]] = {}

    # -- tensors ---------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the file has a tensor called ``name``."""
        return name in self._tensors

    def tensor(self, name: str) -> TensorShape:
        """Return the tensor called ``name``; FormatError where the file has none."""
        if name not in self._tensors:
            raise FormatError(
                f"The model file has no tensor {name!r}: it is incomplete, or its architecture is "
                "not the one that it names.",
                tensor=name,
            )
        return self._tensors[name]

    def weight(self, name: str, rows: int, columns: int) -> Weight:
        """Return tensor ``name`` as a matrix ``[rows, columns]``; leading axes may be several."""
        found = self.tensor(name)
        if (found.rows, found.columns) != (rows, columns):
            raise FormatError(
                f"The tensor {name!r} is {_text(found.shape)}, but the metadata calls for "
                f"{_text((rows, columns))}: the file is damaged or its metadata is wrong.",
                tensor=name,
            )
        return Weight((name,), rows, columns, found.quant)

    def vector(self, name: str, length: int) -> Weight:
        """Return tensor ``name`` as ``f32[length]`` (any shape with that many elements)."""
        found = self.tensor(name)
        if found.rows * found.columns != length or found.quant.name not in _FLOAT_TYPES:
            raise FormatError(
                f"The tensor {name!r} is {found.quant.name} {_text(found.shape)}, but a vector of "
                f"{length} floats is called for: the file is damaged or its metadata is wrong.",
                tensor=name,
            )
        return Weight((name,), 1, length, found.quant)

    def optional_vector(self, name: str, length: int) -> Weight | None:
        """Return ``vector(name, length)``, or None where the file has no such tensor."""
        return self.vector(name, length) if self.has(name) else None

    # -- dense ops -------------------------------------------------------------------------------

    def embed(
        self, name: str, rows: int, width: int, *, scale: float = 1.0, index: str = "ids"
    ) -> Value:
        """Return f32[T, width] = scale * rows of the table ``name``, picked by ids or positions."""
        out = self._value(name.removesuffix(".weight"), Rows.TOKENS, width)
        self._ops.append(Embed(self.weight(name, rows, width), out, scale, index))
        return out

    def norm(self, x: Value, norm: NormSpec, name: str) -> Value:
        """Return the norm of x, f32[rows, width]."""
        if x.width % norm.group or norm.group <= 0:
            raise ValueError(f"{x.name}: width {x.width} is not made of groups of {norm.group}")
        out = self._value(name, x.rows, x.width)
        self._ops.append(Norm(x, norm, out))
        return out

    def linear(
        self,
        x: Value,
        name: str,
        width: int,
        *,
        biased: bool = True,
        scale: float = 1.0,
        softcap: float = 0.0,
    ) -> Value:
        """Return f32[rows, width] = scale * (x @ name.weight.T + name.bias), then the soft cap.

        The bias is used where the file has one, unless ``biased`` is False.
        """
        weight = self.weight(f"{name}.weight", width, x.width)
        bias = self.optional_vector(f"{name}.bias", width) if biased else None
        out = self._value(name, x.rows, width)
        self._ops.append(Linear(x, weight, out, bias, scale=scale, softcap=softcap))
        return out

    def activate(self, x: Value, activation: str, name: str, up: Value | None = None) -> Value:
        """Return activation(x) (* up)."""
        if up is not None:
            _same_shape(x, up)
        out = self._value(name, x.rows, x.width)
        self._ops.append(Activate(x, activation, out, up))
        return out

    def add(self, x: Value, y: Value, name: str, *, scale: float = 1.0) -> Value:
        """Return x + scale * y."""
        _same_shape(x, y)
        out = self._value(name, x.rows, x.width)
        self._ops.append(Add(x, y, out, scale))
        return out

    def add_row(self, x: Value, table: str, name: str) -> Value:
        """Return x + the first row of the tensor ``table`` (``[any, width]``)."""
        found = self.tensor(table)
        row = self.weight(table, found.rows, x.width)
        out = self._value(name, x.rows, x.width)
        self._ops.append(AddRow(x, row, out))
        return out

    # -- attention -------------------------------------------------------------------------------

    def rope(self, x: Value, table: RopeTable, heads: int, head_size: int, name: str) -> Value:
        """Rotate the heads of ``x f32[T, heads * head_size]``."""
        if x.width != heads * head_size or table.dimensions > head_size:
            raise ValueError(f"{x.name}: {heads} heads of {head_size} do not fit the rotation")
        out = self._value(name, x.rows, x.width)
        self._ops.append(Rope(x, table, heads, head_size, out))
        return out

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        *,
        layer: int,
        heads: int,
        kv_heads: int,
        scale: float,
        name: str,
        causal: bool = True,
        window: int = 0,
        softcap: float = 0.0,
    ) -> Value:
        """Store k and v in the cache of ``layer`` and attend; out f32[T, heads * value size]."""
        if heads % kv_heads or q.width % heads or k.width % kv_heads or v.width % kv_heads:
            raise ValueError(f"{q.name}: {heads} query and {kv_heads} key heads do not fit")
        head_size, value_size = q.width // heads, v.width // kv_heads
        if k.width != kv_heads * head_size:
            raise ValueError(f"{k.name}: keys and queries have different head sizes")
        out = self._value(name, q.rows, heads * value_size)
        self._ops.append(KvWrite(k, v, layer, kv_heads))
        self._ops.append(
            Attention(
                q,
                out,
                layer,
                heads,
                kv_heads,
                head_size,
                value_size,
                scale,
                causal,
                window,
                softcap,
            )
        )
        self._kv_width[layer] = (k.width, v.width)
        return out

    # -- mixture of experts ----------------------------------------------------------------------

    def route(
        self,
        logits: Value,
        used: int,
        *,
        name: str,
        gating: str = "softmax",
        normalise: bool,
        scale: float = 1.0,
    ) -> tuple[Value, Value]:
        """Choose ``used`` experts: (u32[T, used] ids, f32[T, used] weights)."""
        if not 0 < used <= logits.width:
            raise ValueError(f"{logits.name}: {used} of {logits.width} experts")
        experts = self._value(f"{name}.experts", logits.rows, used, "u32")
        weights = self._value(f"{name}.weights", logits.rows, used)
        self._ops.append(Route(logits, used, gating, normalise, scale, experts, weights))
        return experts, weights

    def expert_linear(
        self, x: Value, name: str, experts: Value, count: int, width: int, *, each: bool = False
    ) -> Value:
        """Return f32[T, used * width] = each chosen expert's rows of ``name.weight`` times x.

        ``each``: x is f32[T, used * K], one input per chosen expert; otherwise f32[T, K].
        """
        used = experts.width
        columns = x.width // used if each else x.width
        weight = self.weight(f"{name}.weight", count * width, columns)
        out = self._value(name, x.rows, used * width)
        self._ops.append(ExpertLinear(x, weight, experts, width, used, out, per_expert_input=each))
        return out

    def combine(self, y: Value, weights: Value, name: str) -> Value:
        """Return f32[T, width] = sum over the chosen experts of weight * y."""
        used = weights.width
        if y.width % used:
            raise ValueError(f"{y.name}: {y.width} columns are not {used} experts' outputs")
        out = self._value(name, y.rows, y.width // used)
        self._ops.append(Combine(y, weights, used, out))
        return out

    def gate_rows(self, x: Value, gate: Value, name: str) -> Value:
        """Return x * sigmoid(gate), gate f32[T, 1]."""
        if gate.width != 1 or gate.rows is not x.rows:
            raise ValueError(f"{gate.name}: a gate is one number per row of {x.name}")
        out = self._value(name, x.rows, x.width)
        self._ops.append(GateRows(x, gate, out))
        return out

    # -- ends ------------------------------------------------------------------------------------

    def take_outputs(self, x: Value) -> Value:
        """Return f32[R, width] = the rows of x f32[T, width] whose logits are wanted."""
        if x.rows is not Rows.TOKENS:
            raise ValueError(f"{x.name}: outputs are taken from tokens")
        out = self._value(f"{x.name}.outputs", Rows.OUTPUTS, x.width)
        self._ops.append(TakeOutputs(x, out))
        return out

    def pool(self, x: Value, kind: str, *, normalise: bool = False) -> Value:
        """Return f32[B, width] = one embedding per sequence."""
        if x.rows is not Rows.TOKENS:
            raise ValueError(f"{x.name}: sequences are pooled from tokens")
        out = self._value("pooled", Rows.SEQUENCES, x.width)
        self._ops.append(Pool(x, kind, normalise, out))
        return out

    def finish(
        self,
        *,
        vocabulary: int,
        logits: Value | None = None,
        hidden: Value | None = None,
        pooled: Value | None = None,
        causal: bool = True,
    ) -> Graph:
        """Return the graph; the cache layers are those that ``attention`` was called for."""
        layers = sorted(self._kv_width)
        if layers != list(range(len(layers))):
            raise ValueError("cache layers must be numbered from 0 without gaps")
        widths = tuple(self._kv_width[layer] for layer in layers)
        return Graph(
            tuple(self._ops), vocabulary, len(layers), widths, logits, hidden, pooled, causal
        )

    def _value(self, name: str, rows: Rows, width: int, dtype: str = "f32") -> Value:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return Value(f"{name}#{count + 1}" if count else name, rows, width, dtype)


def _same_shape(x: Value, y: Value) -> None:
    if (x.rows, x.width) != (y.rows, y.width):
        raise ValueError(f"{x.name} and {y.name} have different shapes")


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "a scalar"
