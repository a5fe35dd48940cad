"""What every kernel module gives, and the three kinds of parameters it never mixes.

A kernel module (``matvec.py``, ``norm.py`` ...) has

* ``Structure``: a frozen dataclass of what is computed (formats, sizes, fusion, strides);
* ``Tuning``: a frozen dataclass of how (workgroup, tile, unroll, reduction ...);
* ``naive(structure) -> Tuning``: plain and correct on every device, the reference of all others;
* ``space(structure, capabilities) -> list[Tuning]``: the candidates worth timing, naive included;
* ``kernel(structure, tuning, capabilities) -> Kernel``: the linked WGSL with bindings, grid, cost.

Run-time values (how many tokens a step has, positions ...) are in buffers, never in the text: see
``shaders/lib/step.wgsl``. Sizes of the model and the token capacity of a plan are Structure.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..link import Binding, LinkedSource

Grid = tuple[int, int, int]

EXACT = 3e-5
"""How far Tunings may be from naive, as a share of the largest magnitude: f32 sums of some thousand
products in any order stay below a third of this. A Structure with coarser arithmetic states its own
``tolerance``."""


@dataclass(frozen=True)
class Capabilities:
    """What the device can do, as far as kernels and tuning care."""

    max_binding: int = 128 << 20
    """Bytes of the largest storage binding."""
    max_buffer: int = 256 << 20
    """Bytes of the largest buffer."""
    max_workgroups: int = 65535
    """Per dimension of a dispatch."""
    max_invocations: int = 256
    """Threads of a workgroup."""
    workgroup_memory: int = 16384
    """Bytes of workgroup memory."""
    storage_buffers: int = 8
    """Storage bindings per shader stage."""
    offset_alignment: int = 256
    """Alignment of a binding's offset in bytes."""
    f16: bool = False
    subgroups: bool = False
    subgroup_min: int = 1
    subgroup_max: int = 1
    timestamps: bool = False
    packed_dot: bool = False
    """dot4I8Packed and friends are part of the language on this device."""
    software: bool = False
    """A CPU adapter (llvmpipe, SwiftShader)."""
    key: str = ""
    """Adapter, driver and backend: part of every tuning record's key."""


@dataclass(frozen=True)
class Cost:
    """What one dispatch must at least do, for the share of the roofline."""

    nbytes: int
    flops: int


@dataclass(frozen=True)
class Kernel:
    """One dispatch's program, complete but for its buffers."""

    label: str
    source: LinkedSource
    bindings: tuple[Binding, ...]
    grid: Grid
    cost: Cost


@dataclass(frozen=True)
class Span:
    """Where an activation's columns lie: element ``[t, c]`` is at ``t * stride + start + c``."""

    stride: int
    start: int = 0


def ceil_div(count: int, size: int) -> int:
    """Return how many pieces of ``size`` cover ``count``."""
    return -(-count // size)


def spread(groups: int, capabilities: Capabilities) -> Grid:
    """Lay ``groups`` workgroups out so that no dimension exceeds the device's limit.

    Kernels rebuild the linear index as ``workgroup_id.y * num_workgroups.x + workgroup_id.x`` and
    must ignore indices beyond the count they need.
    """
    if groups <= capabilities.max_workgroups:
        return (max(groups, 1), 1, 1)
    rows = ceil_div(groups, capabilities.max_workgroups)
    return (ceil_div(groups, rows), rows, 1)
