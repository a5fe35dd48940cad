"""LoRA adapters of a loaded model: kept on the GPU side by side, chosen per sequence.

The adapted graphs are families of their own (``decode+``), used only by steps in which a sequence
has an adapter: a model without adapters pays nothing. Adding or removing one rebuilds the stacks of
all, which are small; adapters keep their numbers meanwhile.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace

from ..errors import InvalidRequestError, UnsupportedModelError
from ..formats.lora import LoraAdapter, LowRank
from ..formats.model_file import ModelFile, TensorInfo
from ..formats.quant import F32
from ..formats.source import MemorySource
from ..graph.fuse import fuse
from ..graph.lora import FUSION, Place, with_adapters
from ..graph.ops import ExpertLinear, Graph, Weight
from ..webgpu.device import Device
from ..webgpu.kernels import matvec
from ..webgpu.kernels.kv_write import KvKind
from ..webgpu.memory import Weights, load_weights
from ..webgpu.structures import accepts
from .families import Family

MOST = 64
_RANK_STEP = 8
"""Ranks are padded to it, as matrices of floats are read."""
ADAPTED: tuple[Family, ...] = ("prefill+", "all+", "decode+")


@dataclass(frozen=True)
class _Kept:
    adapter: LoraAdapter
    serial: int
    """Never used twice: what an adapter left in the prefix cache is its own."""


class Adapters:
    """The adapters of one model."""

    def __init__(
        self, device: Device, plain: Graph, file: ModelFile, kv: KvKind, weights: Weights
    ) -> None:
        """``plain``: the unfused graph; ``weights``: of the model, to which stacks are added."""
        self._device, self._weights = device, weights
        self._rows = {tensor.name: tensor.rows for tensor in file.items()}
        self._graph = fuse(
            plain, FUSION, accept=lambda op: accepts(op, kv, device.capabilities, matvec.MAX_TOKENS)
        )
        self._places: list[_Kept | None] = []
        self._stacks: list[Weight] = []
        self._serial = self._builds = 0

    @property
    def names(self) -> list[str]:
        """Names under which adapters can be asked for."""
        return [kept.adapter.name for kept in self._places if kept is not None]

    def find(self, name: str) -> tuple[int, float, int]:
        """Return an adapter's number, its strength and its serial; InvalidRequestError."""
        for number, kept in enumerate(self._places):
            if kept is not None and kept.adapter.name == name:
                return number, _strength(kept.adapter), kept.serial
        known = ", ".join(self.names) or "none"
        raise InvalidRequestError(
            f"There is no adapter {name[:80]!r}; loaded are: {known}.", field="adapter"
        )

    async def add(self, adapter: LoraAdapter) -> dict[Family, Graph]:
        """Keep an adapter, in place of one of the same name; return the families' graphs.

        Raises UnsupportedModelError, OutOfMemoryError; what was loaded before stays as it was.
        """
        places = list(self._places)
        self._serial += 1
        made = _Kept(adapter, self._serial)
        if adapter.name in self.names:
            places[self.find(adapter.name)[0]] = made
        elif None in places:
            places[places.index(None)] = made
        elif len(places) == MOST:
            raise InvalidRequestError(f"{MOST} adapters are loaded: remove one first.")
        else:
            places.append(made)
        return await self._rebuild(places)

    async def remove(self, name: str) -> dict[Family, Graph]:
        """Forget an adapter; return the families' graphs, none where it was the last."""
        number, _, _ = self.find(name)
        places = list(self._places)
        places[number] = None
        return await self._rebuild(places)

    async def _rebuild(self, places: list[_Kept | None]) -> dict[Family, Graph]:
        kept = [item.adapter for item in places if item is not None]
        self._builds += 1
        graphs: dict[Family, Graph] = {}
        stacks: list[Weight] = []
        if kept:
            targets = dict.fromkeys(name for adapter in kept for name in adapter.changes)
            most = max(change.rank for adapter in kept for change in adapter.changes.values())
            rank = -(-most // _RANK_STEP) * _RANK_STEP
            graph, filled = with_adapters(
                self._graph,
                targets,
                self._rows,
                rank=rank,
                count=len(places),
                version=self._builds,
            )
            adapters = [None if item is None else item.adapter for item in places]
            file = _stacks_file(filled, adapters, rank)
            low = tuple(
                op
                for op in graph.ops
                if isinstance(op, ExpertLinear) and op.weight.name in file.tensors
            )
            loaded = await load_weights(self._device, file, replace(graph, ops=low))
            self._weights.packed.update(loaded.packed)
            stacks = list(loaded.packed)
            graphs = dict.fromkeys(ADAPTED, graph)
        self.release()
        self._places, self._stacks = places, stacks
        return graphs

    def release(self) -> None:
        """Free the stacks."""
        for weight in self._stacks:
            for shard in self._weights.packed.pop(weight).shards:
                self._device.release(shard.quants.buffer)
                self._device.release(shard.scales.buffer)
        self._stacks = []


def _strength(adapter: LoraAdapter) -> float:
    """Return the scale that most matrices of an adapter have; the others' is in their B."""
    return next(iter(adapter.changes.values())).scale


def _stacks_file(places: list[Place], adapters: list[LoraAdapter | None], rank: int) -> ModelFile:
    """Return the stacked matrices as a model file in memory."""
    tensors: dict[str, TensorInfo] = {}
    sources: list[MemorySource] = []
    for place in places:
        for weight, build in ((place.a, _stack_a), (place.b, _stack_b)):
            values = array("f")
            for adapter in adapters:
                values.extend(
                    build(place, {} if adapter is None else adapter.changes, rank, weight)
                )
            if len(values) != weight.rows * weight.columns:
                raise UnsupportedModelError(f"The adapters do not fit {place.tensors[0]}.")
            (name,) = weight.tensors
            data = values.tobytes()
            shape = (weight.rows, weight.columns)
            tensors[name] = TensorInfo(name, shape, F32, len(sources), 0, len(data))
            sources.append(MemorySource(data, name))
    return ModelFile({}, tensors, tuple(sources))


def _stack_a(place: Place, changes: dict[str, LowRank], rank: int, weight: Weight) -> array[float]:
    """Return one adapter's ``f32[rank * changed, K]``, zeros where it changes nothing."""
    made = array("f")
    for name in place.changed:
        change = changes.get(name)
        if change is not None:
            made.extend(change.a)
        made.frombytes(bytes(4 * weight.columns * (rank - (change.rank if change else 0))))
    return made


def _stack_b(place: Place, changes: dict[str, LowRank], rank: int, weight: Weight) -> array[float]:
    """Return one adapter's ``f32[N, rank * changed]``: a block per changed tensor."""
    made = array("f")
    strength = next(iter(changes.values())).scale if changes else 1.0
    rows = dict(zip(place.tensors, place.rows, strict=True))
    for name in place.tensors:
        change = changes.get(name)
        if change is None:
            made.frombytes(bytes(4 * weight.columns * rows[name]))
            continue
        at = rank * place.changed.index(name)
        before = bytes(4 * at)
        after = bytes(4 * (weight.columns - at - change.rank))
        b, factor = change.b, change.scale / strength
        if factor != 1.0:
            b = array("f", [factor * value for value in b])
        raw, step = memoryview(b).cast("B"), 4 * change.rank
        made.frombytes(
            b"".join(
                part
                for start in range(0, len(raw), step)
                for part in (before, raw[start : start + step], after)
            )
        )
    return made
