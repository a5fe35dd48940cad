"""Executes a graph with numpy: the meaning of every op, written to be read beside ``graph/ops.py``.

Slow and plain; the lowerings are held against it. Works on whole prompts, or step by step with the
KV cache that it keeps. Shapes as in ops.py; the arithmetic is float64 unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.dequantize import dequantize

from tilewright.formats.model_file import ModelFile
from tilewright.graph import ops

Array = NDArray[Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: 0.5 * x * (1.0 + _erf(x / np.sqrt(2.0))),
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
}


async def read_tensors(model_file: ModelFile, names: Iterable[str]) -> dict[str, Array]:
    """Read and dequantize tensors: ``float32[rows, columns]`` each."""
    found = {}
    for name in names:
        info = model_file.tensor(name)
        raw = await model_file.sources[info.source].read(info.offset, info.nbytes)
        found[name] = dequantize(info.quant, bytes(raw), info.rows, info.columns)
    return found


def tensor_names(graph: ops.Graph) -> set[str]:
    """Names of all tensors that a graph reads."""
    return {name for op in graph.ops for weight in op.weights() for name in weight.tensors}


@dataclass(frozen=True)
class Result:
    """Outputs of one step, None where the graph has none."""

    logits: Array | None
    hidden: Array | None
    pooled: Array | None


@dataclass
class _Cache:
    """Keys and values of one layer: one row per token seen so far, of any sequence."""

    keys: Array
    values: Array
    positions: Array
    slots: Array


class Interpreter:
    """A graph with its weights and the KV cache of the sequences that went through it."""

    def __init__(
        self, graph: ops.Graph, tensors: Mapping[str, Array], dtype: Any = np.float64
    ) -> None:
        self.graph = graph
        self.dtype = dtype
        self._tensors = {name: array.astype(dtype) for name, array in tensors.items()}
        self.adapters: dict[int, tuple[int, float]] = {}
        """Slot -> number and strength of its adapter."""
        self._caches: dict[int, _Cache] = {}
        self._values: dict[ops.Value, Array] = {}
        self._step: tuple[Array, Array, Array, Array] | None = None

    def run(
        self,
        ids: Sequence[int],
        positions: Sequence[int] | None = None,
        slots: Sequence[int] | None = None,
        outputs: Sequence[int] | None = None,
    ) -> Result:
        """Run one step.

        ``positions`` default to 0, 1, ...; ``slots`` (the sequence of each token) to 0; ``outputs``
        (rows whose logits are wanted) to all.
        """
        count = len(ids)
        self._step = (
            np.asarray(ids),
            np.arange(count) if positions is None else np.asarray(positions),
            np.zeros(count, int) if slots is None else np.asarray(slots),
            np.arange(count) if outputs is None else np.asarray(outputs),
        )
        self._values = {}
        for op in self.graph.ops:
            getattr(self, "_" + type(op).__name__)(op)
        ends = (self.graph.logits, self.graph.hidden, self.graph.pooled)
        return Result(*(None if end is None else self._get(end) for end in ends))

    # -- values and weights ----------------------------------------------------------------------

    def _get(self, value: ops.Value) -> Array:
        stored = self._values[value.storage]
        return stored[:, value.start : value.start + value.width]

    def _put(self, value: ops.Value, array: Array) -> None:
        assert value.base is None, f"{value.name} is a view"
        assert array.shape[1] == value.width, f"{value.name}: {array.shape}"
        self._values[value] = array

    def _matrix(self, weight: ops.Weight) -> Array:
        parts = [self._tensors[name] for name in weight.tensors]
        if weight.rows == 1:
            return np.concatenate([part.reshape(1, -1) for part in parts], axis=1)
        return np.concatenate(parts, axis=0).reshape(weight.rows, weight.columns)

    def _vector(self, weight: ops.Weight) -> Array:
        return np.concatenate([self._tensors[name].reshape(-1) for name in weight.tensors])

    def _normed(self, x: Array, norm: ops.NormSpec) -> Array:
        grouped = x.reshape(x.shape[0], -1, norm.group)
        if norm.center:
            grouped = grouped - grouped.mean(axis=2, keepdims=True)
        grouped = grouped / np.sqrt((grouped**2).mean(axis=2, keepdims=True) + norm.epsilon)
        out = grouped.reshape(x.shape)
        if norm.weight is not None:
            weight = self._vector(norm.weight) + norm.weight_offset
            out = out * np.tile(weight, x.shape[1] // weight.size)
        if norm.bias is not None:
            bias = self._vector(norm.bias)
            out = out + np.tile(bias, x.shape[1] // bias.size)
        return out

    def _rotated(self, x: Array, table: ops.RopeTable | None, head_size: int) -> Array:
        if table is None:
            return x
        assert self._step is not None
        heads = x.reshape(x.shape[0], -1, head_size).copy()
        angles = self._step[1][:, None] * np.asarray(table.frequencies)[None, :]
        cosine = (np.cos(angles) * table.magnitude)[:, None, :].astype(self.dtype)
        sine = (np.sin(angles) * table.magnitude)[:, None, :].astype(self.dtype)
        pairs = len(table.frequencies)
        if table.interleaved:
            first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        else:
            first, second = slice(0, pairs), slice(pairs, 2 * pairs)
        a, b = heads[:, :, first].copy(), heads[:, :, second].copy()
        heads[:, :, first] = a * cosine - b * sine
        heads[:, :, second] = a * sine + b * cosine
        return heads.reshape(x.shape)

    # -- ops -------------------------------------------------------------------------------------

    def _Embed(self, op: ops.Embed) -> None:
        assert self._step is not None
        index = self._step[0] if op.index == "ids" else self._step[1]
        self._put(op.out, self._matrix(op.table)[index] * op.scale)

    def _Norm(self, op: ops.Norm) -> None:
        out = self._normed(self._get(op.x), op.norm)
        self._put(op.out, out if op.residual is None else out + self._get(op.residual))

    def _Linear(self, op: ops.Linear) -> None:
        x = self._get(op.x)
        if op.delta is not None:
            assert op.post_norm is not None
            x = x + self._normed(self._get(op.delta), op.post_norm)
            if op.out_x is not None:
                self._put(op.out_x, x)
        if op.norm is not None:
            assert op.norm.group == op.x.width
            x = self._normed(x, op.norm)
        y = x @ self._matrix(op.weight).T
        if op.bias is not None:
            y = y + self._vector(op.bias)
        y = _activated(y, op.activation, op.gated) * op.scale
        if op.row_gate is not None:
            y = y * ACTIVATIONS["sigmoid"](self._get(op.row_gate))
        if op.residual is not None:
            y = y + self._get(op.residual)
        if op.softcap:
            y = op.softcap * np.tanh(y / op.softcap)
        self._put(op.out, y)

    def _Rope(self, op: ops.Rope) -> None:
        self._put(op.out, self._rotated(self._get(op.x), op.table, op.head_size))

    def _KvWrite(self, op: ops.KvWrite) -> None:
        self._store(op.layer, self._get(op.key), self._get(op.value))

    def _store(self, layer: int, keys: Array, values: Array) -> None:
        assert self._step is not None
        _, positions, slots, _ = self._step
        new = _Cache(keys, values, positions, slots)
        old = self._caches.get(layer)
        if old is not None:
            new = _Cache(
                np.concatenate([old.keys, keys]),
                np.concatenate([old.values, values]),
                np.concatenate([old.positions, positions]),
                np.concatenate([old.slots, slots]),
            )
        self._caches[layer] = new

    def _QkvPrepare(self, op: ops.QkvPrepare) -> None:
        q, k = self._get(op.q), self._get(op.k)
        if op.q_norm is not None:
            q = self._normed(q, op.q_norm)
        if op.k_norm is not None:
            k = self._normed(k, op.k_norm)
        self._put(op.out, self._rotated(q, op.table, op.head_size))
        self._store(op.layer, self._rotated(k, op.table, op.head_size), self._get(op.v))

    def _Attention(self, op: ops.Attention) -> None:
        assert self._step is not None
        _, positions, slots, _ = self._step
        cache = self._caches[op.layer]
        count = len(positions)
        group = op.heads // op.kv_heads
        q = self._get(op.q).reshape(count, op.kv_heads, group, op.head_size)
        k = cache.keys.reshape(-1, op.kv_heads, op.head_size)
        v = cache.values.reshape(-1, op.kv_heads, op.value_size)
        scores = np.einsum("tkge,ske->tkgs", q, k) * op.scale
        if op.softcap:
            scores = op.softcap * np.tanh(scores / op.softcap)
        distance = positions[:, None] - cache.positions[None, :]
        seen = slots[:, None] == cache.slots[None, :]
        if op.causal:
            seen &= distance >= 0
        if op.window:
            seen &= distance < op.window
        assert not op.alibi, "no architecture here uses it"
        scores = np.where(seen[:, None, None, :], scores, -np.inf)
        top = scores.max(axis=3, keepdims=True)
        if op.sinks is not None:
            sinks = self._vector(op.sinks).reshape(1, op.kv_heads, group, 1)
            top = np.maximum(top, sinks)
        weights = np.exp(scores - top)
        total = weights.sum(axis=3, keepdims=True)
        if op.sinks is not None:
            total = total + np.exp(sinks - top)
        out = np.einsum("tkgs,ske->tkge", weights / total, v)
        self._put(op.out, out.reshape(count, -1))

    def _Add(self, op: ops.Add) -> None:
        self._put(op.out, self._get(op.x) + op.scale * self._get(op.y))

    def _AddRow(self, op: ops.AddRow) -> None:
        self._put(op.out, self._get(op.x) + self._matrix(op.row)[0])

    def _Scale(self, op: ops.Scale) -> None:
        self._put(op.out, op.factor * self._get(op.x))

    def _Activate(self, op: ops.Activate) -> None:
        out = ACTIVATIONS[op.activation](self._get(op.x))
        self._put(op.out, out if op.up is None else out * self._get(op.up))

    def _Route(self, op: ops.Route) -> None:
        logits = self._get(op.logits)
        scores = ACTIVATIONS["sigmoid"](logits) if op.gating == "sigmoid" else logits
        if op.gating == "softmax":
            scores = _softmax(logits)
        chosen = np.argsort(-scores, axis=1, kind="stable")[:, : op.used]
        weights = np.take_along_axis(scores, chosen, axis=1)
        if op.gating == "softmax_after_top":
            weights = _softmax(weights)
        if op.normalise:
            # The floor is llama.cpp's: the smallest normal half-precision number.
            weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 2.0**-14)
        self._put(op.out_experts, chosen)
        self._put(op.out_weights, weights * op.scale)

    def _ExpertLinear(self, op: ops.ExpertLinear) -> None:
        chosen, x = self._get(op.experts), self._get(op.x)
        if op.norm is not None:
            assert not op.per_expert_input
            x = self._normed(x, op.norm)
        matrix = self._matrix(op.weight)
        if op.gated and op.gate_then_up:
            halves = matrix.reshape(2, -1, op.expert_rows, op.weight.columns)
            matrix = np.concatenate([halves[0], halves[1]], axis=1)
        else:
            matrix = matrix.reshape(-1, op.expert_rows, op.weight.columns)
        out = []
        for token in range(len(x)):
            inputs = (
                x[token].reshape(op.used, -1)
                if op.per_expert_input
                else np.tile(x[token], (op.used, 1))
            )
            for column, expert in enumerate(chosen[token]):
                y = (matrix[expert] @ inputs[column])[None]
                out.append(_activated(y, op.activation, op.gated)[0])
        self._put(op.out, np.asarray(out).reshape(len(x), -1))

    def _Combine(self, op: ops.Combine) -> None:
        y = self._get(op.y).reshape(-1, op.used, op.out.width)
        out = (y * self._get(op.weights_of)[:, :, None]).sum(axis=1)
        self._put(op.out, out if op.residual is None else out + self._get(op.residual))

    def _Adapters(self, op: ops.Adapters) -> None:
        assert self._step is not None
        chosen = [self.adapters.get(int(slot), (0, 0.0)) for slot in self._step[2]]
        self._put(op.out_which, np.asarray([[number] for number, _ in chosen]))
        self._put(op.out_strength, np.asarray([[strength] for _, strength in chosen]))

    def _GateRows(self, op: ops.GateRows) -> None:
        out = self._get(op.x) * ACTIVATIONS["sigmoid"](self._get(op.gate))
        self._put(op.out, out if op.residual is None else out + self._get(op.residual))

    def _TakeOutputs(self, op: ops.TakeOutputs) -> None:
        assert self._step is not None
        self._put(op.out, self._get(op.x)[self._step[3]])

    def _Pool(self, op: ops.Pool) -> None:
        assert self._step is not None
        slots, x, rows = self._step[2], self._get(op.x), []
        for slot in np.unique(slots):
            own = x[slots == slot]
            rows.append({"mean": own.mean(axis=0), "cls": own[0], "last": own[-1]}[op.kind])
        out = np.asarray(rows)
        if op.normalise:
            out = out / np.linalg.norm(out, axis=1, keepdims=True)
        self._put(op.out, out)


def _activated(y: Array, activation: str | None, gated: bool) -> Array:
    if not gated:
        return y if activation is None else ACTIVATIONS[activation](y)
    half = y.shape[1] // 2
    gate = y[:, :half] if activation is None else ACTIVATIONS[activation](y[:, :half])
    return gate * y[:, half:]


def _softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
