"""Linear maps in int8: activations are rounded, 32 columns to a scale, products are exact integers.

What is computed differs from f32 (by the rounding of the activations, as on the CPU path), so that
it is part of the Structure and the user's choice, never the tuner's. Some weight formats stay in
f32 (``arithmetic_for``). ``naive`` is a thread per output in scalar integers; the others multiply
four bytes at once (``dot4I8Packed``): lanes that share a row here, tiles in ``int8_tile.py``. No
kernel of this kind is made for CPU adapters, which have to take packed products apart.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from ...errors import KernelError
from ..link import Binding, link
from . import wide
from .kernel import Capabilities, Kernel, ceil_div, spread
from .linear import Arithmetic, DirectTuning, LinearStructure, Roles, prologue_files

FORMATS = {"Q4_0": ("nibbles", 8.0), "Q4_K": ("nibbles", 0.0), "Q8_0": ("bytes", 0.0)}
"""Weight formats with kernels: their file in ``shaders/quant/int8``, and the codes' offset."""
BLOCK = 32
"""Columns that share a scale, of weights and of activations."""


@dataclass(frozen=True)
class Int8LanesTuning:
    """Several threads per row."""

    workgroup: int = 64
    lanes: int = 16
    """Threads that share a row."""
    rows: int = 4
    """Outputs per lane group."""
    tile: int = 1
    """Tokens per workgroup."""
    activations: str = "workgroup"
    """``workgroup``: rounded once into workgroup memory; ``thread``: by each thread that multiplies
    them."""
    reduction: str = "workgroup"
    """``workgroup`` memory with one barrier, or ``subgroup`` shuffles."""


def arithmetic_for(quant: str, wanted: Arithmetic) -> Arithmetic:
    """Return the arithmetic of a map whose weight is of format ``quant``, where ``wanted`` is set.

    ``int8`` is there for Q4_0, Q4_K and Q8_0; maps of all other formats stay in f32.
    """
    return wanted if quant in FORMATS else "f32"


