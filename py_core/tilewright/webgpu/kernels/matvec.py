"""Weight times few tokens (decode): one thread per row or four rows, or lanes that share a row.

The ``lanes`` family follows what MLX, ONNX Runtime and llama.cpp converge to: a few threads per
row, several rows per lane group, one reduction at the end. On CPU adapters barriers cost more than
they save, reading activations costs most, and indexed arrays are slow, so the default there is the
``quad`` kernel: four rows and up to four tokens per thread, in named vectors. Knows nothing of
graphs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from ...errors import KernelError
from ..link import link
from . import rounded, swap, wide
from .kernel import Capabilities, Kernel, ceil_div, spread
from .linear import (
    DirectTuning,
    LinearStructure,
    Roles,
    dense_roles,
    direct,
    prologue_files,
    refusal,
)
from .rounded import RoundedLanesTuning
from .swap import SwapTuning
from .wide import WideTuning

__all__ = [
    "DirectTuning",
    "LanesTuning",
    "LinearStructure",
    "QuadTuning",
    "RoundedLanesTuning",
    "SwapTuning",
    "Tuning",
    "WideTuning",
    "default",
    "kernel",
    "lanes",
    "naive",
    "quad",
    "quad_default",
    "space",
    "supports",
]

MAX_TOKENS = 8


@dataclass(frozen=True)
class QuadTuning:
    """One thread per four weight rows, for CPU adapters."""

    workgroup: int = 32
    tile: int = 1
    """Tokens per thread: 1 or 4."""
    activations: str = "global"
    """``global``, or ``workgroup``: normalised once into workgroup memory."""


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


Tuning = DirectTuning | QuadTuning | LanesTuning | WideTuning | SwapTuning | RoundedLanesTuning


def supports(structure: LinearStructure, capabilities: Capabilities) -> bool:
    """Return whether these kernels can compute ``structure``."""
    return refusal(structure, capabilities) is None


def naive(structure: LinearStructure) -> Tuning:
    """Return the plain Tuning: no workgroup memory, no barrier, one token per thread."""
    return DirectTuning()


def default(structure: LinearStructure, capabilities: Capabilities) -> Tuning:
    """Return the Tuning to start from where nothing has been measured."""
    if structure.arithmetic != "f32":
        return rounded.default(structure, capabilities)
    tile = 1 << (min(structure.tokens, 4) - 1).bit_length()
    if capabilities.software:
        wider = swap.default(structure, capabilities) or wide.default(structure, capabilities)
        return wider or quad_default(structure, structure.outputs, structure.tokens, capabilities)
    rows = 2 if structure.gated or structure.tokens > 1 else 4
    found = LanesTuning(rows=rows, tile=tile)
    staged = replace(found, activations="workgroup")
    if structure.delta is None or _memory(staged, structure) > capabilities.workgroup_memory:
        return found
    return staged


def quad_default(
    structure: LinearStructure, outputs: int, tokens: int, capabilities: Capabilities
) -> QuadTuning:
    """Return the quad Tuning that was best on llvmpipe and SwiftShader."""
    tile = 4 if tokens > 1 else 1
    staged = 32 * (ceil_div(structure.columns, 32) * 4) * tile + 256
    shared = structure.has_prologue and staged <= capabilities.workgroup_memory
    # few outputs: small workgroups, so that every processor gets some
    workgroup = 16 if outputs < 1024 else 32
    return QuadTuning(workgroup, tile, "workgroup" if shared else "global")


def space(structure: LinearStructure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing, naive first, then the default."""
    if structure.arithmetic != "f32":
        return list(rounded.space(structure, capabilities))
    first = [naive(structure), default(structure, capabilities)]
    swapping = swap.space(structure, capabilities)
    if swapping:  # always faster than anything else
        return list(dict.fromkeys([*first, *swapping]))
    found = candidates(dense_roles(structure), structure, capabilities)
    wider = wide.space(structure, capabilities)
    if wider:  # always faster than a quad kernel of any size
        found = [tuning for tuning in found if not isinstance(tuning, QuadTuning)]
        found.append(quad_default(structure, structure.outputs, structure.tokens, capabilities))
    found += wider
    return list(dict.fromkeys([*first, *found]))


def candidates(
    parts: Roles, structure: LinearStructure, capabilities: Capabilities, tiled: bool = True
) -> list[Tuning]:
    """Return the candidates of a map; ``tiled``: a workgroup may handle several tokens."""
    many = tiled and parts.tokens > 1
    tile = 1 << (min(parts.tokens, 4) - 1).bit_length() if many else 1
    found: list[Tuning] = [DirectTuning(64, 4 if many else 1, structure.has_prologue)]
    best = quad_default(structure, parts.outputs, 2 if many else 1, capabilities)
    places = ("global", "workgroup") if best.activations == "workgroup" else ("global",)
    workgroups = (8, 16, 32, 64) if capabilities.software else (64,)
    found += [QuadTuning(size, best.tile, place) for size in workgroups for place in places]
    if capabilities.software:
        return found
    choices = itertools.product(
        (64, 128, 256),
        (8, 16, 32, 64),
        (2, 4),
        (1, 4),
        ("global", "workgroup"),
        ("workgroup", "subgroup"),
    )
    for workgroup, lanes_per_row, rows, units, activations, reduction in choices:
        tuning = LanesTuning(workgroup, lanes_per_row, rows, tile, units, activations, reduction)
        if _worth(tuning, parts, structure, capabilities):
            found.append(tuning)
    return list(dict.fromkeys(found))


