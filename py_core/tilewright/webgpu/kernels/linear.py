"""What matvec, matmul and expert kernels share: the Structure, the bindings, the role files.

A linear map is out = epilogue(weight . prologue(x)); ``graph/ops.py`` gives the meaning of each
field. The kernels differ only in how the work is laid out (``matvec.py``, ``matmul.py``); which
rows of x and of the weight belong together is a role (dense, or a chosen expert's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import KernelError
from ...formats.quant import BY_NAME
from ..link import Binding, Constant, link
from . import header
from .header import activation
from .kernel import EXACT, Capabilities, Cost, Kernel, Span, ceil_div, spread
from .packing import Packing, packing

_TOKENS_FROM = ("tokens", "outputs", "sequences")

Arithmetic = Literal["f32", "int8", "f16"]
"""What products are made of: activations as they are, or rounded (``rounded.py``)."""
ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)
_ROUNDED = 5e-3


@dataclass(frozen=True)
class LinearStructure:
    """What one shard's linear map computes: out[t, n] for t < step.<tokens_from>."""

    quant: str
    rows: int
    """N: rows of this shard."""
    columns: int
    """K."""
    tokens: int
    """Capacity for T."""
    x: Span
    out: Span
    """Its start includes the shard's row offset."""
    bias: bool = False
    norm: str | None = None
    """``rms`` or ``layer``: a norm of the whole row of x in the prologue."""
    norm_bias: bool = False
    norm_epsilon: float = 0.0
    activation: str | None = None
    gated: bool = False
    """Weight rows are [gate; up]; out has half of them."""
    scale: float = 1.0
    residual: Span | None = None
    softcap: float = 0.0
    row_gate: Span | None = None
    """Where a factor's logit lies, one per row; applied before the residual."""
    tokens_from: str = "tokens"
    norm_weight: bool = True
    norm_offset: float = 0.0
    """Added to every norm weight (gemma stores them minus one)."""
    delta: Span | None = None
    """Prologue, before the norm: x + the RMS norm of delta."""
    post_epsilon: float = 0.0
    post_offset: float = 0.0
    """Added to every weight of delta's norm."""
    out_x: Span | None = None
    """Where the sum is left."""
    arithmetic: Arithmetic = "f32"

    @property
    def tolerance(self) -> float:
        """How far Tunings may be from naive, as a share of the largest magnitude.

        In int8, with a prologue, a value at the border of two integers may be rounded either way:
        by the last bit of its row's norm. One step of one column of some hundred is far below this,
        and so are eight roundings to f16.
        """
        exact = self.arithmetic == "int8" and not self.has_prologue
        return EXACT if exact or self.arithmetic == "f32" else _ROUNDED

    @property
    def outputs(self) -> int:
        """Columns that are written."""
        return self.rows // 2 if self.gated else self.rows

    @property
    def has_prologue(self) -> bool:
        """Whether anything is computed with x before it is multiplied."""
        return self.norm is not None or self.delta is not None


@dataclass(frozen=True)
class DirectTuning:
    """One thread per output; no barriers but for the norm's statistics."""

    workgroup: int = 64
    tile: int = 1
    """Tokens per thread: 1 or 4."""
    shared_statistics: bool = False
    """A norm's statistics are computed by the whole workgroup (barriers) or by each thread."""


@dataclass(frozen=True)
class Roles:
    """The files, constants and bindings of one linear map, whatever its work layout."""

    files: tuple[str, ...]
    constants: dict[str, Constant]
    bindings: tuple[Binding, ...]
    vector: bool
    """x is bound as array<vec4f>."""
    outputs: int
    tokens: int
    cost: Cost
    label: str


def refusal(structure: LinearStructure, capabilities: Capabilities) -> str | None:
    """Return why no kernel can compute ``structure``, or None."""
    if structure.quant not in BY_NAME:
        return f"{structure.quant} is not a weight format"
    if structure.gated and structure.rows % 2:
        return "a gated weight has an odd number of rows"
    storage = sum(b.access != "uniform" for b in dense_roles(structure).bindings)
    if storage > capabilities.storage_buffers:
        return f"it needs {storage} storage bindings, more than {capabilities.storage_buffers}"
    return None


