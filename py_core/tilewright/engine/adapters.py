"""LoRA adapters of a loaded model: kept side by side, chosen per sequence.

The adapted graphs are families of their own (``decode+``), used only by steps in which a sequence
has an adapter: a model without adapters pays nothing. Adding or removing one rebuilds the stacks of
all, which are small; adapters keep their numbers meanwhile.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..errors import InvalidRequestError, UnsupportedModelError
from ..formats.lora import LoraAdapter, LowRank
from ..formats.model_file import ModelFile, TensorInfo
from ..formats.quant import F32
from ..formats.source import MemorySource
from ..graph.lora import Place, with_adapters
from ..graph.ops import Adapters as AdapterInputs
from ..graph.ops import ExpertLinear, Graph, Value, Weight
from ..webgpu.device import Device
from ..webgpu.memory import Weights, load_weights

MOST = 64
_RANK_STEP = 8
"""Ranks are padded to it, as matrices of floats are read."""


class Stacks(Protocol):
    """Where a backend keeps the stacked matrices of all adapters."""

    async def replace(self, graph: Graph, file: ModelFile) -> None:
        """Keep the adapters' matrices of ``graph``, from ``file``, in place of the earlier ones.

        Raises OutOfMemoryError; what was there before stays then.
        """
        ...

    def release(self) -> None:
        """Keep none."""
        ...


class GpuStacks:
    """Among the weights of a model on the GPU."""

    def __init__(self, device: Device, weights: Weights) -> None:
        self._device, self._weights = device, weights
        self._stacks: list[Weight] = []

    async def replace(self, graph: Graph, file: ModelFile) -> None:
        """See ``Stacks``."""
        loaded = await load_weights(self._device, file, replace(graph, ops=low_rank(graph, file)))
        self._weights.packed.update(loaded.packed)
        self.release()
        self._stacks = list(loaded.packed)

    def release(self) -> None:
        """Free them."""
        for weight in self._stacks:
            for shard in self._weights.packed.pop(weight).shards:
                self._device.release(shard.quants.buffer)
                self._device.release(shard.scales.buffer)
        self._stacks = []


def shelf(adapters: Adapters | None) -> Adapters:
    """Return a model's adapters. Raises UnsupportedModelError where it can have none."""
    if adapters is None:
        raise UnsupportedModelError("This model makes embeddings; it takes no adapters.")
    return adapters


def inputs_of(graph: Graph, chosen: Sequence[tuple[int, float]]) -> list[tuple[Value, bytes]]:
    """Return what a step with adapters is told: each row's number and strength."""
    first = graph.ops[0]
    if not isinstance(first, AdapterInputs):
        return []
    numbers, strengths = array("I", [n for n, _ in chosen]), array("f", [s for _, s in chosen])
    return [(first.out_which, numbers.tobytes()), (first.out_strength, strengths.tobytes())]


def low_rank(graph: Graph, file: ModelFile) -> tuple[ExpertLinear, ...]:
    """Return the ops that multiply by an adapter's matrices, which are those of ``file``."""
    ops = (op for op in graph.ops if isinstance(op, ExpertLinear))
    return tuple(op for op in ops if op.weight.name in file.tensors)


@dataclass(frozen=True)
class _Kept:
    adapter: LoraAdapter
    serial: int
    """Never used twice: what an adapter left in the prefix cache is its own."""


class Adapters:
    """The adapters of one model."""

    def __init__(self, graph: Graph, file: ModelFile, stacks: Stacks) -> None:
        """``graph``: fused with ``graph.lora.FUSION``; ``file``: of the model."""
        self._stacks = stacks
        self._rows = {tensor.name: tensor.rows for tensor in file.items()}
        self._graph = graph
        self._places: list[_Kept | None] = []
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

    async def add(self, adapter: LoraAdapter) -> Graph | None:
        """Keep an adapter, in place of one of the same name; return the graph with all of them.

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

    async def remove(self, name: str) -> Graph | None:
        """Forget an adapter; return the graph with the others, None where it was the last."""
        number, _, _ = self.find(name)
        places = list(self._places)
        places[number] = None
        return await self._rebuild(places)

    async def _rebuild(self, places: list[_Kept | None]) -> Graph | None:
        kept = [item.adapter for item in places if item is not None]
        self._builds += 1
        graph = None
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
            await self._stacks.replace(graph, _stacks_file(filled, adapters, rank))
        else:
            self._stacks.release()
        self._places = places
        return graph

    def release(self) -> None:
        """Free the stacks."""
        self._stacks.release()


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
