"""The fusions around attention: one projection for q, k, v, and QkvPrepare.

Passes of ``fuse.py``, apart because both start from the cache write of a layer and trace queries
and keys back through rotation and norm.
"""

from __future__ import annotations

from dataclasses import replace

from .ops import Attention, KvWrite, Linear, Norm, Op, QkvPrepare, Rope, Value
from .rewrite import Rewriter
from .stacking import is_plain, stack, stackable


def stack_qkv(graph: Rewriter) -> tuple[Op, ...]:
    """Project q, k and v (those of one format) by one Linear; views stand for the three."""
    replaced: dict[int, Op | None] = {}
    values: dict[Value, Value] = {}
    for write, attention in _layers(graph):
        sources = [
            graph.maker(_source(graph, value), Linear)
            for value in (attention.q, write.key, write.value)
        ]
        linears = [
            source
            for source in sources
            if source is not None and is_plain(source) and source.out not in graph.kept
        ]
        groups: dict[tuple[object, ...], list[Linear]] = {}
        for linear in linears:
            groups.setdefault(stackable(linear), []).append(linear)
        for group in groups.values():
            new, views = stack(group)
            if len(group) > 1 and graph.accept(new):
                replaced.update({id(linear): None for linear in group})
                replaced[id(graph.first(group))] = new
                values.update(views)
    return graph.apply(replaced, values)


def _layers(graph: Rewriter) -> list[tuple[KvWrite, Attention]]:
    writes = {op.layer: op for op in graph.ops if isinstance(op, KvWrite)}
    attentions = [op for op in graph.ops if isinstance(op, Attention)]
    return [(writes[op.layer], op) for op in attentions if op.layer in writes]


def _source(graph: Rewriter, value: Value) -> Value:
    """Return what a query or key was before rotation and norm."""
    rope = graph.maker(value, Rope)
    value = rope.x if rope is not None else value
    norm = graph.maker(value, Norm)
    return norm.x if norm is not None else value


def prepare(graph: Rewriter) -> tuple[Op, ...]:
    """Make head norms, rotations and the cache write of a layer one QkvPrepare."""
    replaced: dict[int, Op | None] = {}
    for write, attention in _layers(graph):
        q, k = _Side(graph, attention.q, attention), _Side(graph, write.key, write)
        q_rope, k_rope = q.rope(), k.rope()
        q_table, k_table = (None if r is None else r.table for r in (q_rope, k_rope))
        if q_table != k_table:
            continue
        q_norm, k_norm = q.norm(attention.head_size), k.norm(attention.head_size)
        if q_rope is None and q_norm is None and k_norm is None:
            continue
        fresh = q_rope is None and q_norm is None
        new_q = attention.q
        if fresh:
            new_q = Value(f"{attention.out.name}.q", attention.q.rows, attention.q.width)
        new = QkvPrepare(
            q.value,
            k.value,
            write.value,
            new_q,
            write.layer,
            attention.heads,
            attention.kv_heads,
            attention.head_size,
            q_table,
            None if q_norm is None else q_norm.norm,
            None if k_norm is None else k_norm.norm,
        )
        if graph.accept(new):
            replaced.update({id(step): None for step in (q_rope, k_rope, q_norm, k_norm) if step})
            replaced[id(write)] = new
            if fresh:
                replaced[id(attention)] = replace(attention, q=new_q)
    return graph.apply(replaced)


class _Side:
    """The way of a query or key back from its reader: rotation, then norm, then projection."""

    def __init__(self, graph: Rewriter, value: Value, reader: Op) -> None:
        self.value = value
        self._graph = graph
        self._reader = reader

    def rope(self) -> Rope | None:
        """Step over a rotation that only the reader needs."""
        rope = self._graph.maker(self.value, Rope)
        if rope is None or not self._graph.only_for(self.value, self._reader):
            return None
        self.value, self._reader = rope.x, rope
        return rope

    def norm(self, head_size: int) -> Norm | None:
        """Step over a norm of heads or rows that only the rotation (or the reader) needs."""
        norm = self._graph.maker(self.value, Norm)
        if norm is None or norm.residual is not None or norm.norm.bias is not None:
            return None
        if norm.norm.group not in (head_size, norm.x.width):
            return None
        if not self._graph.only_for(self.value, self._reader):
            return None
        self.value, self._reader = norm.x, norm
        return norm
