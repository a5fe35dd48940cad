"""LoRA adapters: llama.cpp's GGUF adapters and PEFT folders -> low-rank pairs under GGUF's names.

An adapter changes a matrix W ``[N, K]`` to W + scale * B A, with A ``[r, K]`` and B ``[N, r]``.
Sources: llama.cpp's ``convert_lora_to_gguf.py`` (names ``X.lora_a``, ``X.lora_b``, key
``adapter.lora.alpha``), PEFT's ``LoraConfig`` and its checkpoint format. The files are untrusted.
"""

from __future__ import annotations

import math
import os
import re
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import FormatError, SourceError, UnsupportedModelError
from .floats import to_floats
from .gguf import read_gguf
from .hf_families import FAMILIES
from .hf_names import translate_name
from .json_file import read_json
from .model_file import ModelFile, TensorInfo
from .quant import BF16, F16, F32
from .safetensors import RawTensor, read_safetensors
from .shards import file_name
from .source import ByteSource, FileSource

FindFile = Callable[[str], Awaitable[ByteSource | None]]
MAX_RANK = 1024
_DTYPES = {"F32": F32, "F16": F16, "BF16": BF16}
_PEFT = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.\w+)?\.weight")
_ROTATED = re.compile(r"blk\.\d+\.attn_(q|k)\.weight")
_PERMUTED = ("llama", "granite", "granitemoe", "smollm3")
"""Architectures whose GGUF files interleave the halves of each head of queries and keys."""


@dataclass(frozen=True)
class LowRank:
    """The change of one matrix."""

    rank: int
    rows: int
    """N."""
    columns: int
    """K."""
    scale: float
    a: array[float]
    """``f32[rank, columns]``."""
    b: array[float]
    """``f32[rows, rank]``."""


@dataclass(frozen=True)
class LoraAdapter:
    """All changes of one adapter, by the name of the tensor that each changes."""

    name: str
    changes: dict[str, LowRank]

    @property
    def nbytes(self) -> int:
        """Bytes of all pairs in f32."""
        return sum(4 * (len(change.a) + len(change.b)) for change in self.changes.values())


async def read_adapter(
    source: ByteSource, base: ModelFile, find: FindFile | None = None
) -> LoraAdapter:
    """Read an adapter that was made for ``base``.

    ``source``: a GGUF adapter, or PEFT's adapter_model.safetensors, beside which ``find`` gives
    adapter_config.json. Raises FormatError, UnsupportedModelError, SourceError.
    """
    start = await source.read(0, min(4, source.size))
    pairs = _Pairs(source.name, base)
    if start == b"GGUF":
        await _read_gguf(source, base, pairs)
    else:
        config = await find("adapter_config.json") if find is not None else None
        if config is None:
            raise SourceError(
                f"There is no adapter_config.json beside {source.name}: a PEFT adapter needs both."
            )
        await _read_peft(source, await read_json(config), base, pairs)
    return LoraAdapter(source.name, pairs.finish())


async def open_adapter(
    adapter: str | os.PathLike[str] | ByteSource, base: ModelFile, find: FindFile | None = None
) -> LoraAdapter:
    """Read an adapter from a file, a PEFT folder, or a source; named after its file or folder."""
    if not isinstance(adapter, str | os.PathLike):
        made = await read_adapter(adapter, base, find or getattr(adapter, "find", None))
        return replace(made, name=file_name(made.name).rpartition(".")[0] or made.name)
    path = Path(adapter)
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    source = FileSource(file)
    beside: list[FileSource] = []

    async def find_here(name: str) -> ByteSource | None:
        if not (file.parent / name).is_file():
            return None
        beside.append(FileSource(file.parent / name))
        return beside[-1]

    try:
        made = await read_adapter(source, base, find_here)
    finally:
        for opened in (source, *beside):
            opened.close()
    return replace(made, name=path.stem)


async def _read_gguf(source: ByteSource, base: ModelFile, pairs: _Pairs) -> None:
    file = await read_gguf(source)
    kinds = (file.text("general.type", ""), file.text("adapter.type", ""))
    if kinds != ("adapter", "lora"):
        raise FormatError(f"{source.name} is no LoRA adapter, but {kinds[0] or 'a model'}.")
    if file.architecture != base.architecture:
        raise UnsupportedModelError(
            f"{source.name} is an adapter for {file.architecture[:40]} models; this one is "
            f"{base.architecture}: choose the adapter's own base model."
        )
    alpha = file.number("adapter.lora.alpha", 0.0)
    unpermute = base.flag("tilewright.rope.neox", False)
    for tensor in file.items():
        target, _, side = tensor.name.rpartition(".lora_")
        if side not in ("a", "b") or not target:
            raise UnsupportedModelError(
                f"{source.name} changes {tensor.name!r} in a way that is not supported."
            )
        values = await _floats(source, tensor)
        pairs.put(target, side, tensor.shape, values, lambda rank: alpha / rank if alpha else 1.0)
    if unpermute:
        pairs.reorder(interleave=False)


