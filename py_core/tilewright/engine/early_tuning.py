"""Tunes a model while its weights come: what is there of it is material enough.

Kernels are known from the header, and layers are alike. Where a load waits for a slow network, the
tuner times candidates on the tensors that have come, in bursts with pauses between them, into the
records that the runner's first kernels are chosen by. It ends with the load: no token waits for it,
and what it did not reach is left for later. A load from a disk is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import TilewrightError
from ..formats.arrival import Arrival
from ..graph.ops import Graph
from ..tuning.bench import Bench, Measuring
from ..tuning.store import Records, Store
from ..tuning.tuner import Event, Step, Tuner
from ..tuning.wasm_steps import WasmBench
from ..wasm import host
from ..wasm import weights as wasm_weights
from ..webgpu import memory as gpu_memory
from ..webgpu.device import Device
from ..webgpu.kernels.linear import Arithmetic
from ..webgpu.state import KV_BLOCK, ModelState, allocate_state
from . import wasm_tuning
from .families import prefill_chunk
from .fit import LoadPlan
from .tuning import BUDGET, make_workloads, tuned_rows
from .wasm_program import Plan

SHARE = 0.5
"""Of the time in which bytes are waited for."""
PAUSE = 0.05
"""Seconds between two looks at what has come."""
Loaded = TypeVar("Loaded")


class EarlyTuning:
    """Adds to ``records`` while one model is loaded, and keeps them in ``store``."""

    def __init__(self, records: Records, store: Store | None = None) -> None:
        self.kernels = 0
        """Of which a record was made before the load was over."""
        self._records = records
        self._store = store
        self._over = False

    def told(self, on_progress: gpu_memory.OnProgress) -> gpu_memory.OnProgress:
        """Return what also tells how many kernels have been tuned so far."""
        return lambda progress: on_progress(replace(progress, tuned=self.kernels))

    def report(self, on_progress: gpu_memory.OnProgress) -> wasm_weights.Report:
        """Return the same for the CPU path, which knows no ``Progress``."""
        told = self.told(on_progress)
        return lambda *numbers: told(gpu_memory.Progress("weights", *numbers))

    async def on_cpu(
        self,
        loading: Awaitable[None],
        loader: wasm_weights.Loader,
        plan: Plan,
        machine: host.Host,
        wide: bool,
    ) -> None:
        """Await a load of the CPU path."""
        await self._beside(loading, _OnCpu(loader, plan, machine, wide=wide))

    def on_gpu(
        self, device: Device, plan: LoadPlan, arithmetic: Arithmetic = "f32"
    ) -> gpu_memory.Beside:
        """Return what awaits a load to the GPU."""

        async def beside(
            loading: Awaitable[gpu_memory.Weights], loader: gpu_memory.Loader
        ) -> gpu_memory.Weights:
            return await self._beside(loading, _OnGpu(loader, device, plan, arithmetic))

        return beside

    async def _beside(self, loading: Awaitable[Loaded], material: _Material) -> Loaded:
        tuning = asyncio.ensure_future(self._run(material))
        try:
            return await loading
        finally:
            self._over = True
            with contextlib.suppress(TilewrightError):  # also what stops it
                await tuning

    async def _run(self, material: _Material) -> None:
        arrival = material.arrival
        while not (arrival.slow and arrival.loaded):
            if self._over:
                return
            await asyncio.sleep(PAUSE)
        bench = await material.bench(
            budget=BUDGET,
            share=SHARE,
            idle=lambda: self._over or arrival.slow,
            cancelled=lambda: self._over,
        )
        tuner = Tuner(bench, self._records, self._note)
        seen = 0
        try:
            while not self._over and bench.left > 0:
                if len(arrival.loaded) >= 2 * seen:  # twice as much is worth another look
                    seen = len(arrival.loaded)
                    await self._tune(tuner, material)
                await asyncio.sleep(PAUSE)
        finally:
            bench.release()
            if self.kernels and self._store is not None:
                await self._store.save(self._records)

    async def _tune(self, tuner: Tuner, material: _Material) -> None:
        """Tune what is there."""
        try:
            steps = material.steps()
            if tuner.missing(steps):
                await tuner.tune(steps)
        finally:
            material.release()

    def _note(self, event: Event) -> None:
        self.kernels += bool(event.done and event.kernel and not event.known)


class _Material(ABC):
    """A model that is on its way."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival

    @abstractmethod
    async def bench(self, **options: Any) -> Measuring:
        """Return what measures."""

    @abstractmethod
    def steps(self) -> Sequence[Step]:
        """Return the steps, as far as their weights have come."""

    @abstractmethod
    def release(self) -> None:
        """Free what the steps took."""


class _OnCpu(_Material):
    def __init__(
        self, loader: wasm_weights.Loader, plan: Plan, machine: host.Host, *, wide: bool
    ) -> None:
        super().__init__(loader.arrival)
        self._graphs = plan.graphs
        self._machine = machine
        self._place = wasm_tuning.place(loader.memory, plan, machine, wide=wide)

    async def bench(self, **options: Any) -> Measuring:
        return WasmBench(self._place, wasm_tuning.capabilities_of(self._machine), **options)

    def steps(self) -> Sequence[Step]:
        here = {
            weight: address
            for weight, address in self._place.matrices.items()
            if self.arrival.loaded.issuperset(weight.tensors)
        }
        place = replace(self._place, matrices=here)
        return wasm_tuning.steps_of(self._graphs, place, self._machine)

    def release(self) -> None:
        """Nothing was taken: the steps run in the room for trials."""


class _OnGpu(_Material):
    def __init__(
        self,
        loader: gpu_memory.Loader,
        device: Device,
        plan: LoadPlan,
        arithmetic: Arithmetic,
    ) -> None:
        super().__init__(loader.arrival)
        self._loader = loader
        self._device = device
        self._plan = plan
        self._arithmetic = arithmetic
        self._state: ModelState | None = None
        self._made: list[Any] = []

    async def bench(self, **options: Any) -> Measuring:
        return await Bench.open(self._device, **options)

    def steps(self) -> Sequence[Step]:
        """Return the ops before the first whose weights have not all come."""
        weights = self._loader.weights
        assert weights is not None
        graphs, context = self._plan.graphs, self._plan.fit.context_length
        encoder = not next(iter(graphs.values())).causal
        rows = tuned_rows(encoder=encoder, chunk=prefill_chunk(context, encoder=encoder))
        here = {family: self._come(graphs[family]) for family in rows}
        self._state = allocate_state(
            self._device,
            next(iter(here.values())),
            weights,
            kv=self._plan.fit.kv,
            context_length=context,
            tokens=KV_BLOCK,
            max_sequences=1,
            arithmetic=self._arithmetic,
        )
        self._made += make_workloads(self._device, here, self._state, rows, context)
        return self._made

    def _come(self, graph: Graph) -> Graph:
        loaded = self.arrival.loaded
        count = len(graph.ops)
        for number, op in enumerate(graph.ops):
            if not all(loaded.issuperset(weight.tensors) for weight in op.weights()):
                count = number
                break
        if count == len(graph.ops):
            return graph
        return replace(graph, ops=graph.ops[:count], logits=None, hidden=None, pooled=None)

    def release(self) -> None:
        while self._made:
            self._made.pop().release()
        if self._state is not None:  # the weights stay
            none = gpu_memory.Weights({}, {}, {}, 0)
            replace(self._state, weights=none).release(self._device)
            self._state = None
