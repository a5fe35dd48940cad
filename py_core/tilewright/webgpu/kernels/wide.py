"""Weight times tokens, 32 columns a step: activations loaded once per subgroup and broadcast.

On CPU adapters every load instruction costs as much as several products, because it is made lane by
lane: here a thread keeps up to eight rows and eight tokens in registers and reads whole vectors.
Exact in f32 like the others. Knows nothing of graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import KernelError
from ...formats.quant import BY_NAME
from ..link import Binding
from . import tile
from .kernel import Capabilities, Kernel
from .linear import LinearStructure, Roles, prologue_files
from .packing import packing

_VECTOR_FORMATS = {"Q4_0": ("nibbles", "q4_0"), "Q4_K": ("nibbles", "q4_k"), "Q8_0": ("q8_0",)}
"""Formats whose codes are read four words at once, and their files in ``shaders/quant/wide``."""


@dataclass(frozen=True)
class WideTuning:
    """One thread per four or eight weight rows."""

    workgroup: int = 32
    rows: int = 8
    """Weight rows per thread: 4 or 8."""
    tile: int = 1
    """Tokens per thread: 1, 2, 4 or 8."""
    lanes: int = 4
    """Lanes that hold 32 columns: 4, or 8 where subgroups are that large (which only a test shows
    where the device's smallest size is below)."""


def supports(structure: LinearStructure, tuning: WideTuning, capabilities: Capabilities) -> bool:
    """Return whether ``tuning`` can compute ``structure`` on a device."""
    return capabilities.subgroup_max >= tuning.lanes and tile.fits(structure, tuning, capabilities)


def default(structure: LinearStructure, capabilities: Capabilities) -> WideTuning | None:
    """Return what was good on llvmpipe and compiles fast, or None where it does not apply.

    These kernels take a driver three times as long to compile as plain ones: not for small weights.
    A batch's step shares each weight among its sequences and is worth the largest one; a prompt's,
    which is waited for, is not.
    """
    if not capabilities.software or structure.rows * structure.columns < tile.SMALL:
        return None
    tokens, workgroup = structure.tokens, _workgroup(structure)
    shapes = [(4, 4)]
    if tokens <= 4:
        shapes = [(8, t) for t in (4, 2, 1) if min(tokens, 2) <= t < 2 * tokens]
    for rows, count in shapes:
        found = WideTuning(workgroup, rows, count)
        if capabilities.subgroup_min >= found.lanes and supports(structure, found, capabilities):
            return found
    return None


def space(structure: LinearStructure, capabilities: Capabilities) -> list[WideTuning]:
    """Return the candidates worth timing: CPU adapters only, the likeliest first."""
    if not capabilities.software:
        return []
    workgroup = _workgroup(structure)
    shapes = [(8, 1), (4, 1)] if structure.tokens == 1 else [(4, 4), (8, 4)]
    if structure.tokens == 2:
        shapes = [(8, 2), (4, 2)]
    if structure.tokens > 4 and capabilities.subgroup_max >= 8:
        # 256 sums: SwiftShader, whose subgroups are four lanes, compiles that for seconds
        shapes.insert(0, (8, 8))
    found = [WideTuning(workgroup, rows, t, lanes) for lanes in (8, 4) for rows, t in shapes]
    if structure.tokens == 1:
        found.append(WideTuning(16, 8, 1, 8))
    return [tuning for tuning in found if supports(structure, tuning, capabilities)]


def _workgroup(structure: LinearStructure) -> int:
    """Few rows: small workgroups, so that every processor gets some."""
    return 8 if structure.rows < 2048 else 32


def kernel(
    parts: Roles, structure: LinearStructure, tuning: WideTuning, capabilities: Capabilities
) -> Kernel:
    """Return the kernel of a dense linear map; KernelError where the device cannot run it."""
    if not supports(structure, tuning, capabilities):
        raise KernelError(f"This device cannot run {tuning} for {parts.label}.")
    if structure.quant in _VECTOR_FORMATS:
        files, bindings = by_vectors(parts, structure.quant)
    else:
        files, bindings = (*parts.files, "quant/wide.wgsl"), parts.bindings
    staged = structure.has_prologue
    files = (
        *files,
        *prologue_files("workgroup", staged=staged),
        f"linear/share_{tuning.lanes}.wgsl",
        "linear/share_staged.wgsl" if staged else "linear/share_x.wgsl",
    )
    return tile.kernel("wide", parts, structure, tuning, capabilities, files, bindings)


def by_vectors(parts: Roles, quant: str) -> tuple[tuple[str, ...], tuple[Binding, ...]]:
    """Return the files and bindings of ``parts`` where a row's words are read four at once."""
    own = f"quant/{packing(BY_NAME[quant]).quant.role}.wgsl"
    files = tuple(file for file in parts.files if file != own)
    files += tuple(f"quant/wide/{name}.wgsl" for name in _VECTOR_FORMATS[quant])
    bindings = tuple(
        replace(b, type="array<vec4u>") if b.name == "quants" else b for b in parts.bindings
    )
    return files, bindings
