"""The model's shapes, for training (PyTorch) and for the exporter (numpy)."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Config:
    """Shapes; the letters are those of the project: D, H, K, E, F, V, L."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    feed_forward: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-6

    def as_dict(self) -> dict[str, float]:
        """Plain values, for checkpoints and metadata."""
        return asdict(self)
