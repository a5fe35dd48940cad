"""Bookkeeping for passes over a list of ops: who makes a value, who reads it, replacing values.

Values are single-assignment, so an op may be moved later (never before its inputs) at will; KvWrite
and Attention of one layer keep their order because passes replace them in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from .ops import Graph, Op, Value, field_names

OpT = TypeVar("OpT", bound=Op)


class Rewriter:
    """A graph's ops with an index; ``apply`` turns decisions into a new list."""

    def __init__(self, graph: Graph, ops: Iterable[Op], accept: Callable[[Op], bool]) -> None:
        self.ops = tuple(ops)
        self.accept = accept
        ends = (graph.logits, graph.hidden, graph.pooled)
        self.kept = {end.storage for end in ends if end is not None}
        self._order = {id(op): index for index, op in enumerate(self.ops)}
        self._makers: dict[Value, Op] = {}
        self._readers: dict[Value, list[Op]] = {}
        for op in self.ops:
            for value in op.outputs():
                self._makers[value] = op
            for value in op.inputs():
                self._readers.setdefault(value.storage, []).append(op)

    def maker(self, value: Value | None, kind: type[OpT]) -> OpT | None:
        """Return the op that makes ``value`` if it is of ``kind``; None for a view."""
        if value is None:
            return None
        op = self._makers.get(value)
        return op if isinstance(op, kind) else None

    def readers(self, value: Value) -> list[Op]:
        """Ops that read ``value`` or a view of it; an op that reads it twice comes twice."""
        return self._readers.get(value.storage, [])

    def first(self, ops: Iterable[OpT]) -> OpT:
        """Return the one that is executed first."""
        return min(ops, key=lambda op: self._order[id(op)])

    def only_for(self, value: Value, reader: Op) -> bool:
        """Whether nothing but ``reader`` needs ``value``, so that it need not be stored."""
        return value not in self.kept and all(op is reader for op in self.readers(value))

    def apply(
        self,
        replaced: Mapping[int, Op | None],
        values: Mapping[Value, Value] | None = None,
    ) -> tuple[Op, ...]:
        """Return the ops with some replaced (None: removed) and values substituted in all.

        ``replaced`` is keyed by ``id`` of the old op: ops compare by content, and are many.
        """
        found = []
        for old in self.ops:
            new = replaced.get(id(old), old)
            if new is not None:
                found.append(substituted(new, values) if values else new)
        return tuple(found)


def substituted(op: Op, values: Mapping[Value, Value]) -> Op:
    """Return ``op`` with inputs and outputs replaced; views become views of what replaces them."""
    changes = {}
    for name in field_names(op):
        value = getattr(op, name)
        if isinstance(value, Value) and value.storage in values:
            new = values[value.storage]
            changes[name] = new if value.base is None else new.view(value.start, value.width)
    return replace(op, **changes) if changes else op
