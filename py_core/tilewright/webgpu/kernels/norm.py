"""Norm: RMS or layer norm over groups of columns, with weight, bias and residual where given.

Bindings: step, x, [norm_weight], [norm_bias], [residual], out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..link import Alias, Constant, link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread


@dataclass(frozen=True)
class Structure:
    """What is normalised: ``x f32[rows, width]`` in groups of ``group`` columns."""

    tokens: int
    """Capacity of rows."""
    width: int
    group: int
    epsilon: float
    x: Span
    out: Span
    rows_from: header.RowsFrom = "tokens"
    center: bool = False
    """False: RMS norm; True: layer norm."""
    weight: int = 0
    """Elements of the weight; the column modulo this is its index. 0: no weight."""
    bias: int = 0
    """Elements of the bias; 0: no bias."""
    weight_offset: float = 0.0
    residual: Span | None = None
    """Added after the norm."""


@dataclass(frozen=True)
class Tuning:
    """How: ``lanes`` threads share a group."""

    workgroup: int = 64
    lanes: int = 1
    reduction: str = "tree"
    """``tree`` or ``flat``, see ``shaders/lib/lanes_*.wgsl``."""


def naive(structure: Structure) -> Tuning:
    """One thread per group."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    if capabilities.software:
        return Tuning(8, 8, "flat")
    lanes = 32
    while lanes < min(256, capabilities.max_invocations) and lanes * 8 < structure.group:
        lanes *= 2
    return Tuning(max(64, lanes), lanes)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    found = [naive(structure), Tuning(8, 8, "flat"), Tuning(64, 8, "flat"), Tuning(64, 16, "flat")]
    for lanes in (32, 64, 128, 256):
        if lanes <= min(capabilities.max_invocations, 2 * structure.group):
            found.append(Tuning(max(64, lanes), lanes))
    return found


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel."""
    groups = structure.width // structure.group
    constants: dict[str, Constant] = {
        "Element": Alias("f32"),
        "GROUP": structure.group,
        "GROUPS": groups,
        "EPSILON": structure.epsilon,
        "CENTER": structure.center,
        "WORKGROUP": tuning.workgroup,
        "LANES": tuning.lanes,
        **header.rows(structure.rows_from, structure.tokens),
        **header.span("X", structure.x),
        **header.span("OUT", structure.out),
    }
    bindings = [header.STEP, header.read("x")]
    files = ["ops/norm.wgsl", *header.ROWS_FILES]
    files.append(header.lanes_file(tuning.lanes, tuning.reduction))
    if structure.weight:
        constants |= {
            "NORM_WEIGHT_LENGTH": structure.weight,
            "WEIGHT_OFFSET": structure.weight_offset,
        }
        bindings.append(header.read("norm_weight"))
    if structure.bias:
        constants["NORM_BIAS_LENGTH"] = structure.bias
        bindings.append(header.read("norm_bias"))
    if structure.residual is not None:
        constants |= header.span("RESIDUAL", structure.residual)
        bindings.append(header.read("residual"))
    bindings.append(header.write("out"))
    files.append("norm/weight.wgsl" if structure.weight else "norm/weight_none.wgsl")
    files.append("norm/bias.wgsl" if structure.bias else "norm/bias_none.wgsl")
    files.append("lib/residual.wgsl" if structure.residual else "lib/residual_none.wgsl")
    elements = structure.tokens * structure.width
    reads = 2 if structure.residual else 1
    return Kernel(
        f"norm {structure.width}/{structure.group}",
        link(files, constants=constants, bindings=bindings),
        tuple(bindings),
        spread(ceil_div(structure.tokens * groups, tuning.workgroup // tuning.lanes), capabilities),
        Cost(4 * (elements * (1 + reads) + structure.weight + structure.bias), 4 * elements),
    )
