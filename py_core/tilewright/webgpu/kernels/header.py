"""Header lines that several kernels share: rows of a step, spans, bindings, lanes.

Each function turns a part of a Structure or Tuning into constants, bindings and the role files that
go with them. Knows no op.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ...errors import KernelError
from ..link import Binding, Constant
from .kernel import Capabilities, Span, ceil_div

RowsFrom = Literal["tokens", "outputs", "sequences"]
"""Which field of Step bounds the rows of an activation."""

_ROWS_FROM = ("tokens", "outputs", "sequences")

ACTIVATIONS: Mapping[str, int] = {
    "silu": 1,
    "gelu": 2,
    "gelu_erf": 3,
    "relu": 4,
    "tanh": 5,
    "sigmoid": 6,
    "relu2": 7,
}
"""Numbers of ``ACTIVATION`` in ``lib/activation.wgsl``; 0 is the identity."""

STEP = Binding("step", "Step", "uniform")
STEP_FILE = "lib/step.wgsl"
ROWS_FILES = (STEP_FILE, "lib/rows.wgsl")

LOWEST = -3.0e38
"""Stands for minus infinity, which WGSL constants cannot be."""

_UNIFORM_BYTES = 65536
"""WebGPU's guaranteed size of a uniform binding."""


def rows(rows_from: RowsFrom, capacity: int) -> dict[str, Constant]:
    """Return the constants of ``lib/rows.wgsl``."""
    return {"ROWS_FROM": _ROWS_FROM.index(rows_from), "ROWS_CAPACITY": capacity}


def span(name: str, place: Span, unit: int = 1) -> dict[str, Constant]:
    """Return ``NAME_STRIDE`` and ``NAME_START`` in units of ``unit`` floats."""
    return {f"{name}_STRIDE": place.stride // unit, f"{name}_START": place.start // unit}


def activation(name: str | None) -> int:
    """Return the number of an activation; KernelError where there is none of that name."""
    if name is None:
        return 0
    if name not in ACTIVATIONS:
        raise KernelError(f"There is no activation {name!r}; known: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def read(name: str, kind: str = "f32") -> Binding:
    """Return a read-only storage array."""
    return Binding(name, f"array<{kind}>")


def write(name: str, kind: str = "f32") -> Binding:
    """Return a writable storage array."""
    return Binding(name, f"array<{kind}>", "read_write")


def lanes_file(lanes: int, reduction: str) -> str:
    """Return the reduction role for ``lanes`` threads: ``tree`` or ``flat``."""
    return "lib/lanes_one.wgsl" if lanes == 1 else f"lib/lanes_{reduction}.wgsl"


def token_bindings(
    tokens: int, others: int, capabilities: Capabilities
) -> tuple[list[Binding], str]:
    """Return the bindings of ``positions`` and ``slots`` and the role file that reads them.

    Where ``others`` storage bindings leave no room for two more, both are uniforms: their buffers
    need the usages STORAGE and UNIFORM. Raises KernelError where neither form fits.
    """
    if others + 2 <= capabilities.storage_buffers:
        return [read("positions", "u32"), read("slots", "u32")], "lib/tokens_storage.wgsl"
    vectors = ceil_div(tokens, 4)
    if others > capabilities.storage_buffers or 16 * vectors > _UNIFORM_BYTES:
        raise KernelError(
            f"The kernel needs {others + 2} storage bindings for {tokens} tokens, but this device "
            f"has {capabilities.storage_buffers}: use the unfused ops."
        )
    kind = f"array<vec4u, {vectors}>"
    return (
        [Binding("positions", kind, "uniform"), Binding("slots", kind, "uniform")],
        "lib/tokens_uniform.wgsl",
    )
