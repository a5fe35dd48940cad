"""Matrices quantized and packed as GPTQ's and AWQ's tools do, for tests; in numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.safetensors_writer import Tensor, array_tensor, safetensors_bytes

from tilewright.formats.safetensors import read_safetensors
from tilewright.formats.source import FileSource

Integers = NDArray[np.int64]
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


@dataclass(frozen=True)
class Way:
    """How to quantize."""

    method: str
    group: int
    """-1: whole rows."""
    sym: bool = False
    act_order: bool = False
    version: str = "gptq"

    @property
    def config(self) -> dict[str, Any]:
        """The ``quantization_config``."""
        common = {"quant_method": self.method, "bits": 4, "group_size": self.group}
        if self.method == "awq":
            return {**common, "zero_point": True, "version": "gemm"}
        return {
            **common,
            **{"sym": self.sym, "desc_act": self.act_order, "checkpoint_format": self.version},
        }


def pack(values: Integers, axis: int, order: list[int]) -> Tensor:
    """Put eight codes along an axis into each I32, the i-th that of ``order[i]``."""
    moved = np.moveaxis(values, axis, -1)
    eights = moved.reshape(*moved.shape[:-1], -1, 8)
    words = sum(eights[..., column] << 4 * place for place, column in enumerate(order))
    packed = np.ascontiguousarray(np.moveaxis(words, -1, axis).astype(np.uint32))
    return "I32", packed.shape, packed.tobytes()


def quantized(
    weights: NDArray[Any], way: Way, generator: np.random.Generator
) -> tuple[dict[str, Tensor], NDArray[np.float64]]:
    """Return the parts of ``[N, K]`` by the end of their names, and what they stand for."""
    rows, columns = weights.shape
    group = columns if way.group == -1 else way.group
    index = np.arange(columns) // group
    if way.act_order:
        index = generator.permutation(index)
    codes = np.empty((columns, rows), np.int64)
    scales = np.empty((columns // group, rows), np.float16)
    zeros = np.empty((columns // group, rows), np.int64)
    for number in range(columns // group):
        part = weights[:, index == number].astype(np.float64)
        low, high = part.min(axis=1), part.max(axis=1)
        if way.sym:
            scales[number] = np.maximum(-low, high) / 7.5
            zeros[number] = 8
        else:
            scales[number] = (high - low) / 15
            # GPTQ's smallest zero is 1: it is stored less one
            least = 1 if way.method == "gptq" and way.version == "gptq" else 0
            zeros[number] = np.rint(-low / scales[number]).clip(least, least + 15)
        steps = part / scales[number].astype(np.float64)[:, None] + zeros[number][:, None]
        codes[index == number] = np.rint(steps).clip(0, 15).astype(np.int64).T
    exact = (codes - zeros[index]) * scales.astype(np.float64)[index]
    parts = {"scales": array_tensor(scales)}
    if way.method == "awq":
        parts["qweight"], parts["qzeros"] = (pack(v, 1, AWQ_ORDER) for v in (codes, zeros))
    else:
        straight = list(range(8))
        stored = zeros - (way.version == "gptq")
        parts["qweight"], parts["qzeros"] = pack(codes, 0, straight), pack(stored, 1, straight)
        parts["g_idx"] = ("I32", (columns,), index.astype(np.int32).tobytes())
    return parts, exact.T


async def quantize_folder(folder: Path, way: Way) -> dict[str, NDArray[np.float64]]:
    """Quantize the projections of a published model in place; return them by their names there."""
    path = folder / "model.safetensors"
    source = FileSource(path)
    generator = np.random.default_rng(7)
    tensors: dict[str, Tensor] = {}
    exact = {}
    for name, raw in (await read_safetensors(source)).items():
        data = await source.read(raw.offset, raw.nbytes)
        stem = name.removesuffix(".weight")
        if not stem.endswith("_proj"):
            tensors[name] = (raw.dtype, raw.shape, data)
            continue
        values = np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[raw.dtype])
        parts, exact[name] = quantized(values.reshape(raw.shape), way, generator)
        tensors |= {f"{stem}.{part}": tensor for part, tensor in parts.items()}
    source.close()
    path.write_bytes(safetensors_bytes(tensors))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": way.config}))
    return exact
