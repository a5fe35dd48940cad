"""What a step needs besides weights and activations, and what it reads: sizes, no addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..graph.ops import ExpertLinear, Graph, Linear, Rope, Route, Rows
from .kernels import attention, linear, quantize
from .weights import matrix_bytes

TRIAL_TOKENS = 32
"""Tokens of the prompts on which kernels are timed."""
TRIAL_CALLS = 256
"""Calls of a kernel that are timed together."""


def bytes_read(graph: Graph) -> int:
    """Return the bytes of weights that one token reads."""
    total = 0
    for op in graph.ops:
        if isinstance(op, Linear):
            total += matrix_bytes(op.weight)
        elif isinstance(op, ExpertLinear):
            experts_ = op.weight.rows // op.expert_rows // (2 if op.gate_then_up else 1)
            total += matrix_bytes(op.weight) * op.used // experts_
    return total


def scratch_bytes(graph: Graph, counts: Mapping[Rows, int]) -> int:
    """Return the bytes that ops of a family need while they run: quantized x, then products."""
    inputs, products = 0, 256
    for op in graph.ops:
        if isinstance(op, Linear | ExpertLinear):
            size = counts[op.x.rows] * quantize.activation_bytes(op.x.width + 31, wide=True)
            inputs = max(inputs, size)
            used = op.used if isinstance(op, ExpertLinear) else 1
            wide = 2 * op.out.width if op.gated else op.out.width
            products = max(products, counts[op.out.rows] * max(wide, used) * 4)
    return inputs + products + 128


def trial_bytes(graph: Graph) -> int:
    """Return the bytes in which kernels are timed: operands, x quantized both ways, products."""
    most = columns = 0
    for op in graph.ops:
        if isinstance(op, Linear | ExpertLinear):
            many = isinstance(op, Linear) and op.out.rows is Rows.TOKENS
            rows = op.expert_rows if isinstance(op, ExpertLinear) else op.weight.rows
            most = max(most, 4 * rows * (TRIAL_TOKENS if many else 1))
            columns = max(columns, op.weight.columns)
    x = sum(quantize.activation_bytes(columns + 31, wide=wide) for wide in (False, True))
    calls = 36 * TRIAL_CALLS + linear.SCRATCH_BYTES
    return calls + TRIAL_TOKENS * x + max(most, 4 * columns) + 128


def private_bytes(graph: Graph) -> int:
    """Return the bytes of scratch that every thread needs for itself."""
    least = max(attention.SCRATCH_BYTES, linear.SCRATCH_BYTES)
    for op in graph.ops:
        if isinstance(op, Rope):
            least = max(least, 8 * len(op.table.frequencies))
        elif isinstance(op, Route):
            least = max(least, 4 * op.logits.width)
    return (least + 127) // 64 * 64


@dataclass(frozen=True)
class Scratch:
    """Where ops keep what no other op reads."""

    shared: int
    shared_bytes: int
    private: int
    private_bytes: int
    """Of each thread."""
