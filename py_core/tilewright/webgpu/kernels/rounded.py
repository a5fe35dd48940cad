"""Linear maps of rounded activations: to int8 or to f16, 32 columns to a scale.

What is computed differs from f32 by the rounding (in int8 as the CPU path does it), so that it is
part of the Structure and the user's choice, never the tuner's. In int8 the products of 32 columns
are exact integers. In f16 sums of eight products are f16, which compilers round at different
places: Tunings may differ by about as much as f16 differs from f32. Some weight formats stay in
f32, and all of them where the device has no f16 (``arithmetic_for``).

``naive`` is a thread per output with nothing packed; the others multiply four bytes at once
(``dot4I8Packed``), or vectors of f16: lanes that share a row here, tiles in ``rounded_tile.py``. No
kernel of this kind is made for CPU adapters, which have to take packed products apart.

Subgroup matrices would be a third kind. There is none: neither Chromium nor wgpu-native takes them
without experimental flags, so that no kernel of that kind could be compiled, let alone tested.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from ...errors import KernelError
from ..link import Binding, Constant, link
from . import wide
from .kernel import Capabilities, Kernel, ceil_div, spread
from .linear import Arithmetic, DirectTuning, LinearStructure, Roles, prologue_files

FORMATS = {"Q4_0": ("nibbles", 8.0), "Q4_K": ("nibbles", 0.0), "Q8_0": ("bytes", 0.0)}
"""Weight formats with kernels: their file in ``shaders/quant/int8``, the offset of codes there."""
BLOCK = 32
"""Columns that share a scale, of weights and of activations."""


@dataclass(frozen=True)
class RoundedLanesTuning:
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


def arithmetic_for(quant: str, wanted: Arithmetic, capabilities: Capabilities) -> Arithmetic:
    """Return the arithmetic of a map whose weight is of format ``quant``, where ``wanted`` is set.

    ``int8`` and ``f16`` are there for Q4_0, Q4_K and Q8_0, and ``f16`` where the device has
    shader-f16; all other maps stay in f32.
    """
    has = quant in FORMATS and (wanted != "f16" or capabilities.f16)
    return wanted if has else "f32"


def block_bytes(structure: LinearStructure) -> int:
    """Return the bytes of 32 codes or rounded activations with their scale, in workgroup memory."""
    return BLOCK * (1 if structure.arithmetic == "int8" else 2) + 8


def default(
    structure: LinearStructure, capabilities: Capabilities
) -> DirectTuning | RoundedLanesTuning:
    """Return the Tuning to start from where nothing has been measured."""
    tile = 1 << (min(structure.tokens, 4) - 1).bit_length()
    rows = 2 if structure.gated or structure.tokens > 1 else 4
    lanes = 16
    while lanes > 1 and lanes > ceil_div(structure.columns, BLOCK):
        lanes //= 2
    found = RoundedLanesTuning(64, lanes, rows, tile)
    if capabilities.software:
        found = replace(found, workgroup=32, lanes=1, rows=1 if tile > 1 else rows)
    while not _has_room(found, structure, capabilities) and found.tile > 1:
        found = replace(found, tile=found.tile // 2)
    if not _has_room(found, structure, capabilities):
        found = replace(found, activations="thread")
    return found


def space(
    structure: LinearStructure, capabilities: Capabilities
) -> list[DirectTuning | RoundedLanesTuning]:
    """Return the candidates worth timing for few tokens, naive first, then the default."""
    found: list[DirectTuning | RoundedLanesTuning] = [
        DirectTuning(),
        default(structure, capabilities),
    ]
    if structure.arithmetic == "int8" and not capabilities.packed_dot:
        return found[:1]
    tile = 1 << (min(structure.tokens, 4) - 1).bit_length()
    if capabilities.software:
        for workgroup, rows in itertools.product((16, 32), (1, 2, 4)):
            tuning = RoundedLanesTuning(workgroup, 1, rows, tile)
            if _has_room(tuning, structure, capabilities):
                found.append(tuning)
        return list(dict.fromkeys(found))
    choices = itertools.product(
        (64, 128), (4, 8, 16, 32), (2, 4), ("workgroup", "thread"), ("workgroup", "subgroup")
    )
    for workgroup, lanes, rows, activations, reduction in choices:
        tuning = RoundedLanesTuning(workgroup, lanes, rows, tile, activations, reduction)
        if _worth(tuning, structure, capabilities):
            found.append(tuning)
    return list(dict.fromkeys(found))


def _sums(tuning: RoundedLanesTuning, structure: LinearStructure) -> int:
    return tuning.rows * tuning.tile * (2 if structure.gated else 1)


def _has_room(
    tuning: RoundedLanesTuning, structure: LinearStructure, capabilities: Capabilities
) -> bool:
    """Whether statistics, sums and rounded activations fit into workgroup memory."""
    threads = tuning.workgroup
    summed = threads if tuning.reduction == "workgroup" else threads // tuning.lanes
    nbytes = 4 * threads + 4 * summed * _sums(tuning, structure)
    if tuning.activations == "workgroup":
        nbytes += ceil_div(structure.columns, BLOCK) * block_bytes(structure) * tuning.tile
    return nbytes <= capabilities.workgroup_memory


def _worth(
    tuning: RoundedLanesTuning, structure: LinearStructure, capabilities: Capabilities
) -> bool:
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


@dataclass(frozen=True)
class BlockRoles:
    """What a kernel of rounded activations is linked from besides its op."""

    files: tuple[str, ...]
    bindings: tuple[Binding, ...]
    constants: dict[str, Constant]
    enables: tuple[str, ...]


def block_roles(parts: Roles, structure: LinearStructure) -> BlockRoles:
    """Return the roles of a map whose weights are read as 32 codes; KernelError: it has none."""
    _require(structure)
    files, bindings = wide.by_vectors(parts, structure.quant)
    codes, offset = FORMATS[structure.quant]
    form = f"int8/{codes}"
    if structure.arithmetic == "f16":
        form, offset = "half/codes", 0.0
    files = (*files, f"quant/{form}.wgsl", *_numbers(structure))
    constants: dict[str, Constant] = {"CODE_OFFSET": offset, **parts.constants}
    return BlockRoles(files, bindings, constants, _enables(structure))


def _numbers(structure: LinearStructure) -> tuple[str, ...]:
    return ("linear/rounded.wgsl", f"linear/{structure.arithmetic}.wgsl")


def _enables(structure: LinearStructure) -> tuple[str, ...]:
    return ("f16",) if structure.arithmetic == "f16" else ()


def _require(structure: LinearStructure) -> None:
    if structure.quant not in FORMATS:
        raise KernelError(
            f"{structure.quant} weights have no {structure.arithmetic} kernel: they stay in f32."
        )


def kernel(
    parts: Roles,
    structure: LinearStructure,
    tuning: DirectTuning | RoundedLanesTuning,
    capabilities: Capabilities,
) -> Kernel:
    """Return the kernel of a dense linear map; KernelError for a format without one."""
    if isinstance(tuning, DirectTuning):
        return _direct(parts, structure, tuning, capabilities)
    roles = block_roles(parts, structure)
    staged = tuning.activations == "workgroup"
    prologue = prologue_files("workgroup", staged=False)
    if staged:
        prologue = tuple(file for file in prologue if "/stage_" not in file)
    source = link(
        (
            "ops/matvec_rounded.wgsl",
            *roles.files,
            *prologue,
            "linear/rounded_staged.wgsl" if staged else "linear/rounded_fresh.wgsl",
            f"linear/reduce_{tuning.reduction}.wgsl",
            "linear/results.wgsl",
        ),
        constants={
            "WORKGROUP": tuning.workgroup,
            "LANES": tuning.lanes,
            "ROWS": tuning.rows,
            "TILE": tuning.tile,
            **roles.constants,
        },
        bindings=roles.bindings,
        enables=(*roles.enables, *(("subgroups",) if tuning.reduction == "subgroup" else ())),
    )
    per_workgroup = tuning.workgroup // tuning.lanes * tuning.rows
    groups = ceil_div(parts.outputs, per_workgroup) * ceil_div(parts.tokens, tuning.tile)
    label = f"matvec {structure.arithmetic} {parts.label}"
    return Kernel(label, source, roles.bindings, spread(groups, capabilities), parts.cost)


def _direct(
    parts: Roles, structure: LinearStructure, tuning: DirectTuning, capabilities: Capabilities
) -> Kernel:
    """Return the plain twin."""
    _require(structure)
    if tuning.tile != 1:
        raise KernelError("The plain kernel of rounded activations handles one token per thread.")
    statistics = "workgroup" if tuning.shared_statistics else "thread"
    source = link(
        (
            "ops/matvec_direct_rounded.wgsl",
            *parts.files,
            *_numbers(structure),
            *prologue_files(statistics, staged=False),
        ),
        constants={
            "WORKGROUP": tuning.workgroup,
            "TILE": 1,
            "CODE_OFFSET": 0.0,
            **parts.constants,
        },
        bindings=parts.bindings,
        enables=_enables(structure),
    )
    groups = ceil_div(parts.outputs, tuning.workgroup) * parts.tokens
    grid = spread(groups, capabilities)
    label = f"direct {structure.arithmetic} {parts.label}"
    return Kernel(label, source, parts.bindings, grid, parts.cost)
