"""Weight times few tokens (decode): the direct kernel, and lanes that share a row.

The ``lanes`` family follows what MLX, ONNX Runtime and llama.cpp converge to: a few threads per
row, several rows per lane group, one reduction at the end. On CPU adapters barriers cost more than
they save, so the default there is the direct kernel. Knows nothing of graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..link import link
from .kernel import Capabilities, Kernel, ceil_div, spread
from .linear import DirectTuning, LinearStructure, Roles, dense_roles, direct, refusal

__all__ = [
    "DirectTuning",
    "LanesTuning",
    "LinearStructure",
    "Tuning",
    "default",
    "kernel",
    "lanes",
    "naive",
    "space",
    "supports",
]

MAX_TOKENS = 8


@dataclass(frozen=True)
class LanesTuning:
    """Several threads per row."""

    workgroup: int = 64
    lanes: int = 16
    """Threads that share a row."""
    rows: int = 4
    """Outputs per lane group."""
    tile: int = 1
    """Tokens per workgroup."""
    units: int = 1
    """Consecutive units of eight columns per lane and step."""
    activations: str = "global"
    """``global``, or ``workgroup``: normalised once into workgroup memory."""
    reduction: str = "workgroup"
    """``workgroup`` memory with one barrier, or ``subgroup`` shuffles."""


Tuning = DirectTuning | LanesTuning


def supports(structure: LinearStructure, capabilities: Capabilities) -> bool:
    """Return whether these kernels can compute ``structure``."""
    return refusal(structure, capabilities) is None


def naive(structure: LinearStructure) -> Tuning:
    """Return the plain Tuning: no workgroup memory, no barrier, one token per thread."""
    return DirectTuning()


def default(structure: LinearStructure, capabilities: Capabilities) -> Tuning:
    """Return the Tuning to start from where nothing has been measured."""
    many = structure.tokens > 1
    if capabilities.software:
        return DirectTuning(tile=4 if many else 1, shared_statistics=structure.norm is not None)
    tile = 1 << (min(structure.tokens, 4) - 1).bit_length()
    return LanesTuning(tile=tile, rows=2 if structure.gated or many else 4)


def space(structure: LinearStructure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing, naive first, then the default."""
    found = candidates(dense_roles(structure), structure, capabilities)
    return list(dict.fromkeys([naive(structure), default(structure, capabilities), *found]))


def candidates(
    parts: Roles, structure: LinearStructure, capabilities: Capabilities, tiled: bool = True
) -> list[Tuning]:
    """Return the candidates of a map; ``tiled``: a workgroup may handle several tokens."""
    found: list[Tuning] = [DirectTuning()]
    many = tiled and parts.tokens > 1
    for workgroup in (32, 64, 128):
        for tile in (1, 4) if many else (1,):
            found.append(DirectTuning(workgroup, tile, structure.norm is not None))
    tile = 1 << (min(parts.tokens, 4) - 1).bit_length() if many else 1
    for workgroup in (64, 128, 256):
        for lanes in (8, 16, 32, 64):
            for rows in (1, 2, 4, 8):
                for units in (1, 4):
                    for activations in ("global", "workgroup"):
                        for reduction in ("workgroup", "subgroup"):
                            tuning = LanesTuning(
                                workgroup, lanes, rows, tile, units, activations, reduction
                            )
                            if _worth(tuning, parts, structure, capabilities):
                                found.append(tuning)
    return list(dict.fromkeys(found))


def _worth(
    tuning: LanesTuning, parts: Roles, structure: LinearStructure, capabilities: Capabilities
) -> bool:
    """Pruning: limits first, then what cannot win (state-of-the-art.md, 5.1)."""
    sums = tuning.rows * tuning.tile * (2 if structure.gated else 1)
    units = ceil_div(structure.columns, 32) * 4
    memory = 4 * tuning.workgroup  # statistics
    if tuning.reduction == "workgroup":
        memory += 4 * tuning.workgroup * sums
    else:
        memory += 4 * tuning.workgroup // tuning.lanes * sums
        if not capabilities.subgroups or tuning.lanes > capabilities.subgroup_min:
            return False
    if tuning.activations == "workgroup":
        memory += 32 * units * tuning.tile
    if memory > capabilities.workgroup_memory or tuning.workgroup > capabilities.max_invocations:
        return False
    per_workgroup = tuning.workgroup // tuning.lanes * tuning.rows
    if capabilities.software and (tuning.workgroup > 64 or tuning.lanes > 8 or tuning.units > 1):
        return False
    return (
        sums <= 16
        and tuning.rows in (2, 4)
        and (tuning.workgroup == 64 or (tuning.rows == 4 and tuning.lanes >= 16))
        and (tuning.workgroup < 256 or tuning.lanes == 32)
        and tuning.lanes * tuning.units <= units
        and (tuning.activations == "global" or (structure.norm is not None and tuning.units == 1))
        and (ceil_div(parts.outputs, per_workgroup) >= 32 or tuning.lanes >= 32)
    )


def kernel(structure: LinearStructure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel of a dense linear map."""
    return lanes(dense_roles(structure), tuning, capabilities)


def lanes(parts: Roles, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel of any linear map whose roles are ``parts``."""
    if isinstance(tuning, DirectTuning):
        return direct(parts, tuning, capabilities)
    shared = tuning.activations == "workgroup"
    source = link(
        (
            "ops/matvec.wgsl",
            *parts.files,
            "linear/statistics_workgroup.wgsl",
            "linear/stage_workgroup.wgsl" if shared else "linear/stage_none.wgsl",
            f"linear/reduce_{tuning.reduction}.wgsl",
        ),
        constants={
            "WORKGROUP": tuning.workgroup,
            "LANES": tuning.lanes,
            "ROWS": tuning.rows,
            "TILE": tuning.tile,
            "STEP_UNITS": tuning.units,
            **parts.constants,
        },
        bindings=parts.bindings,
        enables=("subgroups",) if tuning.reduction == "subgroup" else (),
    )
    per_workgroup = tuning.workgroup // tuning.lanes * tuning.rows
    groups = ceil_div(parts.outputs, per_workgroup) * ceil_div(parts.tokens, tuning.tile)
    return Kernel(
        label=f"matvec {parts.label}",
        source=source,
        bindings=parts.bindings,
        grid=spread(groups, capabilities),
        cost=parts.cost,
    )
