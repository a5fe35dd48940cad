"""The op vocabulary: what a transformer is made of, as frozen dataclasses.

A graph is a list of these in execution order. Each op names its input values, its output value and
its constants; nothing here says how it is computed. Two lowerings read it (``webgpu/lower.py``,
``wasm/lower.py``), and ``tests/reference`` executes it with numpy.

Activations are ``f32[T, width]`` (T tokens of a step) or ``f32[R, width]`` (R rows whose logits
are wanted). ``Value.view`` gives a range of columns, so that a fused QKV needs no copy.
The per-step inputs ``positions``, ``slots`` (which sequence a token belongs to), the block table
and the KV cache are implied by the ops that need them: they belong to the engine's state.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

from ..formats.quant import QuantType


class Rows(Enum):
    """The symbolic length of an activation's first axis."""

    TOKENS = "T"
    """Tokens of this step."""
    OUTPUTS = "R"
    """Tokens of this step whose logits are wanted."""
    SEQUENCES = "B"
    """Sequences of this step (pooled embeddings)."""


@dataclass(frozen=True, eq=False)
class Value:
    """An activation ``dtype[rows, width]``, or a view of some columns of one."""

    name: str
    rows: Rows
    width: int
    dtype: str = "f32"
    """``f32`` or ``u32``."""
    base: Value | None = None
    """The value that this one is a view of."""
    start: int = 0
    """First column inside ``base``."""

    def view(self, start: int, width: int) -> Value:
        """Return columns ``start .. start+width`` without copying."""
        if start < 0 or width <= 0 or start + width > self.width:
            raise ValueError(f"columns {start}..{start + width} are outside {self.name}")
        base = self.base or self
        name = f"{base.name}[{self.start + start}:{self.start + start + width}]"
        return Value(name, self.rows, width, self.dtype, base, self.start + start)

    @property
    def storage(self) -> Value:
        """The value that owns the memory."""
        return self.base or self


@dataclass(frozen=True)
class Weight:
    """One or several tensors of the file, stacked along their rows: ``[sum of rows, columns]``.

    All parts have the same columns and the same format. A vector (norm weight, bias) has one row;
    several vectors are concatenated into one row (the stacked bias of a fused QKV).
    """

    tensors: tuple[str, ...]
    rows: int
    columns: int
    quant: QuantType

    @property
    def name(self) -> str:
        """The first tensor's name, with the count of the others."""
        more = f"+{len(self.tensors) - 1}" if len(self.tensors) > 1 else ""
        return self.tensors[0] + more


@dataclass(frozen=True)
class RopeTable:
    """Rotary embedding with every variant (base, scaling factors, YaRN, long) already resolved.

    The angle of pair ``i`` at position ``p`` is ``p * frequencies[i]``; both cosine and sine are
    multiplied by ``magnitude``. Kernels read cosines and sines from a table that the host computes
    in double precision, because WGSL's ``sin`` and ``cos`` are only good to about 2**-11.
    """

    frequencies: tuple[float, ...]
    magnitude: float = 1.0
    interleaved: bool = False
    """True: pairs are (2i, 2i+1), GGML's NORM. False: (i, i + n/2), GGML's NEOX."""

    @property
    def dimensions(self) -> int:
        """How many leading elements of a head are rotated."""
        return 2 * len(self.frequencies)


@dataclass(frozen=True)
class NormSpec:
    """Normalisation over groups of ``group`` consecutive columns."""

    weight: Weight | None
    bias: Weight | None
    epsilon: float
    group: int
    """Columns per mean; the whole width, or the head size. ``weight`` is indexed by the column
    modulo its length."""
    center: bool = False
    """False: RMS norm. True: layer norm (mean subtracted)."""
    weight_offset: float = 0.0
    """Added to every element of ``weight``: 1.0 where a file stores gemma's weights minus one."""


_FIELD_NAMES: dict[type, tuple[str, ...]] = {}


def field_names(op: Op) -> tuple[str, ...]:
    """Return the names of an op's fields; kept per class, because passes ask thousands of times."""
    kind = type(op)
    if kind not in _FIELD_NAMES:
        _FIELD_NAMES[kind] = tuple(field.name for field in fields(op))
    return _FIELD_NAMES[kind]


