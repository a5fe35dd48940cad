"""The network: Qwen3's architecture in a few lines of PyTorch.

RMSNorm before attention and before SwiGLU, RMSNorm on each query and key head, rotary positions
(NeoX halves), grouped key/value heads, tied embedding.  It knows nothing of tokens' meaning, data
or files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch.nn import functional

from .config import Config


@cache
def has_fast_bf16(device: str) -> bool:
    """Whether bf16 matrix products pay on this machine.

    Measured: a CPU without the instructions for them is 50 times slower than in f32.
    """
    if device != "cpu":
        return True
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.ones(256, 256, dtype=kind), torch.ones(256, 256, dtype=kind)
        left @ right
        begun = time.perf_counter()
        for _ in range(4):
            left @ right
        seconds[kind] = time.perf_counter() - begun
    return seconds[torch.bfloat16] < seconds[torch.float32]


def fuse() -> None:
    """From now on compile the layers: one C++ loop for what lies between two matrix products.

    Where matrix products are fast (AMX: 1,000 GFLOP/s a core) everything else takes four fifths of
    the time; fused, both cores learn 10,800 instead of 8,600 tokens a second.  Compiled loops hold
    Python's lock, so threads share each loop and not the micro-batches.
    """
    dynamo.recompile_limit = 64
    for part in (Block.attend, Block.finish):
        _fused[part] = torch.compile(part, dynamic=True)


_fused: dict[Callable[..., Tensor], Callable[..., Tensor]] = {}


def _compiled(part: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return _fused.get(part, part)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """f32 or bf16 [..., D] -> f32[..., D]."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on f32[B, N, T, E]; the two halves of a head form the pairs (NeoX order)."""
    left, right = x.chunk(2, -1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)


class Block(nn.Module):
    """One decoder layer.  Query, key and value are one matrix; so are gate and up."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.attention_norm = RMSNorm(c.width, c.epsilon)
        self.qkv = nn.Linear(c.width, (c.heads + 2 * c.kv_heads) * c.head_size, bias=False)
        self.query_norm = RMSNorm(c.head_size, c.epsilon)
        self.key_norm = RMSNorm(c.head_size, c.epsilon)
        self.output = nn.Linear(c.heads * c.head_size, c.width, bias=False)
        self.feed_forward_norm = RMSNorm(c.width, c.epsilon)
        self.gate_up = nn.Linear(c.width, 2 * c.feed_forward, bias=False)
        self.down = nn.Linear(c.feed_forward, c.width, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor,
        cache: list[Tensor] | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """f32[B, T, D] -> f32[B, T, D]; mask f32[T, S]; cache: [] or [keys, values] so far.

        With ``wanted``, bool[B, T]: f32[W, D], only what stands there.
        """
        mixed = _compiled(Block.attend)(self, x, cos, sin, mask, cache)
        if wanted is not None:
            x, mixed = x[wanted][None], mixed[wanted][None]
        x = _compiled(Block.finish)(self, x, mixed)
        return x if wanted is None else x[0]

    def attend(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, cache: list[Tensor] | None
    ) -> Tensor:
        """What the heads bring together, f32 or bf16 [B, T, HE], not yet projected."""
        c = self.c
        batch, length, _ = x.shape
        heads = (
            self.qkv(self.attention_norm(x)).view(batch, length, -1, c.head_size).transpose(1, 2)
        )
        query, key, value = heads.split((c.heads, c.kv_heads, c.kv_heads), 1)
        query = (rotate(self.query_norm(query), cos, sin) * c.head_size**-0.5).to(value.dtype)
        key = rotate(self.key_norm(key), cos, sin).to(value.dtype)
        if cache is not None:
            if cache:
                key, value = torch.cat((cache[0], key), 2), torch.cat((cache[1], value), 2)
            cache[:] = [key, value]
        # Written out because PyTorch's flash kernel takes twice as long on a CPU at these lengths.
        groups = c.heads // c.kv_heads
        query = query.reshape(batch, c.kv_heads, groups * length, c.head_size)
        scores = (query @ key.transpose(-1, -2)).view(batch, c.kv_heads, groups, length, -1)
        with torch.autocast(x.device.type, enabled=False):
            weights = torch.softmax(scores + mask.to(scores.dtype), -1)
        mixed = weights.view(batch, c.kv_heads, groups * length, -1) @ value
        return (
            mixed.view(batch, c.heads, length, c.head_size)
            .transpose(1, 2)
            .reshape(batch, length, -1)
        )

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """f32[B, T, D]: what the heads brought and the feed-forward part added to x."""
        x = x + self.output(mixed)
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Model(nn.Module):
    """Token ids to hidden states; :meth:`logits` turns the wanted ones into scores."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.epsilon)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                depth = (
                    (2 * config.layers) ** -0.5
                    if name.endswith(("output.weight", "down.weight"))
                    else 1.0
                )
                nn.init.normal_(
                    weight,
                    std=0.02 if "embedding" in name else depth * weight.shape[1] ** -0.5 * 0.7,
                )

    def forward(
        self,
        ids: Tensor,
        caches: list[list[Tensor]] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """i64[B, T] -> f32[B, T, D]; with caches, positions go on after what they hold.

        With ``wanted``, bool[B, T]: f32[W, D], and the last layer computes only these (a tenth of
        the work less where a third of the tokens is learned).
        """
        c = self.config
        past = caches[0][0].shape[2] if caches and caches[0] else 0
        length = ids.shape[1]
        positions = torch.arange(past, past + length, device=ids.device, dtype=torch.float32)
        rates = c.rope_base ** (
            -torch.arange(0, c.head_size, 2, device=ids.device, dtype=torch.float32) / c.head_size
        )
        angles = torch.outer(positions, rates)
        seen = torch.arange(past + length, device=ids.device)[None, :] <= positions[:, None]
        mask = torch.zeros(length, past + length, device=ids.device).masked_fill(
            ~seen, float("-inf")
        )
        x = self.embedding(ids)
        for index, block in enumerate(self.blocks):
            last = index + 1 == len(self.blocks)
            x = block(
                x,
                angles.cos(),
                angles.sin(),
                mask,
                caches[index] if caches is not None else None,
                wanted if last else None,
            )
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """f32[..., D] -> [..., V] with the tied embedding."""
        return functional.linear(hidden, self.embedding.weight)

    @torch.no_grad()
    def generate(self, prompt: list[int], stop: set[int], limit: int) -> list[int]:
        """Greedy continuation of one prompt, without the stop token."""
        caches: list[list[Tensor]] = [[] for _ in self.blocks]
        device = self.embedding.weight.device
        ids = torch.tensor([prompt], device=device)
        out: list[int] = []
        while len(out) < limit:
            chosen = int(self.logits(self(ids, caches)[0, -1]).argmax())
            if chosen in stop:
                break
            out.append(chosen)
            ids = torch.tensor([[chosen]], device=device)
        return out
