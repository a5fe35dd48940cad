"""Numpy twins of the kernels that multiply by no weights: same names, float64, plain loops.

A paged cache is a dict from (slot, position) to a row here: the page table is the kernel's affair.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tilewright.graph.ops import RopeTable

Array = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def norm(
    x: Array,
    *,
    group: int,
    epsilon: float,
    center: bool = False,
    weight: Array | None = None,
    bias: Array | None = None,
    weight_offset: float = 0.0,
    residual: Array | None = None,
) -> Array:
    """``f64[rows, width]``: RMS or layer norm over groups of columns."""
    rows, width = x.shape
    grouped = x.astype(np.float64).reshape(rows, width // group, group)
    if center:
        grouped = grouped - grouped.mean(axis=-1, keepdims=True)
    y = grouped / np.sqrt((grouped**2).mean(axis=-1, keepdims=True) + epsilon)
    y = y.reshape(rows, width)
    if weight is not None:
        y = y * (np.resize(weight, width) + weight_offset)
    if bias is not None:
        y = y + np.resize(bias, width)
    return y if residual is None else y + residual


def rope(x: Array, positions: NDArray[np.uint32], table: RopeTable, head_size: int) -> Array:
    """``f64[T, heads * head_size]``: each head rotated by the token's position."""
    tokens, width = x.shape
    heads = x.astype(np.float64).reshape(tokens, width // head_size, head_size)
    y = heads.copy()
    pairs = len(table.frequencies)
    angles = positions[:, None].astype(np.float64) * np.array(table.frequencies)
    cos = table.magnitude * np.cos(angles)[:, None, :]
    sin = table.magnitude * np.sin(angles)[:, None, :]
    if table.interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    y[..., first] = heads[..., first] * cos - heads[..., second] * sin
    y[..., second] = heads[..., first] * sin + heads[..., second] * cos
    return y.reshape(tokens, width)


def attention(
    q: Array,
    keys: dict[int, Array],
    values: dict[int, Array],
    positions: NDArray[np.uint32],
    slots: NDArray[np.uint32],
    *,
    heads: int,
    kv_heads: int,
    scale: float,
    causal: bool = True,
    window: int = 0,
    softcap: float = 0.0,
    sinks: Array | None = None,
) -> Array:
    """``f64[T, heads * value_size]``; ``keys[slot]: f64[length, kv_heads * head_size]``."""
    tokens = len(q)
    head_size = q.shape[1] // heads
    out = []
    for t in range(tokens):
        k, v = keys[int(slots[t])], values[int(slots[t])]
        p = int(positions[t])
        first = max(0, p + 1 - window) if window else 0
        end = p + 1 if causal else len(k)
        k = k[first:end].astype(np.float64).reshape(end - first, kv_heads, head_size)
        v = v[first:end].astype(np.float64).reshape(end - first, kv_heads, -1)
        for h in range(heads):
            group = h // (heads // kv_heads)
            query = q[t, h * head_size : (h + 1) * head_size].astype(np.float64)
            scores = scale * (k[:, group] @ query)
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            extra = [] if sinks is None else [sinks[h]]
            highest = max([*scores, *extra])
            weights = np.exp(scores - highest)
            total = weights.sum() + sum(np.exp(s - highest) for s in extra)
            out.append(weights @ v[:, group] / total)
    return np.array(out).reshape(tokens, -1)


def activate(x: Array, activation: str, up: Array | None = None) -> Array:
    """``activation(x)``, times ``up`` where given."""
    x = x.astype(np.float64)
    sigmoid = 1.0 / (1.0 + np.exp(-np.clip(x, -700, 700)))
    y = {
        "silu": lambda: x * sigmoid,
        "gelu": lambda: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "gelu_erf": lambda: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
        "relu": lambda: np.maximum(x, 0),
        "relu2": lambda: np.maximum(x, 0) ** 2,
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: sigmoid,
    }[activation]()
    return y if up is None else y * up


def gate_rows(x: Array, gate: Array, residual: Array | None = None) -> Array:
    """``x * sigmoid(gate)`` with one gate per row."""
    y = x * activate(gate.reshape(-1, 1), "sigmoid")
    return y if residual is None else y + residual


def combine(y: Array, weights: Array, residual: Array | None = None) -> Array:
    """``f64[T, width]``: weighted sum of the chosen experts' outputs ``[T, used * width]``."""
    tokens, used = weights.shape
    total = (y.reshape(tokens, used, -1) * weights[:, :, None]).sum(axis=1)
    return total if residual is None else total + residual


def route(
    logits: Array, used: int, *, gating: str, normalise: bool, scale: float
) -> tuple[NDArray[np.uint32], Array]:
    """(``u32[T, used]`` experts by falling score, ``f64[T, used]`` weights)."""
    logits = logits.astype(np.float64)
    scores = logits
    if gating == "softmax":
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    elif gating == "sigmoid":
        scores = activate(logits, "sigmoid")
    experts = np.argsort(-logits, axis=1, kind="stable")[:, :used].astype(np.uint32)
    weights = np.take_along_axis(scores, experts.astype(np.int64), axis=1)
    if gating == "softmax_after_top":
        weights = np.exp(weights - weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
    if normalise:
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 2.0**-14)
    return experts, weights * scale


def pool(x: Array, slots: NDArray[np.uint32], kind: str, *, normalise: bool) -> Array:
    """``f64[B, width]``: mean, first or last row of each run of equal slots."""
    starts = [t for t in range(len(slots)) if t == 0 or slots[t] != slots[t - 1]]
    ends = [*starts[1:], len(slots)]
    rows = []
    for start, end in zip(starts, ends, strict=True):
        run = x[start:end].astype(np.float64)
        y = {"mean": run.mean(axis=0), "cls": run[0], "last": run[-1]}[kind]
        length = math.sqrt(float((y**2).sum()))
        rows.append(y / length if normalise and length > 0 else y)
    return np.array(rows)
