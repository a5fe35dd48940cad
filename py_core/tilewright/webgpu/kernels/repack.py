"""Repacking: raw file blocks of whole rows -> the planes of ``packing.py``, once, at load.

One thread writes one word, so that no two threads share one. The WGSL of a format is
``shaders/quant/repack/<role>.wgsl``. Knows nothing of where the bytes come from.
"""

from __future__ import annotations

from ...formats.quant import QuantType
from ..link import Binding, link
from .kernel import Capabilities, Cost, Kernel, ceil_div, spread
from .packing import packing

WORKGROUP = 64
_SAME_BLOCKS = {"IQ4_NL": "q4_0"}
"""Formats whose blocks look like another's; only their codes mean something else."""


def kernel(
    quant: QuantType, rows_capacity: int, columns: int, capabilities: Capabilities
) -> Kernel:
    """Return the kernel that repacks up to ``rows_capacity`` rows of ``columns`` weights.

    Bindings: ``raw`` (file bytes as u32, the last word complete), ``quants``, ``scales`` and the
    uniform ``job`` (u32[4]: first row of the planes, raw rows, rows of the planes, byte offset of
    the first raw row). KernelError where the format has no kernels.
    """
    form = packing(quant)
    words = form.constants(columns)
    bindings = (
        Binding("raw", "array<u32>"),
        Binding("quants", "array<u32>", "read_write"),
        Binding("scales", "array<u32>", "read_write"),
        Binding("job", "Job", "uniform"),
    )
    source = link(
        (
            "ops/repack.wgsl",
            "quant/layout_rows.wgsl",
            "quant/repack/bytes.wgsl",
            "quant/repack/fields.wgsl",
            f"quant/repack/{_SAME_BLOCKS.get(quant.name, quant.role)}.wgsl",
        ),
        constants={
            "WORKGROUP": WORKGROUP,
            "COLUMNS": columns,
            "ROW_BYTES": quant.row_bytes(columns),
            **words,
        },
        bindings=bindings,
    )
    threads = rows_capacity * sum(words.values())
    return Kernel(
        label=f"repack {quant.name} {columns}",
        source=source,
        bindings=bindings,
        grid=spread(ceil_div(threads, WORKGROUP), capabilities),
        cost=Cost(rows_capacity * quant.row_bytes(columns) + 4 * threads, 0),
    )