def _sums(tuning: LanesTuning, structure: LinearStructure) -> int:
    return tuning.rows * tuning.tile * (2 if structure.gated else 1)


def _memory(tuning: LanesTuning, structure: LinearStructure) -> int:
    """Bytes of workgroup memory: statistics, sums, activations."""
    threads = tuning.workgroup
    summed = threads if tuning.reduction == "workgroup" else threads // tuning.lanes
    nbytes = 4 * threads + 4 * summed * _sums(tuning, structure)
    if tuning.activations == "workgroup":
        nbytes += 32 * (ceil_div(structure.columns, 32) * 4) * tuning.tile
    return nbytes


def _worth(
    tuning: LanesTuning, parts: Roles, structure: LinearStructure, capabilities: Capabilities
) -> bool:
    """Pruning: limits first, then what cannot win (state of the art, measured elsewhere)."""
    sums = _sums(tuning, structure)
    units = ceil_div(structure.columns, 32) * 4
    usable = capabilities.subgroup_min if capabilities.subgroups else 0
    if tuning.reduction == "subgroup" and tuning.lanes > usable:
        return False
    if tuning.workgroup > capabilities.max_invocations:
        return False
    if _memory(tuning, structure) > capabilities.workgroup_memory:
        return False
    shared = tuning.activations == "workgroup"
    plain = tuning.workgroup == 64 and tuning.units == 1
    shuffles = tuning.lanes <= capabilities.subgroup_min
    if tuning.reduction == "workgroup" and shuffles and not (plain and tuning.lanes == 16):
        return False
    if structure.has_prologue and not shared and not (plain and sums >= 4):
        return False  # every row group would normalise again
    per_workgroup = tuning.workgroup // tuning.lanes * tuning.rows
    return (
        sums <= 16
        and (tuning.workgroup == 64 or (tuning.rows == 4 and tuning.lanes >= 16))
        and (tuning.workgroup < 256 or tuning.lanes == 32)
        and tuning.lanes * tuning.units <= units
        and (not shared or (structure.has_prologue and tuning.units == 1))
        and (ceil_div(parts.outputs, per_workgroup) >= 32 or tuning.lanes >= 32)
    )


def kernel(structure: LinearStructure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel of a dense linear map; KernelError where ``tuning`` is for another kind."""
    parts = dense_roles(structure)
    if structure.arithmetic != "f32" and isinstance(tuning, DirectTuning | RoundedLanesTuning):
        return rounded.kernel(parts, structure, tuning, capabilities)
    if structure.arithmetic != "f32":
        raise KernelError(f"{tuning} does not compute in {structure.arithmetic}.")
    if isinstance(tuning, WideTuning):
        return wide.kernel(parts, structure, tuning, capabilities)
    if isinstance(tuning, SwapTuning):
        return swap.kernel(parts, structure, tuning, capabilities)
    return lanes(parts, tuning, capabilities)


def lanes(parts: Roles, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel of any linear map whose roles are ``parts``, in f32.

    KernelError for Tunings that only dense maps have.
    """
    if isinstance(tuning, WideTuning | SwapTuning | RoundedLanesTuning):
        raise KernelError(f"{tuning} is for dense maps only.")
    if isinstance(tuning, DirectTuning):
        return direct(parts, tuning, capabilities)
    if isinstance(tuning, QuadTuning):
        return quad(parts, tuning, capabilities)
    shared = tuning.activations == "workgroup"
    source = link(
        (
            "ops/matvec.wgsl",
            *parts.files,
            *prologue_files("workgroup", staged=shared),
            f"linear/reduce_{tuning.reduction}.wgsl",
            "linear/results.wgsl",
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


def quad(parts: Roles, tuning: QuadTuning, capabilities: Capabilities) -> Kernel:
    """Return the kernel in which one thread computes four weight rows."""
    if tuning.tile not in (1, 4):
        raise KernelError(f"A quad kernel handles 1 or 4 tokens per thread, not {tuning.tile}.")
    shared = tuning.activations == "workgroup"
    source = link(
        (
            "ops/matvec_quad.wgsl",
            *parts.files,
            *prologue_files("workgroup", staged=shared),
        ),
        constants={"WORKGROUP": tuning.workgroup, "TILE": tuning.tile, **parts.constants},
        bindings=parts.bindings,
    )
    outputs = tuning.workgroup * (2 if parts.constants["GATED"] else 4)
    groups = ceil_div(parts.outputs, outputs) * ceil_div(parts.tokens, tuning.tile)
    return Kernel(
        label=f"quad {parts.label}",
        source=source,
        bindings=parts.bindings,
        grid=spread(groups, capabilities),
        cost=parts.cost,
    )
