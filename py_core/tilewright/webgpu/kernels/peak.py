"""A dispatch that does nothing but f32 products and sums: the arithmetic ceiling of the device.

Bindings: out: see ``shaders/ops/peak.wgsl``.
"""

from __future__ import annotations

from ..link import link
from . import header
from .kernel import Cost, Kernel

_CHAINS = 8
_FLOPS = 2 * 4 * _CHAINS
"""Of one thread per step: a product and a sum in four components of every chain."""


def kernel(groups: int, workgroup: int, steps: int) -> Kernel:
    """Return ``groups`` workgroups whose threads go ``steps`` steps."""
    bindings = (header.write("out", "vec4f"),)
    source = link(
        ("ops/peak.wgsl",),
        constants={"WORKGROUP": workgroup, "STEPS": steps},
        bindings=bindings,
    )
    threads = groups * workgroup
    cost = Cost(16 * threads, threads * steps * _FLOPS)
    return Kernel(f"peak {threads}x{steps}", source, bindings, (groups, 1, 1), cost)