def dense_roles(s: LinearStructure) -> Roles:
    """Return what every kernel of the dense ``s`` is linked from."""
    constants: dict[str, Constant] = {"TOKENS_FROM": _TOKENS_FROM.index(s.tokens_from)}
    return roles(s, "tokens_dense", constants, (), up_rows=s.rows // 2, pairs=s.tokens)


def roles(
    s: LinearStructure,
    tokens_role: str,
    more: dict[str, Constant],
    more_bindings: tuple[Binding, ...],
    *,
    up_rows: int,
    pairs: int,
) -> Roles:
    """Return the parts of a linear map whose rows are chosen by the file ``tokens_role``.

    ``pairs`` is the capacity of "tokens" in the sense of that file; ``up_rows`` the distance of an
    up row from its gate row.
    """
    form = packing(BY_NAME[s.quant])
    ragged = s.columns % 8 != 0
    terms = [s.x] if s.delta is None else [s.x, s.delta]
    vector = not (ragged or any(term.stride % 4 or term.start % 4 for term in terms))
    units = ceil_div(s.columns, form.group) * form.group // 8
    constants: dict[str, Constant] = {
        "TOKENS": pairs,
        "COLUMNS": s.columns,
        "UNITS": units,
        "RAGGED": units * 8 != s.columns,
        "OUTPUTS": s.outputs,
        "X_STRIDE": s.x.stride,
        "X_START": s.x.start,
        "OUT_STRIDE": s.out.stride,
        "OUT_START": s.out.start,
        "GATED": s.gated,
        "UP_ROWS": up_rows,
        "ACTIVATION": activation(s.activation),
        "SCALE": s.scale,
        "SOFTCAP": s.softcap,
        **more,
        **form.constants(s.columns),
    }
    files = [
        "lib/step.wgsl",
        *form.files,
        f"linear/{tokens_role}.wgsl",
        "linear/x_vec4.wgsl" if vector else "linear/x_scalar.wgsl",
        "lib/activation.wgsl",
        "linear/bias.wgsl" if s.bias else "linear/bias_none.wgsl",
        "linear/row_gate.wgsl" if s.row_gate else "linear/row_gate_none.wgsl",
        "lib/residual.wgsl" if s.residual else "lib/residual_none.wgsl",
        "linear/epilogue.wgsl",
    ]
    constants["NORM_EPSILON"] = s.norm_epsilon
    bindings = [
        Binding("step", "Step", "uniform"),
        Binding("x", "array<vec4f>" if vector else "array<f32>"),
        *weight_bindings(form),
        *more_bindings,
    ]
    if s.bias:
        bindings.append(Binding("bias", "array<f32>"))
    if s.norm is None:
        files.append("linear/norm_none.wgsl")
    else:
        constants["CENTER"] = s.norm == "layer"
        constants["NORM_OFFSET"] = s.norm_offset
        files.append("linear/norm.wgsl")
        for name, present in (("norm_weight", s.norm_weight), ("norm_bias", s.norm_bias)):
            files.append(f"linear/{name}.wgsl" if present else f"linear/{name}_none.wgsl")
            if present:
                bindings.append(Binding(name, "array<f32>"))
    if s.delta is None:
        files.append("linear/sum_none.wgsl")
    else:
        constants |= {"POST_EPSILON": s.post_epsilon, "POST_OFFSET": s.post_offset}
        constants |= header.span("DELTA", s.delta)
        files += ["linear/sum.wgsl", f"linear/delta_{'vec4' if vector else 'scalar'}.wgsl"]
        bindings.append(Binding("delta", "array<vec4f>" if vector else "array<f32>"))
        bindings.append(header.read("post_weight"))
    if s.row_gate is not None:
        constants |= header.span("ROW_GATE", s.row_gate)
        bindings.append(header.read("row_gate"))
    if s.residual is not None:
        constants["RESIDUAL_STRIDE"] = s.residual.stride
        constants["RESIDUAL_START"] = s.residual.start
        bindings.append(Binding("residual", "array<f32>"))
    bindings.append(header.write("out"))
    if s.out_x is None:
        files.append("linear/sum_out_none.wgsl")
    else:
        constants |= header.span("OUT_X", s.out_x)
        files.append("linear/sum_out.wgsl")
        bindings.append(header.write("out_x"))
    words = form.quant_words(s.columns) + form.scale_words(s.columns)
    return Roles(
        files=tuple(files),
        constants=constants,
        bindings=tuple(bindings),
        vector=vector,
        outputs=s.outputs,
        tokens=pairs,
        cost=Cost(
            4 * (s.rows * words + s.tokens * (s.columns + s.outputs)),
            2 * s.rows * s.columns * pairs,
        ),
        label=f"{s.quant} {s.rows}x{s.columns} T{pairs}",
    )


def weight_bindings(form: Packing) -> tuple[Binding, ...]:
    """Return the bindings through which a weight of this format is read."""
    bindings = [Binding("quants", "array<u32>")]
    if form.has_scales:
        bindings.append(Binding("scales", "array<u32>"))
    if form.table is not None:
        bindings.append(Binding("table", "array<u32>"))
    return tuple(bindings)


def prologue_files(statistics: str, *, staged: bool) -> tuple[str, ...]:
    """Return the roles of a prologue: who computes statistics, and whether x is staged."""
    return (
        "linear/prologue.wgsl",
        "linear/statistics.wgsl",
        f"linear/statistics_{statistics}.wgsl",
        "linear/stage_workgroup.wgsl" if staged else "linear/stage_none.wgsl",
    )


def direct(parts: Roles, tuning: DirectTuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel in which one thread computes one output for ``tuning.tile`` tokens."""
    if tuning.tile not in (1, 4):
        raise KernelError(f"A direct kernel handles 1 or 4 tokens per thread, not {tuning.tile}.")
    statistics = "workgroup" if tuning.shared_statistics else "thread"
    source = link(
        (
            "ops/matvec_direct.wgsl",
            *parts.files,
            *prologue_files(statistics, staged=False),
        ),
        constants={"WORKGROUP": tuning.workgroup, "TILE": tuning.tile, **parts.constants},
        bindings=parts.bindings,
    )
    groups = ceil_div(parts.outputs, tuning.workgroup) * ceil_div(parts.tokens, tuning.tile)
    return Kernel(
        label=f"direct {parts.label}",
        source=source,
        bindings=parts.bindings,
        grid=spread(groups, capabilities),
        cost=parts.cost,
    )
