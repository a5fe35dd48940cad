"""Makes models of real shapes with random weights, for benchmarks.

S is SmolLM2-135M (llama), M is Qwen2.5-0.5B (qwen2), shapes for which the rivals' speed is known; E
is a small mixture of experts, with routers that like all experts alike.
Weights are random blocks with scales that keep activations finite; the text means nothing, the work
is the same. Run: ``python tests/bench/random_models.py FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]

from tests.reference.gguf_writer import write_gguf  # noqa: E402

from tilewright.formats.quant import BY_NAME, F32, QuantType  # noqa: E402


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder."""

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    bias: bool
    rope_base: float
    experts: int = 0
    used: int = 0


SHAPES = {
    "S": Shape("llama", 30, 576, 9, 3, 1536, 49152, False, 100000.0),
    "E": Shape("llama", 12, 512, 8, 4, 256, 32768, False, 100000.0, experts=32, used=4),
    "M": Shape("qwen2", 24, 896, 14, 2, 4864, 151936, True, 1000000.0),
}

_SCALE_BYTES = {"Q4_0": (0,), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,), "Q5_0": (0,)}
"""Where a block's f16 scales are."""


def random_blocks(
    rng: np.random.Generator, quant: QuantType, rows: int, columns: int
) -> np.ndarray:
    """Return uint8 blocks whose weights are of the order of 0.02."""
    if quant.name == "F32":
        return rng.normal(0, 0.02, (rows, columns)).astype(np.float32).view(np.uint8)
    if quant.name == "F16":
        return rng.normal(0, 0.02, (rows, columns)).astype(np.float16).view(np.uint8)
    blocks = rng.integers(0, 256, (rows * columns // quant.block, quant.nbytes), dtype=np.uint8)
    scale = {"Q8_0": 2e-4, "Q4_K": 5e-5, "Q6_K": 1e-5}.get(quant.name, 3e-3)
    for at in _SCALE_BYTES[quant.name]:
        blocks[:, at : at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return blocks


def make(
    path: Path,
    shape: Shape,
    matrix: str,
    embedding: str,
    words: Mapping[str, Any] | None = None,
) -> None:
    """Write one model; the tied embedding may have another format.

    ``words``: the metadata of a tokenizer; None: one of bytes.
    """
    rng = np.random.default_rng(1)
    s, name = shape, shape.architecture
    head = s.width // s.heads
    metadata = {
        "general.architecture": name,
        "general.name": f"random {path.stem}",
        f"{name}.block_count": s.layers,
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": s.width,
        f"{name}.feed_forward_length": s.feed_forward,
        f"{name}.attention.head_count": s.heads,
        f"{name}.attention.head_count_kv": s.kv_heads,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{name}.rope.freq_base": s.rope_base,
        f"{name}.rope.dimension_count": head,
    }
    if s.experts:
        metadata |= {f"{name}.expert_count": s.experts, f"{name}.expert_used_count": s.used}
    metadata |= words or {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        # Every byte, then fillers: enough for a prompt of any text.
        "tokenizer.ggml.tokens": _byte_tokens() + [f"<{i}>" for i in range(256, s.vocabulary)],
        "tokenizer.ggml.token_type": [1] * s.vocabulary,
        "tokenizer.ggml.merges": ["a b"],
    }
    tensors = {}

    def matrix_of(key: str, rows: int, columns: int, kind: str = matrix) -> None:
        quant = BY_NAME[kind]
        if columns % quant.block:  # as llama-quantize does for K formats on narrow rows
            quant = BY_NAME["Q5_0" if kind == "Q4_K" else "Q8_0"]
        tensors[key] = (random_blocks(rng, quant, rows, columns).tobytes(), (rows, columns), quant)

    def experts_of(key: str, rows: int, columns: int) -> None:
        data = random_blocks(rng, BY_NAME[matrix], s.experts * rows, columns).tobytes()
        tensors[key] = (data, (s.experts, rows, columns), BY_NAME[matrix])

    def vector(key: str, size: int, value: float) -> None:
        tensors[key] = (np.full(size, value, np.float32), (size,), F32)

    matrix_of("token_embd.weight", s.vocabulary, s.width, embedding)
    vector("output_norm.weight", s.width, 1.0)
    for layer in range(s.layers):
        b = f"blk.{layer}."
        vector(b + "attn_norm.weight", s.width, 1.0)
        for part, rows in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads)):
            matrix_of(f"{b}attn_{part}.weight", rows * head, s.width)
            if s.bias:
                vector(f"{b}attn_{part}.bias", rows * head, 0.01)
        matrix_of(b + "attn_output.weight", s.width, s.width)
        vector(b + "ffn_norm.weight", s.width, 1.0)
        if s.experts:
            matrix_of(b + "ffn_gate_inp.weight", s.experts, s.width, "F32")
        for part, rows, columns in (
            ("gate", s.feed_forward, s.width),
            ("up", s.feed_forward, s.width),
            ("down", s.width, s.feed_forward),
        ):
            if s.experts:
                experts_of(f"{b}ffn_{part}_exps.weight", rows, columns)
            else:
                matrix_of(f"{b}ffn_{part}.weight", rows, columns)
    write_gguf(path, metadata, tensors)


def _byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def make_all(folder: Path, names: tuple[str, ...] = ("S", "M")) -> list[Path]:
    """Write the models of the given shapes that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names:
        for matrix, embedding in (("Q4_0", "Q8_0"), ("Q4_K", "Q8_0"), ("Q8_0", "Q8_0")):
            path = folder / f"{name}.{matrix}.gguf"
            if not path.exists():
                make(path, SHAPES[name], matrix, embedding)
            made.append(path)
    return made


if __name__ == "__main__":
    for made in make_all(Path(sys.argv[1]), tuple(sys.argv[2:]) or ("S", "M")):
        print(made, made.stat().st_size)
