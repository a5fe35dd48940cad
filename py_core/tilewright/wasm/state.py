"""Memory that lives as long as the model: cache, tables, inputs of a step, activations.

All are addresses in the one memory; which op reads what is the lowering's affair.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..graph.arena import Arena, plan_arena
from ..graph.ops import ExpertLinear, Graph, QkvPrepare, Rope, RopeTable, Rows, Value
from .kernels.cache import KV_BLOCK, KvKind, row_bytes
from .weights import Layout, Weights

_LOW = 256
"""Positions of a rotation table's first part."""


@dataclass(frozen=True)
class Inputs:
    """Addresses of what a step is told: u32 each, one per token (or output, or slot)."""

    ids: int
    positions: int
    slots: int
    outputs: int
    lengths: int
    tables: int
    """u32[slots][max_blocks]."""
    max_blocks: int


@dataclass(frozen=True)
class State:
    """Everything but activations."""

    weights: Weights
    inputs: Inputs
    keys: tuple[int, ...]
    values: tuple[int, ...]
    ropes: Mapping[RopeTable, int]
    blocks: int
    context_length: int
    kv: KvKind


@dataclass(frozen=True)
class Activations:
    """The arena of one family of steps."""

    addresses: tuple[int, ...]
    arena: Arena
    rows: int = 0
    """Where not 0: a row's place in a slot is the same for all values, of which each has so many.
    Threads may then be at different ops with different rows."""

    def at(self, value: Value) -> int:
        """Return the address of a value's first column."""
        return self.addresses[self.arena.slot_of(value)] + 4 * value.start

    def span(self, value: Value) -> tuple[int, int]:
        """Return a value's address, and its bytes from row to row."""
        if self.rows:
            return self.at(value), self.arena.slots[self.arena.slot_of(value)] // self.rows
        return self.at(value), 4 * value.storage.width


def kv_bytes(graph: Graph, tokens: int, kv: KvKind = "f32") -> int:
    """Return the bytes of a cache of ``tokens`` positions."""
    padded = -(-tokens // KV_BLOCK) * KV_BLOCK
    return padded * sum(row_bytes(kv, width) for pair in graph.kv_width for width in pair)


def plan_state(
    layout: Layout,
    graphs: Iterable[Graph],
    weights: Weights,
    *,
    context_length: int,
    tokens: int,
    max_sequences: int,
    chunk: int,
    kv: KvKind = "f32",
) -> State:
    """Give cache, tables and inputs their addresses."""
    graphs = list(graphs)
    blocks = -(-tokens // KV_BLOCK)
    max_blocks = -(-context_length // KV_BLOCK)
    most = 4 * (max(chunk, max_sequences) + 1)
    inputs = Inputs(
        ids=layout.take(most),
        positions=layout.take(most),
        slots=layout.take(most),
        outputs=layout.take(most),
        lengths=layout.take(4 * max_sequences),
        tables=layout.take(4 * max_sequences * max_blocks),
        max_blocks=max_blocks,
    )
    keys, values = [], []
    for key_width, value_width in graphs[0].kv_width:
        keys.append(layout.take(blocks * KV_BLOCK * row_bytes(kv, key_width)))
        values.append(layout.take(blocks * KV_BLOCK * row_bytes(kv, value_width)))
    ropes: dict[RopeTable, int] = {}
    for graph in graphs:
        for op in graph.ops:
            table = op.table if isinstance(op, Rope | QkvPrepare) else None
            if table is not None and table not in ropes:
                rows = _LOW + -(-context_length // _LOW)
                ropes[table] = layout.take(8 * rows * len(table.frequencies))
    return State(weights, inputs, tuple(keys), tuple(values), ropes, blocks, context_length, kv)


def plan_activations(layout: Layout, graph: Graph, rows: Mapping[Rows, int]) -> Activations:
    """Give the activations of a family their addresses."""
    arena = plan_arena(graph, rows)
    # Experts' outputs lie side by side in one row, without room between two of them.
    even = len(set(rows.values())) == 1 and not any(
        isinstance(op, ExpertLinear) for op in graph.ops
    )
    addresses = tuple(layout.take(size) for size in arena.slots)
    return Activations(addresses, arena, next(iter(rows.values())) if even else 0)


def rope_table_bytes(table: RopeTable, context_length: int) -> bytes:
    """Return ``f32[256 + ceil(context / 256)][pairs][2]``: (cos, sin), in double precision.

    Positions 0 to 255, then multiples of 256: the sum of two of them is every position. Without the
    table's magnitude.
    """
    values = array("f")
    for position in [*range(_LOW), *range(0, max(context_length, 1), _LOW)]:
        for frequency in table.frequencies:
            angle = position * frequency
            values.append(math.cos(angle))
            values.append(math.sin(angle))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
