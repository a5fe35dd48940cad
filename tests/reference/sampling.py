"""The sampler in numpy: what the kernels of ``webgpu/kernels/sample.py`` must compute.

Scores are float32 and exactly reproducible; masses and log-probabilities are float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LOWEST = np.float32(-3.0e38)


@dataclass(frozen=True)
class Request:
    """The parameters of one row; names as in SamplingParams."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0
    mask: np.ndarray | None = None
    """bool[V]: allowed."""

    @property
    def greedy(self) -> bool:
        return self.temperature < 1e-4


def adjusted(
    logits: np.ndarray, request: Request, ids: Sequence[int] = (), prompt_length: int = 0
) -> np.ndarray:
    """f32[V]: penalties (repetition, frequency, presence), bias, temperature, mask."""
    y = logits.astype(np.float32).copy()
    prompt, answer = np.asarray(ids[:prompt_length], int), np.asarray(ids[prompt_length:], int)
    count = np.bincount(answer, minlength=len(y)).astype(np.float32)
    seen = count > 0
    seen[prompt] = True
    repetition = np.float32(request.repetition_penalty)
    y[seen] = np.where(y[seen] > 0, y[seen] / repetition, y[seen] * repetition)
    penalty = np.float32(request.frequency_penalty) * count + np.float32(request.presence_penalty)
    y = np.where(count > 0, y - penalty, y).astype(np.float32)
    for token, bias in request.logit_bias.items():
        y[token] += np.float32(bias)
    if not request.greedy:
        y = (y * np.float32(1.0 / request.temperature)).astype(np.float32)
    if request.mask is not None:
        y[~request.mask] = LOWEST
    return y


def candidates(y: np.ndarray, request: Request) -> np.ndarray:
    """bool[V]: what min_p, top_k and top_p leave; ids equal to the last one kept are kept too."""
    distance = (y.max() - y).astype(np.float32)
    limit = np.float32(1.0e38)
    if request.min_p > 0:
        limit = np.float32(-np.log(request.min_p))
    if 0 < request.top_k < len(y):
        limit = min(limit, np.sort(distance)[request.top_k - 1])
    if request.top_p < 1:
        inside = np.sort(distance[distance <= limit])
        mass = np.cumsum(np.exp(-inside.astype(np.float64)))
        cut = np.searchsorted(mass, request.top_p * mass[-1])
        limit = inside[min(cut, len(inside) - 1)]
    return distance <= limit


def pcg4d(key: np.ndarray) -> np.ndarray:
    """u32[4, ...]: Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020)."""
    with np.errstate(over="ignore"):
        x, y, z, w = key.astype(np.uint32) * np.uint32(1664525) + np.uint32(1013904223)
        for second in (False, True):
            x = x + y * w
            y = y + z * x
            z = z + x * y
            w = w + y * z
            if not second:
                x, y, z, w = (v ^ (v >> np.uint32(16)) for v in (x, y, z, w))
    return np.stack([x, y, z, w])


def gumbel(seed: int, position: int, vocabulary: int) -> np.ndarray:
    """f64[V]: the noise of every id at one position."""
    key = np.empty((4, vocabulary), np.uint32)
    key[0] = seed & 0xFFFFFFFF
    key[1] = seed >> 32 & 0xFFFFFFFF
    key[2] = position
    key[3] = np.arange(vocabulary)
    complement = (pcg4d(key)[0].astype(np.float64) + 0.5) / 2.0**32
    return -np.log(-np.log1p(-complement))


def perturbed(y: np.ndarray, request: Request, position: int) -> np.ndarray:
    """f64[V]: the scores of the draw; its argmax is the chosen id. -inf: may not be chosen."""
    if request.greedy:
        return np.where(y > LOWEST, y.astype(np.float64), -np.inf)
    keep = candidates(y, request) & (y > LOWEST)
    noise = gumbel(request.seed, position, len(y))
    return np.where(keep, y.astype(np.float64) + noise, -np.inf)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """f64[V]."""
    x = logits.astype(np.float64)
    x -= x.max()
    return x - np.log(np.exp(x).sum())
