"""Weight times tokens for SwiftShader: lanes swap activations, codes are masked and never shifted.

Chromium's CPU adapter compiles each load into a gather of about 85 instructions and takes vector
shifts and broadcasts apart, while products are cheap: see ``shaders/ops/matvec_swap.wgsl``. Exact
in f32 like the others. Knows nothing of graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import KernelError
from . import tile
from .kernel import Capabilities, Kernel
from .linear import LinearStructure, Roles, prologue_files

_NIBBLES = {"Q4_0": 8.0, "Q4_1": 0.0, "Q4_K": 0.0}
_FIFTHS = {"Q5_0": 16.0, "Q5_1": 0.0, "Q5_K": 0.0}
_BYTES = {"Q8_0": 128.0}
FORMATS = {**_NIBBLES, **_FIFTHS, **_BYTES}
"""Formats it reads, and what their codes are lessened by."""


@dataclass(frozen=True)
class SwapTuning:
    """One thread per four or eight weight rows; four lanes share the activations."""

    workgroup: int = 8
    """A multiple of 8."""
    rows: int = 8
    """Weight rows per thread: 4 or 8."""
    tile: int = 1
    """Tokens per thread: 1, 2, 4 or 8."""


def supports(structure: LinearStructure, tuning: SwapTuning, capabilities: Capabilities) -> bool:
    """Return whether ``tuning`` can compute ``structure`` on a device."""
    return (
        capabilities.subgroup_min >= 4
        and structure.quant in FORMATS
        and tuning.workgroup % 8 == 0
        and tile.fits(structure, tuning, capabilities)
    )


def suits(capabilities: Capabilities) -> bool:
    """Return whether the device is of the kind that these kernels are made for."""
    return capabilities.software and capabilities.subgroups and capabilities.subgroup_max == 4


def default(structure: LinearStructure, capabilities: Capabilities) -> SwapTuning | None:
    """Return what was good on SwiftShader, or None where it does not apply."""
    if not suits(capabilities) or structure.rows * structure.columns < tile.SMALL:
        return None
    for tuning in _shapes(structure):
        if supports(structure, tuning, capabilities):
            return tuning
    return None


def space(structure: LinearStructure, capabilities: Capabilities) -> list[SwapTuning]:
    """Return the candidates worth timing, the likeliest first."""
    if not suits(capabilities):
        return []
    found = [t for t in _shapes(structure) if supports(structure, t, capabilities)]
    return list(dict.fromkeys(found))


def _shapes(structure: LinearStructure) -> list[SwapTuning]:
    """Return Tunings by what they promise: few rows want small workgroups, for all processors."""
    workgroup, other = (8, 32) if structure.rows < 1024 else (32, 8)
    # the largest tile that is not half empty, and the one below it
    tiles = [t for t in (8, 4, 2, 1) if t < 2 * structure.tokens][:2]
    shapes = [(rows, t) for t in tiles for rows in (8, 4)]
    found = [SwapTuning(workgroup, rows, t) for rows, t in shapes]
    return [*found, *(SwapTuning(other, 8, t) for t in tiles)]


def kernel(
    parts: Roles, structure: LinearStructure, tuning: SwapTuning, capabilities: Capabilities
) -> Kernel:
    """Return the kernel of a dense linear map; KernelError where the device cannot run it."""
    if not supports(structure, tuning, capabilities):
        raise KernelError(f"This device cannot run {tuning} for {parts.label}.")
    quant = structure.quant
    codes = "masks" if quant in _NIBBLES else "fifths" if quant in _FIFTHS else "bytes"
    scale = "k_scale" if quant in ("Q4_K", "Q5_K") else "scale"
    staged = structure.has_prologue
    files, bindings = parts.files, parts.bindings
    if not staged:
        files = tuple("linear/x_scalar.wgsl" if f == "linear/x_vec4.wgsl" else f for f in files)
        bindings = tuple(replace(b, type="array<f32>") if b.name == "x" else b for b in bindings)
    files = (
        *files,
        f"quant/swap/{codes}.wgsl",
        f"quant/swap/{scale}.wgsl",
        *prologue_files("workgroup", staged=staged),
        "linear/swap_staged.wgsl" if staged else "linear/swap_x.wgsl",
    )
    offset = FORMATS[quant]
    return tile.kernel(
        "swap", parts, structure, tuning, capabilities, files, bindings, CODE_OFFSET=offset
    )