def default(
    structure: LinearStructure, capabilities: Capabilities
) -> DirectTuning | Int8LanesTuning:
    """Return the Tuning to start from where nothing has been measured."""
    tile = 1 << (min(structure.tokens, 4) - 1).bit_length()
    rows = 2 if structure.gated or structure.tokens > 1 else 4
    lanes = 16
    while lanes > 1 and lanes > ceil_div(structure.columns, BLOCK):
        lanes //= 2
    found = Int8LanesTuning(64, lanes, rows, tile)
    if capabilities.software:
        found = replace(found, workgroup=32, lanes=1, rows=1 if tile > 1 else rows)
    while not _has_room(found, structure, capabilities) and found.tile > 1:
        found = replace(found, tile=found.tile // 2)
    if not _has_room(found, structure, capabilities):
        found = replace(found, activations="thread")
    return found


def space(
    structure: LinearStructure, capabilities: Capabilities
) -> list[DirectTuning | Int8LanesTuning]:
    """Return the candidates worth timing for few tokens, naive first, then the default."""
    found: list[DirectTuning | Int8LanesTuning] = [
        DirectTuning(),
        default(structure, capabilities),
    ]
    if not capabilities.packed_dot:
        return found[:1]
    tile = 1 << (min(structure.tokens, 4) - 1).bit_length()
    if capabilities.software:
        for workgroup, rows in itertools.product((16, 32), (1, 2, 4)):
            tuning = Int8LanesTuning(workgroup, 1, rows, tile)
            if _has_room(tuning, structure, capabilities):
                found.append(tuning)
        return list(dict.fromkeys(found))
    choices = itertools.product(
        (64, 128), (4, 8, 16, 32), (2, 4), ("workgroup", "thread"), ("workgroup", "subgroup")
    )
    for workgroup, lanes, rows, activations, reduction in choices:
        tuning = Int8LanesTuning(workgroup, lanes, rows, tile, activations, reduction)
        if _worth(tuning, structure, capabilities):
            found.append(tuning)
    return list(dict.fromkeys(found))


def _sums(tuning: Int8LanesTuning, structure: LinearStructure) -> int:
    return tuning.rows * tuning.tile * (2 if structure.gated else 1)


def _has_room(
    tuning: Int8LanesTuning, structure: LinearStructure, capabilities: Capabilities
) -> bool:
    """Whether statistics, sums and rounded activations fit into workgroup memory."""
    threads = tuning.workgroup
    summed = threads if tuning.reduction == "workgroup" else threads // tuning.lanes
    nbytes = 4 * threads + 4 * summed * _sums(tuning, structure)
    if tuning.activations == "workgroup":
        nbytes += ceil_div(structure.columns, BLOCK) * (BLOCK + 8) * tuning.tile
    return nbytes <= capabilities.workgroup_memory


def _worth(tuning: Int8LanesTuning, structure: LinearStructure, capabilities: Capabilities) -> bool:
    """Pruning: limits first, then what cannot win."""
    usable = capabilities.subgroup_min if capabilities.subgroups else 0
    if tuning.reduction == "subgroup" and tuning.lanes > usable:
        return False
    shuffles = tuning.lanes <= usable
    plain = tuning.workgroup == 64 and tuning.lanes == 16
    if tuning.reduction == "workgroup" and shuffles and not plain:
        return False
    if tuning.activations == "thread" and (structure.has_prologue or tuning.rows < 4):
        return False  # rounding, and a norm, would cost more than the products
    per_workgroup = tuning.workgroup // tuning.lanes * tuning.rows
    return (
        tuning.workgroup <= capabilities.max_invocations
        and _has_room(tuning, structure, capabilities)
        and _sums(tuning, structure) <= 16
        and tuning.lanes <= ceil_div(structure.columns, BLOCK)
        and (ceil_div(structure.outputs, per_workgroup) >= 32 or tuning.lanes >= 32)
    )


def packed_roles(
    parts: Roles, structure: LinearStructure
) -> tuple[tuple[str, ...], tuple[Binding, ...]]:
    """Return files and bindings of a map whose weights are read as 32 codes in bytes."""
    files, bindings = wide.by_vectors(parts, structure.quant)
    codes, _ = FORMATS[structure.quant]
    own = (f"quant/int8/{codes}.wgsl", "linear/int8.wgsl", "linear/int8_products.wgsl")
    return (*files, *own), bindings


def kernel(
    parts: Roles,
    structure: LinearStructure,
    tuning: DirectTuning | Int8LanesTuning,
    capabilities: Capabilities,
) -> Kernel:
    """Return the kernel of a dense linear map in int8; KernelError for a format without one."""
    if structure.quant not in FORMATS:
        raise KernelError(f"{structure.quant} weights have no int8 kernel: they stay in f32.")
    if isinstance(tuning, DirectTuning):
        return _direct(parts, tuning, capabilities)
    files, bindings = packed_roles(parts, structure)
    staged = tuning.activations == "workgroup"
    prologue = prologue_files("workgroup", staged=False)
    if staged:
        prologue = tuple(file for file in prologue if "/stage_" not in file)
    source = link(
        (
            "ops/matvec_int8.wgsl",
            *files,
            *prologue,
            "linear/int8_staged.wgsl" if staged else "linear/int8_fresh.wgsl",
            f"linear/reduce_{tuning.reduction}.wgsl",
        ),
        constants={
            "WORKGROUP": tuning.workgroup,
            "LANES": tuning.lanes,
            "ROWS": tuning.rows,
            "TILE": tuning.tile,
            "CODE_OFFSET": FORMATS[structure.quant][1],
            **parts.constants,
        },
        bindings=bindings,
        enables=("subgroups",) if tuning.reduction == "subgroup" else (),
    )
    per_workgroup = tuning.workgroup // tuning.lanes * tuning.rows
    groups = ceil_div(parts.outputs, per_workgroup) * ceil_div(parts.tokens, tuning.tile)
    return Kernel(
        f"matvec int8 {parts.label}", source, bindings, spread(groups, capabilities), parts.cost
    )


def _direct(parts: Roles, tuning: DirectTuning, capabilities: Capabilities) -> Kernel:
    """Return the plain twin."""
    if tuning.tile != 1:
        raise KernelError("The plain int8 kernel handles one token per thread.")
    statistics = "workgroup" if tuning.shared_statistics else "thread"
    source = link(
        (
            "ops/matvec_direct_int8.wgsl",
            *parts.files,
            "linear/int8.wgsl",
            *prologue_files(statistics, staged=False),
        ),
        constants={"WORKGROUP": tuning.workgroup, "TILE": 1, **parts.constants},
        bindings=parts.bindings,
    )
    groups = ceil_div(parts.outputs, tuning.workgroup) * parts.tokens
    grid = spread(groups, capabilities)
    return Kernel(f"direct int8 {parts.label}", source, parts.bindings, grid, parts.cost)
