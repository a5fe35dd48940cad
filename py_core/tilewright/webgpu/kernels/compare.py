"""Compares two results on the GPU, so that verifying a kernel reads back a few kilobytes only.

Bindings: expected, found, out: see ``shaders/ops/compare.wgsl``.
"""

from __future__ import annotations

from ..link import link
from . import header
from .kernel import Cost, Kernel

GROUPS = 8
OUT_BYTES = 16 * 64 * GROUPS
POISON = 0x7FC0DEAD
"""Bits of a quiet NaN that no kernel computes: marks what was never written."""


def kernel(words: int, *, floats: bool) -> Kernel:
    """Return the comparison of two buffers of ``words`` u32, ``floats``: as numbers."""
    bindings = (
        header.read("expected", "u32"),
        header.read("found", "u32"),
        header.write("out", "vec4f"),
    )
    source = link(
        ("ops/compare.wgsl",),
        constants={"COUNT": words, "GROUPS": GROUPS, "FLOATS": floats, "POISON": POISON},
        bindings=bindings,
    )
    return Kernel(f"compare {words}", source, bindings, (GROUPS, 1, 1), Cost(8 * words, 2 * words))