@dataclass(frozen=True)
class Op:
    """Base of all ops. Fields of type Value named ``out`` are outputs, the others inputs."""

    def inputs(self) -> tuple[Value, ...]:
        """Values that are read."""
        found = [getattr(self, name) for name in field_names(self) if not name.startswith("out")]
        return tuple([value for value in found if isinstance(value, Value)])

    def outputs(self) -> tuple[Value, ...]:
        """Values that are written."""
        found = [getattr(self, name) for name in field_names(self) if name.startswith("out")]
        return tuple([value for value in found if isinstance(value, Value)])

    def weights(self) -> tuple[Weight, ...]:
        """Weights that are read, those of a NormSpec included."""
        found: list[Weight] = []
        for name in field_names(self):
            value = getattr(self, name)
            if isinstance(value, Weight):
                found.append(value)
            elif isinstance(value, NormSpec):
                found.extend(w for w in (value.weight, value.bias) if w is not None)
        return tuple(found)


@dataclass(frozen=True)
class Embed(Op):
    """out[t] = scale * table[index[t]]."""

    table: Weight
    out: Value
    scale: float = 1.0
    index: str = "ids"
    """``ids`` (token ids) or ``positions`` (learned position embeddings)."""


@dataclass(frozen=True)
class Norm(Op):
    """out = norm(x) * weight + bias, plus ``residual`` where one is given."""

    x: Value
    norm: NormSpec
    out: Value
    residual: Value | None = None
    """Added after the norm (post-norm architectures); None: nothing is added."""


@dataclass(frozen=True)
class Linear(Op):
    """out[t, n] = epilogue(sum_k prologue(x)[t, k] * weight[n, k] + bias[n]).

    Model files emit it plain; ``graph/fuse.py`` folds a sum and a norm into the prologue and an
    activation, a gate or a residual into the epilogue.
    """

    x: Value
    weight: Weight
    out: Value
    bias: Weight | None = None
    norm: NormSpec | None = None
    """Prologue: the norm of whole rows of x (group == x.width)."""
    activation: str | None = None
    """Epilogue: ``silu``, ``gelu`` (tanh form), ``gelu_erf``, ``relu``, ``tanh``, ``sigmoid``."""
    gated: bool = False
    """Epilogue: weight rows are [gate; up], out = activation(gate) * up has half the rows."""
    scale: float = 1.0
    """Factor on the product (with its bias), before the residual."""
    residual: Value | None = None
    """Epilogue: added last."""
    softcap: float = 0.0
    """Epilogue: cap * tanh(y / cap) where cap > 0."""
    row_gate: Value | None = None
    """Epilogue: f32[T, 1], a factor sigmoid(row_gate[t]) on the row before the residual."""
    delta: Value | None = None
    """Prologue, before ``norm``: x + post_norm(delta) takes the place of x."""
    post_norm: NormSpec | None = None
    """Given with ``delta``: an RMS norm of its whole rows."""
    out_x: Value | None = None
    """With ``delta``: where the sum is left for later readers."""


@dataclass(frozen=True)
class Rope(Op):
    """Rotate each head of ``x: f32[T, heads * head_size]`` by the token's position."""

    x: Value
    table: RopeTable
    heads: int
    head_size: int
    out: Value


@dataclass(frozen=True)
class KvWrite(Op):
    """Store this step's keys and values in the cache of ``layer``."""

    key: Value
    value: Value
    layer: int
    kv_heads: int


@dataclass(frozen=True)
class QkvPrepare(Op):
    """Fused: optional norms, rope of q and k, and KvWrite, in one dispatch.

    Reads q, k, v (usually views of one fused projection), writes the rotated q. The norms are of
    single heads or of whole rows, without bias; a value head may have another size than a key head.
    """

    q: Value
    k: Value
    v: Value
    out: Value
    layer: int
    heads: int
    kv_heads: int
    head_size: int
    table: RopeTable | None
    q_norm: NormSpec | None = None
    k_norm: NormSpec | None = None


@dataclass(frozen=True)
class Attention(Op):
    """Softmax(q k^T * scale) v over the keys that the token may see.

    ``q: f32[T, heads * head_size]``; keys and values come from the cache of ``layer``, where this
    step's own have already been written. out: ``f32[T, heads * value_size]``.
    """

    q: Value
    out: Value
    layer: int
    heads: int
    kv_heads: int
    head_size: int
    value_size: int
    scale: float
    causal: bool = True
    window: int = 0
    """Keys at positions p - window < k <= p are seen; 0: all."""
    softcap: float = 0.0
    sinks: Weight | None = None
    """f32[heads]: an extra logit per head that takes part in the denominator only."""
    alibi: bool = False


