"""config.json + .safetensors + tokenizer.json -> ``ModelFile`` with GGUF's keys and names.

Finds the files that belong together, joins their headers and places every tensor where GGUF has
it; no weight is read or rewritten. Tensors that GGUF orders otherwise (experts in a stack, fused
halves, GPT-2's transposed matrices) are shown through ``derived`` sources, at the end of
``ModelFile.sources``. Metadata besides the config's: ``tilewright.tokenizer_json`` and
``tilewright.tokenizer_config`` (the parsed files), ``tokenizer.chat_template``, the ids of special
tokens, and the pooling of sentence-transformers.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ..errors import FormatError, SourceError, UnsupportedModelError
from .derived import Piece, PiecesSource, TransposedSource
from .hf_config import Config, number, rope_parameters, translate_config
from .hf_families import read_family
from .hf_names import IGNORED, Place, translate_name
from .int4 import Int4Source, read_int4, show_int4
from .json_file import MAX_JSON, read_json
from .layout import tensor_nbytes
from .model_file import ModelFile, TensorInfo
from .quant import BF16, BY_NAME, F16, F32, QuantType
from .safetensors import RawTensor, read_safetensors
from .shards import file_name, is_plain, sibling_names
from .source import ByteSource, MemorySource

FindFile = Callable[[str], Awaitable[ByteSource | None]]
INDEX: Final = "model.safetensors.index.json"
MAX_CONFIG: Final = 16 * 1024 * 1024
MAX_SHARDS: Final = 1000

_QUANTS: Final[Mapping[str, QuantType]] = {
    **{"F32": F32, "F16": F16, "BF16": BF16},
    # as int4.py shows matrices
    **{"Q4_0": BY_NAME["Q4_0"], "Q5_0": BY_NAME["Q5_0"]},
}
_POOLING: Final = (
    ("mean_tokens", "mean", 1),
    ("cls_token", "cls", 2),
    ("lasttoken", "lasttoken", 3),
)
"""Flag, name, GGUF's ``pooling_type`` (``enum llama_pooling_type``)."""


async def read_huggingface(source: ByteSource, find: FindFile) -> ModelFile:
    """Read the model that ``source`` belongs to: a .safetensors file, its index, or config.json.

    ``find`` gives the files beside it. Raises FormatError, UnsupportedModelError, SourceError.
    """
    name = file_name(source.name)
    config_source = source if name == "config.json" else await find("config.json")
    if config_source is None:
        raise SourceError(
            f"There is no config.json beside {name}: put the model's files into one folder."
        )
    family, config = read_family(await read_json(config_source, MAX_CONFIG), config_source.name)
    metadata = translate_config(family, config)
    origin = config.get("_name_or_path")
    if isinstance(origin, str) and file_name(origin.rstrip("/")):
        metadata["general.name"] = file_name(origin.rstrip("/"))
    files = await _tensor_files(source, find)
    raw: dict[str, RawTensor] = {}
    for item in files:
        for key, tensor in (await read_safetensors(item)).items():
            if key in raw:
                raise FormatError(f"The tensor {key!r} is in two files of the model.", tensor=key)
            raw[key] = tensor
    quantized = read_int4(config, config_source.name)
    if quantized is not None:
        raw = show_int4(raw, quantized)
    sources = {id(tensor.source): tensor.source for tensor in raw.values()}
    placed = _Placing(list({**{id(file): file for file in files}, **sources}.values()), metadata)
    for tensor in raw.values():
        if IGNORED.fullmatch(tensor.name) is None:
            place = translate_name(family.names, tensor.name)
            if place is None:
                raise UnsupportedModelError(
                    f"{tensor.source.name} has the tensor {tensor.name!r}, which "
                    f"{family.architecture} models do not have.",
                    tensor=tensor.name,
                )
            placed.put(tensor, place)
    placed.finish(_rope_factors(config, metadata))
    await _text_files(find, config, metadata)
    return ModelFile(metadata=metadata, tensors=placed.tensors, sources=tuple(placed.sources))


