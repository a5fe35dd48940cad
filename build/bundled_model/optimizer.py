"""Muon for the matrices, AdamW for embedding and norms.

Muon (Keller Jordan, 2024, "Muon: an optimizer for hidden layers in neural networks"): the
momentum of a matrix is replaced by the nearest orthogonal one, found by a quintic Newton-Schulz
iteration with the coefficients of that note.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from .model import Model, has_fast_bf16

MATRIX_RATE = 0.02
VECTOR_RATE = 0.003
MOMENTUM = 0.95
MATRIX_DECAY = 0.02


def orthogonalize(stack: Tensor) -> Tensor:
    """f32[N, R, C] with R <= C to about the nearest matrices with orthonormal rows."""
    x = stack.bfloat16() if has_fast_bf16(stack.device.type) else stack
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.float()


class Optimizer:
    """Steps all parameters of a :class:`Model`; ``scale`` multiplies both learning rates."""

    def __init__(self, model: Model) -> None:
        self.matrices = [
            p for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name
        ]
        c = model.config
        sizes = {
            "qkv": [c.heads * c.head_size, c.kv_heads * c.head_size, c.kv_heads * c.head_size],
            "gate_up": [c.feed_forward, c.feed_forward],
        }
        self.splits = [
            next((sizes[key] for key in sizes if key in name), [p.shape[0]])
            for name, p in model.named_parameters()
            if p.dim() == 2 and "embedding" not in name
        ]
        vectors = [p for name, p in model.named_parameters() if p.dim() == 1 or "embedding" in name]
        self.adam = torch.optim.AdamW(
            vectors, lr=VECTOR_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self.momentum = [torch.zeros_like(p) for p in self.matrices]

    @torch.no_grad()
    def step(self, scale: float, workers: ThreadPoolExecutor | None = None) -> None:
        """One update from the gradients in place, which are cleared; ``workers`` share the work."""
        for group in self.adam.param_groups:
            group["lr"] = VECTOR_RATE * scale
        self.adam.step()
        self.adam.zero_grad()
        stacks: defaultdict[torch.Size, list[tuple[Tensor, Tensor, bool]]] = defaultdict(list)
        for weight, momentum, split in zip(self.matrices, self.momentum, self.splits, strict=True):
            assert weight.grad is not None
            momentum.lerp_(weight.grad, 1 - MOMENTUM)
            update = weight.grad.lerp(momentum, MOMENTUM)
            weight.grad = None
            weight.mul_(1 - MATRIX_RATE * scale * MATRIX_DECAY)
            for part, target in zip(update.split(split), weight.split(split), strict=True):
                tall = part.shape[0] > part.shape[1]
                wide = part.mT if tall else part
                stacks[wide.shape].append((wide, target, tall))
        groups = [
            entries[first : first + (2 if workers else len(entries))]
            for entries in stacks.values()
            for first in range(0, len(entries), 2 if workers else len(entries))
        ]
        gathered = [torch.stack([wide for wide, _, _ in entries]) for entries in groups]
        updates = (workers.map if workers else map)(orthogonalize, gathered)
        for entries, done in zip(groups, updates, strict=True):
            for update, (_, target, tall) in zip(done, entries, strict=True):
                factor = max(1.0, target.shape[0] / target.shape[1]) ** 0.5
                target.sub_(update.mT if tall else update, alpha=MATRIX_RATE * scale * factor)

    def state_dict(self) -> dict[str, object]:
        """Everything needed to go on."""
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        for mine, saved in zip(self.momentum, state["momentum"], strict=True):  # type: ignore[arg-type]
            mine.copy_(saved)