@dataclass(frozen=True)
class Add(Op):
    """out = x + y, y of the same width."""

    x: Value
    y: Value
    out: Value
    scale: float = 1.0
    """Factor on y (residual multiplier)."""


@dataclass(frozen=True)
class AddRow(Op):
    """out[t] = x[t] + row; row is one row of a table (token type embedding)."""

    x: Value
    row: Weight
    out: Value


@dataclass(frozen=True)
class Scale(Op):
    """out = factor * x."""

    x: Value
    factor: float
    out: Value


@dataclass(frozen=True)
class Activate(Op):
    """out = activation(x), or activation(x) * up where ``up`` is given."""

    x: Value
    activation: str
    out: Value
    up: Value | None = None


@dataclass(frozen=True)
class Route(Op):
    """Choose ``used`` experts per token from router logits ``f32[T, experts]``.

    out_experts: u32[T, used] in order of falling score, out_weights: f32[T, used].
    """

    logits: Value
    used: int
    gating: str
    """``softmax`` (over all, then top), ``softmax_after_top`` (over the chosen), ``sigmoid``."""
    normalise: bool
    scale: float
    out_experts: Value
    out_weights: Value


@dataclass(frozen=True)
class ExpertLinear(Op):
    """out[t, j, n] = weight[experts[t, j], n, :] . x[t, (j), :].

    ``weight`` has experts * N rows. x is f32[T, K] (shared by the chosen experts) or
    f32[T, used * K]. out: f32[T, used * N] (half of it where gated, see Linear).
    """

    x: Value
    weight: Weight
    experts: Value
    expert_rows: int
    used: int
    out: Value
    per_expert_input: bool = False
    norm: NormSpec | None = None
    """Prologue: the norm of whole rows of x, only where the experts share it."""
    activation: str | None = None
    gated: bool = False
    """weight rows of each expert are [gate; up]; only where gate and up are one tensor."""
    gate_then_up: bool = False
    """With ``gated``: weight is a gate tensor and an up tensor stacked, all experts' gate rows
    first; the up row that belongs to gate row r is r + experts * N (expert_rows is N, the rows of
    one expert in one tensor)."""


@dataclass(frozen=True)
class Combine(Op):
    """out[t] = sum_j weights[t, j] * y[t, j] (+ residual[t])."""

    y: Value
    weights_of: Value
    used: int
    out: Value
    residual: Value | None = None


@dataclass(frozen=True)
class GateRows(Op):
    """out[t] = x[t] * sigmoid(gate[t, 0]) (+ residual[t]) (qwen2moe's shared expert)."""

    x: Value
    gate: Value
    out: Value
    residual: Value | None = None


@dataclass(frozen=True)
class Adapters(Op):
    """The adapter of each token and its strength: inputs of a step, written by the runner.

    out_which: u32[T, 1]; out_strength: f32[T, 1], 0 where a token has none.
    """

    out_which: Value
    out_strength: Value


@dataclass(frozen=True)
class TakeOutputs(Op):
    """out f32[R, width] = the rows of x whose logits are wanted (indices are a step input)."""

    x: Value
    out: Value


@dataclass(frozen=True)
class Pool(Op):
    """out f32[B, width] = mean, first or last token of each sequence of the step, or L2-normalised.

    Encoders process whole sequences in one step; ``slots`` tells which token belongs to which.
    """

    x: Value
    kind: str
    """``mean``, ``cls`` or ``last``."""
    normalise: bool
    out: Value


@dataclass(frozen=True)
class Graph:
    """A model's computation for one step, in execution order."""

    ops: tuple[Op, ...]
    vocabulary: int
    layers: int
    """How many KV cache layers there are."""
    kv_width: tuple[tuple[int, int], ...]
    """Per layer: floats per token of the keys and of the values (kv_heads * head size)."""
    logits: Value | None
    """f32[R, V]; None for encoders."""
    hidden: Value | None = None
    """f32[T, D]: token embeddings of an encoder, or the last norm's output."""
    pooled: Value | None = None
    """f32[B, D]: pooled embeddings of an encoder."""
    causal: bool = True