async def _tensor_files(source: ByteSource, find: FindFile) -> list[ByteSource]:
    """Return the .safetensors files of the model."""
    name = file_name(source.name)
    if name.endswith(".safetensors") and len(sibling_names(name)) == 1:
        return [source]
    index_source = source if name.endswith(".index.json") else await find(INDEX)
    if index_source is not None:
        index = await read_json(index_source, MAX_CONFIG)
        table = index.get("weight_map")
        if not isinstance(table, dict) or not table:
            raise FormatError(f"{index_source.name} has no weight_map: the file is damaged.")
        names = list(dict.fromkeys(str(value) for value in table.values()))
    elif name.endswith(".safetensors"):
        names = sibling_names(name)
    else:
        names = ["model.safetensors"]
    if len(names) > MAX_SHARDS or not all(is_plain(item) for item in names):
        raise FormatError("The index names files that a model does not have: it is damaged.")
    files = []
    for item in names:
        found = source if item == name else await find(item)
        if found is None:
            raise SourceError(f"{item} is missing: the model needs {', '.join(names[:4])}.")
        files.append(found)
    return files


class _Placing:
    """Collects tensors under GGUF's names."""

    def __init__(self, files: list[ByteSource], metadata: Mapping[str, Any]) -> None:
        self.sources: list[ByteSource] = list(files)
        self.tensors: dict[str, TensorInfo] = {}
        self._numbers = {id(source): number for number, source in enumerate(files)}
        self._stacks: dict[str, dict[int, RawTensor]] = {}
        self._pieces = PiecesSource("stacked tensors")
        self._transposed = TransposedSource("transposed tensors")
        self._derived: list[tuple[TensorInfo, ByteSource]] = []

    def put(self, raw: RawTensor, place: Place) -> None:
        quant = _QUANTS.get(raw.dtype)
        if quant is None:
            raise UnsupportedModelError(
                f"{raw.source.name}: the tensor {raw.name!r} has the type {raw.dtype}; F32, F16 "
                "and BF16 are supported: choose another version of the model.",
                tensor=raw.name,
            )
        if place.index is not None:
            stack = self._stacks.setdefault(place.name, {})
            if place.index in stack:
                raise FormatError(f"The tensor {raw.name!r} is in the model twice.")
            stack[place.index] = raw
        elif place.halves is not None:
            self._put_halves(raw, place.name, place.halves, quant)
        elif place.transposed and not isinstance(raw.source, Int4Source):  # GPTQ turns it itself
            self._put_transposed(raw, place.name, quant)
        else:
            # a row vector that GGUF keeps as a vector
            shape = raw.shape[1:] if raw.shape[:1] == (1,) and len(raw.shape) == 2 else raw.shape
            source = self._numbers[id(raw.source)]
            self._add(TensorInfo(place.name, shape, quant, source, raw.offset, raw.nbytes))

    def finish(self, extra: Mapping[str, list[float]]) -> None:
        """Place the stacks and the tensors that are computed, then the derived sources."""
        for name, stack in self._stacks.items():
            first = stack.get(0)
            if first is None or set(stack) != set(range(len(stack))):
                raise FormatError(f"The model lacks parts of {name!r}: it is incomplete.")
            if any((raw.shape, raw.dtype) != (first.shape, first.dtype) for raw in stack.values()):
                raise FormatError(f"The parts of {name!r} differ in shape: the file is damaged.")
            pieces = [_piece(stack[index]) for index in range(len(stack))]
            shape = (len(stack), *first.shape)
            self._add_pieces(name, shape, _QUANTS[first.dtype], pieces)
        for name, values in extra.items():
            data = struct.pack(f"<{len(values)}f", *values)
            info = TensorInfo(name, (len(values),), F32, 0, 0, len(data))
            self._derived.append((info, MemorySource(data, name)))
        for info, source in self._derived:
            if id(source) not in self._numbers:
                self._numbers[id(source)] = len(self.sources)
                self.sources.append(source)
            number = self._numbers[id(source)]
            self._add(
                TensorInfo(info.name, info.shape, info.quant, number, info.offset, info.nbytes)
            )

    def _put_halves(self, raw: RawTensor, first: str, second: str, quant: QuantType) -> None:
        """Split ``[..., 2F, K]`` into two ``[..., F, K]``."""
        if len(raw.shape) < 2 or raw.shape[-2] % 2:
            raise FormatError(f"The tensor {raw.name!r} of shape {raw.shape} has no two halves.")
        shape = (*raw.shape[:-2], raw.shape[-2] // 2, raw.shape[-1])
        whole = raw.shape[-2] * quant.row_bytes(raw.shape[-1])
        count = raw.nbytes // whole if whole else 0
        for half, name in enumerate((first, second)):
            starts = (raw.offset + index * whole + half * whole // 2 for index in range(count))
            pieces = [Piece(raw.source, start, whole // 2) for start in starts]
            self._add_pieces(name, shape, quant, pieces)

    def _put_transposed(self, raw: RawTensor, name: str, quant: QuantType) -> None:
        if len(raw.shape) != 2:
            raise FormatError(f"The tensor {raw.name!r} is no matrix: the file is damaged.")
        rows, columns = raw.shape
        offset = self._transposed.append(raw.source, raw.offset, rows, columns, quant.nbytes)
        info = TensorInfo(name, (columns, rows), quant, 0, offset, raw.nbytes)
        self._derived.append((info, self._transposed))

    def _add_pieces(
        self, name: str, shape: tuple[int, ...], quant: QuantType, pieces: list[Piece]
    ) -> None:
        nbytes = sum(piece.nbytes for piece in pieces)
        if len(pieces) == 1:
            source = self._numbers[id(pieces[0].source)]
            self._add(TensorInfo(name, shape, quant, source, pieces[0].offset, nbytes))
        else:
            info = TensorInfo(name, shape, quant, 0, self._pieces.append(pieces), nbytes)
            self._derived.append((info, self._pieces))

    def _add(self, info: TensorInfo) -> None:
        if info.name in self.tensors:
            raise FormatError(f"Two tensors of the model are {info.name!r}: it is damaged.")
        tensor_nbytes("The model", info.name, info.shape, info.quant)
        self.tensors[info.name] = info


def _piece(raw: RawTensor) -> Piece:
    return Piece(raw.source, raw.offset, raw.nbytes)


def _rope_factors(config: Config, metadata: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the tensors of longrope's divisors, which GGUF keeps beside the weights."""
    if metadata.get(f"{metadata['general.architecture']}.rope.scaling.type") != "longrope":
        return {}
    settings = rope_parameters(config)
    found = {}
    for kind in ("long", "short"):
        values = settings.get(f"{kind}_factor")
        if not isinstance(values, list) or not 0 < len(values) <= 65536:
            raise FormatError(f"config.json's rope scaling has no list {kind}_factor.")
        found[f"rope_factors_{kind}.weight"] = [number(v, f"{kind}_factor") for v in values]
    return found


async def _text_files(find: FindFile, config: Config, metadata: dict[str, Any]) -> None:
    """Add what belongs to the tokenizer, the chat template and the pooling."""
    tokenizer = await find("tokenizer.json")
    if tokenizer is not None:
        metadata["tilewright.tokenizer_json"] = await read_json(tokenizer)
    settings_source = await find("tokenizer_config.json")
    settings = await read_json(settings_source) if settings_source is not None else {}
    if settings_source is not None:
        metadata["tilewright.tokenizer_config"] = settings
    template = await find("chat_template.jinja")
    if template is not None and template.size <= MAX_JSON:
        text = await template.read(0, template.size)
        metadata["tokenizer.chat_template"] = text.decode("utf-8", "replace")
    else:
        _templates(settings.get("chat_template"), metadata)
    generation_source = await find("generation_config.json")
    generation = await read_json(generation_source, MAX_CONFIG) if generation_source else {}
    for key, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        value = generation.get(f"{key}_token_id", config.get(f"{key}_token_id"))
        ids = value if isinstance(value, list) else [value]
        if ids and all(type(item) is int and item >= 0 for item in ids):
            metadata[f"tokenizer.ggml.{name}_token_id"] = ids[0]
            if key == "eos":
                metadata["tilewright.eos_token_ids"] = ids
    await _pooling(find, metadata)


def _templates(given: Any, metadata: dict[str, Any]) -> None:
    if isinstance(given, str):
        metadata["tokenizer.chat_template"] = given
    elif isinstance(given, list):
        for entry in given:
            name = entry.get("name") if isinstance(entry, dict) else None
            text = entry.get("template") if isinstance(entry, dict) else None
            if isinstance(name, str) and isinstance(text, str):
                suffix = "" if name == "default" else f".{name}"
                metadata[f"tokenizer.chat_template{suffix}"] = text


async def _pooling(find: FindFile, metadata: dict[str, Any]) -> None:
    """Read the pooling of a sentence-transformers model."""
    settings = await find("1_Pooling/config.json")
    if settings is None:
        return
    pooling = await read_json(settings, MAX_CONFIG)
    for flag, kind, code in _POOLING:
        if pooling.get(f"pooling_mode_{flag}") or pooling.get("pooling_mode") == kind:
            metadata[f"{metadata['general.architecture']}.pooling_type"] = code
            return
    raise UnsupportedModelError(
        "The model's pooling is not supported: mean, cls and last token are."
    )
