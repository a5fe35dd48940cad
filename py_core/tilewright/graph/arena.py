"""The arena: which activations may share memory, from when each is last read.

Slots are separate buffers (WebGPU forbids binding one buffer for reading and for writing in the
same dispatch), so a slot is as large as its largest occupant and an op's output is never in a slot
that one of its inputs is in. This module knows sizes only, nothing of devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .ops import Adapters, Graph, Rows, Value

_BYTES = 4
"""All activations are f32 or u32."""


@dataclass(frozen=True)
class Arena:
    """The plan: sizes of the slots, and the slot of every value that owns memory."""

    slots: tuple[int, ...]
    """Bytes of each slot."""
    assignment: Mapping[Value, int]
    unshared: int
    """Bytes that all values would take without sharing."""

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return sum(self.slots)

    def slot_of(self, value: Value) -> int:
        """Return the slot of a value or of the value that it is a view of."""
        return self.assignment[value.storage]


@dataclass(frozen=True)
class Lifetime:
    """When a value is needed: from the op that makes it to the last that reads it, inclusive."""

    value: Value
    first: int
    last: int
    nbytes: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are needed at some op."""
        return self.first <= other.last and other.first <= self.last


def lifetimes(graph: Graph, row_counts: Mapping[Rows, int]) -> list[Lifetime]:
    """Return the lifetime of every value that owns memory, in order of creation.

    ``row_counts``: the largest number of rows of each kind. The graph's outputs live to its end.
    """
    made: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for index, op in enumerate(graph.ops):
        for value in op.outputs():
            made[value.storage] = last[value.storage] = index
        for value in op.inputs():
            last[value.storage] = index
    for op in graph.ops:
        if isinstance(op, Adapters):  # written before the step, and not again for each
            for value in op.outputs():
                made[value], last[value] = 0, len(graph.ops)
    for end in (graph.logits, graph.hidden, graph.pooled):
        if end is not None:
            last[end.storage] = len(graph.ops)
    return [
        Lifetime(value, first, last[value], row_counts[value.rows] * value.width * _BYTES)
        for value, first in made.items()
    ]


def plan_arena(graph: Graph, row_counts: Mapping[Rows, int]) -> Arena:
    """Assign a slot to every value, large values first, each to the first slot that is free.

    Large first means that a slot never has to grow: greedy by size, as in Pisarchyk and Lee,
    'Efficient Memory Management for Deep Neural Net Inference' (arXiv 2001.03288), shared objects.
    """
    everything = lifetimes(graph, row_counts)
    occupants: list[list[Lifetime]] = []
    assignment: dict[Value, int] = {}
    for lifetime in sorted(everything, key=lambda item: (-item.nbytes, item.first)):
        free = (
            slot
            for slot, others in enumerate(occupants)
            if not any(lifetime.overlaps(other) for other in others)
        )
        slot = next(free, len(occupants))
        if slot == len(occupants):
            occupants.append([])
        occupants[slot].append(lifetime)
        assignment[lifetime.value] = slot
    return Arena(
        slots=tuple(others[0].nbytes for others in occupants),
        assignment=assignment,
        unshared=sum(item.nbytes for item in everything),
    )