async def _read_peft(
    source: ByteSource, config: dict[str, Any], base: ModelFile, pairs: _Pairs
) -> None:
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("lora_bias"):
        raise UnsupportedModelError(
            f"{source.name} is no plain LoRA adapter ({str(config.get('peft_type'))[:20]}, or with "
            "DoRA or biases): merge it into the model instead."
        )
    if config.get("fan_in_fan_out") or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise UnsupportedModelError(
            f"{source.name} uses fan_in_fan_out, rank_pattern or alpha_pattern, which are not "
            "supported: merge it into the model instead."
        )
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise FormatError(f"{source.name}: adapter_config.json has no lora_alpha.")

    def scale(rank: int) -> float:
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    names = {
        family.names for family in FAMILIES.values() if family.architecture == base.architecture
    }
    for raw in (await read_safetensors(source)).values():
        match = _PEFT.fullmatch(raw.name)
        places = [translate_name(table, f"{match[1]}.weight") for table in names] if match else []
        place = next((found for found in places if found is not None), None)
        if match is None or place is None or place.index is not None or place.halves is not None:
            raise UnsupportedModelError(
                f"{source.name} changes {raw.name!r}, which cannot be changed in a "
                f"{base.architecture} model here."
            )
        pairs.put(place.name, match[2].lower(), raw.shape, await _raw_floats(raw), scale)
    if base.architecture in _PERMUTED and not base.flag("tilewright.rope.neox", False):
        pairs.reorder(interleave=True)


async def _floats(source: ByteSource, tensor: TensorInfo) -> array[float]:
    return to_floats(tensor, await source.read(tensor.offset, tensor.nbytes))


async def _raw_floats(raw: RawTensor) -> array[float]:
    quant = _DTYPES.get(raw.dtype)
    if quant is None:
        raise UnsupportedModelError(f"The adapter's tensor {raw.name!r} has the type {raw.dtype}.")
    info = TensorInfo(raw.name, raw.shape, quant, 0, raw.offset, raw.nbytes)
    return await _floats(raw.source, info)


class _Pairs:
    """Collects the two sides of each change and checks them against the base model."""

    def __init__(self, file: str, base: ModelFile) -> None:
        self._file, self._base = file, base
        self._sides: dict[str, dict[str, tuple[tuple[int, ...], array[float]]]] = {}
        self._scale: Callable[[int], float] = lambda rank: 1.0

    def put(
        self,
        target: str,
        side: str,
        shape: tuple[int, ...],
        values: array[float],
        scale: Callable[[int], float],
    ) -> None:
        found = self._sides.setdefault(target, {})
        if side in found or len(shape) != 2:
            raise FormatError(f"{self._file}: the change of {target!r} makes no sense.")
        found[side], self._scale = (shape, values), scale

    def reorder(self, *, interleave: bool) -> None:
        """Order the rows of queries' and keys' B as the base model orders those of its W."""
        for target, sides in self._sides.items():
            match = _ROTATED.fullmatch(target)
            if match is None or "b" not in sides:
                continue
            prefix = f"{self._base.architecture}.attention.head_count"
            heads = self._base.integer(prefix)
            if match[1] == "k":
                heads = self._base.integer(f"{prefix}_kv", heads)
            shape, values = sides["b"]
            if heads < 1 or shape[0] % (2 * heads):
                raise FormatError(f"{self._file}: {target!r} has no whole heads.")
            sides["b"] = (shape, _reordered(values, shape, heads, interleave=interleave))

    def finish(self) -> dict[str, LowRank]:
        changes = {}
        for target, sides in self._sides.items():
            weight = self._base.tensors.get(target)
            if weight is None or len(weight.shape) != 2:
                raise UnsupportedModelError(
                    f"{self._file} changes {target!r}, which this model has no matrix for: choose "
                    "the adapter's own base model."
                )
            if set(sides) != {"a", "b"}:
                raise FormatError(f"{self._file} has only one side of the change of {target!r}.")
            (a_shape, a), (b_shape, b) = sides["a"], sides["b"]
            rank = a_shape[0]
            if (a_shape[1], b_shape) != (weight.columns, (weight.rows, rank)) or rank > MAX_RANK:
                raise FormatError(
                    f"{self._file}: the change of {target!r} ({b_shape} times {a_shape}) does not "
                    f"fit its matrix {weight.shape}."
                )
            scale = self._scale(rank)
            changes[target] = LowRank(rank, weight.rows, weight.columns, scale, a, b)
        if not changes:
            raise FormatError(f"{self._file} changes nothing.")
        return changes


def _reordered(
    values: array[float], shape: tuple[int, ...], heads: int, *, interleave: bool
) -> array[float]:
    """Interleave the two halves of each head's rows, or undo it."""
    rows, rank = shape
    size = rows // heads
    made = array("f")
    for row in range(rows):
        head, inside = divmod(row, size)
        if interleave:
            place = inside % 2 * (size // 2) + inside // 2
        else:
            place = inside % (size // 2) * 2 + inside // (size // 2)
        start = (head * size + place) * rank
        made.extend(values[start : start + rank])
    return made
