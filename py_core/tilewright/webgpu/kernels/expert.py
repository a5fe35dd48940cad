"""Linear maps of chosen experts: the matvec kernels, with rows picked by ``experts: u32[T, used]``.

A "token" of the shared kernels is here a pair p = t * used + j: the j-th chosen expert of token t.
Each pair is a matvec of its own; nothing groups the tokens of one expert. Knows nothing of routing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...formats.quant import BY_NAME
from ..link import Binding
from .kernel import Capabilities, Kernel, Span
from .linear import DirectTuning, LinearStructure, Roles, roles
from .matvec import LanesTuning, Tuning, candidates, lanes, quad_default


@dataclass(frozen=True)
class ExpertStructure:
    """What an ``ExpertLinear`` computes with one shard of its weight; see ``graph/ops.py``."""

    quant: str
    experts: int
    """Experts of the layer."""
    expert_rows: int
    """N: rows of one expert in one tensor of the weight (gate and up together where ``gated``
    without ``gate_then_up``)."""
    columns: int
    """K."""
    tokens: int
    """Capacity for T."""
    used: int
    """Experts per token."""
    x: Span
    out: Span
    chosen: Span
    """Where ``experts: u32[T, used]`` lies."""
    per_expert_input: bool = False
    activation: str | None = None
    gated: bool = False
    gate_then_up: bool = False
    """All experts' gate rows come first, then all up rows."""
    norm: str | None = None
    """The norm of x, see ``LinearStructure``; only without ``per_expert_input``."""
    norm_weight: bool = True
    norm_bias: bool = False
    norm_epsilon: float = 0.0
    norm_offset: float = 0.0
    shard: tuple[int, int] | None = None
    """First row and rows of the weight that are bound; None: all. Not where ``gated``."""

    @property
    def outputs(self) -> int:
        """Columns written per pair."""
        halved = self.gated and not self.gate_then_up
        return self.expert_rows // 2 if halved else self.expert_rows


def supports(structure: ExpertStructure, capabilities: Capabilities) -> bool:
    """Return whether these kernels can compute ``structure``."""
    s = structure
    if s.quant not in BY_NAME or (s.gated and not s.gate_then_up and s.expert_rows % 2):
        return False
    if (s.norm is not None and s.per_expert_input) or (s.shard is not None and s.gated):
        return False
    storage = sum(b.access != "uniform" for b in _roles(s).bindings)
    return storage <= capabilities.storage_buffers


def naive(structure: ExpertStructure) -> Tuning:
    """Return the plain Tuning."""
    return DirectTuning()


def default(structure: ExpertStructure, capabilities: Capabilities) -> Tuning:
    """Return the Tuning to start from where nothing has been measured."""
    if capabilities.software:
        return quad_default(_linear(structure), structure.outputs, 1, capabilities)
    return LanesTuning(rows=2 if structure.gated else 4)


def space(structure: ExpertStructure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing, naive first."""
    found = candidates(_roles(structure), _linear(structure), capabilities, tiled=False)
    return list(dict.fromkeys([naive(structure), default(structure, capabilities), *found]))


def kernel(structure: ExpertStructure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel.

    Bindings: step, x, quants, [scales], [table], experts, [norm_weight], [norm_bias], out.
    """
    return lanes(_roles(structure), tuning, capabilities)


def _linear(s: ExpertStructure) -> LinearStructure:
    """One pair's map as a dense structure."""
    return LinearStructure(
        quant=s.quant,
        rows=2 * s.outputs if s.gated else s.outputs,
        columns=s.columns,
        tokens=s.tokens,
        x=s.x,
        out=s.out,
        activation=s.activation,
        gated=s.gated,
        norm=s.norm,
        norm_weight=s.norm_weight,
        norm_bias=s.norm_bias,
        norm_epsilon=s.norm_epsilon,
        norm_offset=s.norm_offset,
    )


def _roles(s: ExpertStructure) -> Roles:
    first, rows = s.shard or (0, s.experts * s.expert_rows)
    return roles(
        _linear(s),
        "tokens_expert",
        {
            "SHARD_FIRST": first,
            "SHARD_ROWS": rows,
            "USED": s.used,
            "EXPERTS": s.experts,
            "EXPERT_ROWS": s.expert_rows,
            "PER_EXPERT_INPUT": s.per_expert_input,
            "EXPERTS_STRIDE": s.chosen.stride,
            "EXPERTS_START": s.chosen.start,
        },
        (Binding("experts", "array<u32>"),),
        up_rows=s.experts * s.expert_rows if s.gate_then_up else s.outputs,
        pairs=s.tokens * s.used,
    )
