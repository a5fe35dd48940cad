"""Tunes a loaded model: its steps as workloads, the records kept, the plans swapped at the end.

The bridge between a runner and ``tuning/``: what is worth tuning is the decode of one
token and the prefill of a whole chunk (for an encoder, the embedding of one). Knows no text.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BusyError, CancelledError, InvalidRequestError, SourceError
from ..graph.ops import Graph, Rows
from ..tuning.bench import Bench, Measuring
from ..tuning.store import FolderStorage, Records, Storage, Store
from ..tuning.tuner import Event, Tuner
from ..tuning.wasm_steps import WasmBench, WasmStep
from ..tuning.workload import Workload
from ..webgpu.api import library
from ..webgpu.device import Device
from ..webgpu.profile import ceilings
from ..webgpu.state import ModelState
from . import wasm_tuning, whole_tokens
from .engine import Engine
from .families import Family
from .runner import ModelRunner
from .wasm_runner import WasmRunner

BUDGET = 25.0
"""Seconds; with what is begun by then a model is tuned in less than 30."""
BATCHES = (2, 4, 8)
"""Sequences of a decode step that are tuned besides one."""
WHOLE_TOKENS = 0.12
"""Of the budget, for timing whole tokens at the end."""


def default_store(device: Device, storage: Storage | None = None) -> Store:
    """Return the store of this device, by default in the cache folder of the settings."""
    return Store(storage or FolderStorage(), device.capabilities, library())


@dataclass(frozen=True)
class TuningResult:
    """What a tuning run did."""

    records: Records
    seconds: float
    """Spent of the budget."""
    bursts: int
    """Measurements that were made: 0 where all records were there."""


def workloads(runner: ModelRunner) -> list[Workload]:
    """Return the steps of a model that are worth tuning; each must be released."""
    rows = tuned_rows(encoder=runner.encoder, chunk=runner.prefill_chunk)
    graphs = {family: runner.graphs[family] for family in rows}
    return make_workloads(runner.device, graphs, runner.state, rows, runner.context_length)


def tuned_rows(*, encoder: bool, chunk: int) -> dict[Family, dict[Rows, int]]:
    """Return the families of steps that are worth tuning, and how many rows they have."""
    one = dict.fromkeys(Rows, 1)
    if encoder:
        return {"embed": {**one, Rows.TOKENS: min(chunk, 256)}}
    return {"decode": one, "prefill": {**one, Rows.TOKENS: chunk}}


def make_workloads(
    device: Device,
    graphs: Mapping[Family, Graph],
    state: ModelState,
    rows: Mapping[Family, Mapping[Rows, int]],
    context_length: int,
) -> list[Workload]:
    """Make a workload of each graph; each must be released. Raises OutOfMemoryError."""
    made: list[Workload] = []
    try:
        for family, graph in graphs.items():
            given = device, graph, state, rows[family], context_length
            made.append(Workload(family, *given))
    except BaseException:
        for workload in made:
            workload.release()
        raise
    return made


async def _batches(runner: ModelRunner, records: Records, tuner: Tuner, bench: Bench) -> None:
    """Tune decode steps of several sequences with what is left; else they keep their defaults."""
    counts = [count for count in BATCHES if count <= runner.max_sequences]
    if runner.encoder or runner.streamer is not None or not (bench.left > 0 or bench.bursts):
        return
    for number, count in enumerate(counts):
        rows = dict.fromkeys(Rows, count)
        graph = whole_tokens.decode_graph(runner, records)
        given = runner.device, graph, runner.state, rows, runner.context_length
        step = Workload(f"decode of {count}", *given)
        try:
            left = max(bench.left, 0.0)
            await tuner.tune([step], left - left / (len(counts) - number))
            if bench.bursts:
                tuner.keep_defaults(step)
        finally:
            step.release()


def use(runner: ModelRunner | WasmRunner, records: Records, engine: Engine | None = None) -> None:
    """Let a runner, and the engine over it, compute with what is recorded, from the next step."""
    if isinstance(runner, WasmRunner):
        runner.use(wasm_tuning.chooser(records, runner.machine))
        return
    runner.use(records.choose)
    whole = whole_tokens.chosen(runner, records)
    if whole is not None:
        whole_tokens.use(runner, whole)
        if engine is not None:
            engine.pace(depth=whole.depth, prefill_chunk=whole.chunk)


async def tune(
    runner: ModelRunner | WasmRunner,
    records: Records,
    *,
    store: Store | None = None,
    budget: float = BUDGET,
    share: float = 1.0,
    idle: Callable[[], bool] | None = None,
    cancelled: Callable[[], bool] | None = None,
    on_event: Callable[[Event], None] | None = None,
    engine: Engine | None = None,
) -> TuningResult:
    """Tune what ``records`` do not hold yet, keep them in ``store``, and let ``runner`` use them.

    A budget above the usual one also takes up what was not reached before.
    ``engine``: over the runner; it gets the number of steps in flight and the size of a chunk.

    ``budget``: seconds of measuring; ``share``: of the time while ``idle()``. Raises CancelledError
    (what was found until then is kept), OutOfMemoryError, DeviceLostError.
    """
    options: dict[str, Any] = {
        "budget": budget,
        "share": share,
        "idle": idle,
        "cancelled": cancelled,
    }
    bench: Measuring
    if isinstance(runner, WasmRunner):
        place = wasm_tuning.place_of(runner)
        bench = WasmBench(place, wasm_tuning.capabilities_of(runner.machine), **options)
    else:
        bench = await Bench.open(runner.device, **options)
    steps: Sequence[Workload | WasmStep] = ()
    try:
        steps = wasm_tuning.steps(runner) if isinstance(runner, WasmRunner) else workloads(runner)
        tuner = Tuner(bench, records, on_event, thorough=budget > BUDGET)
        if isinstance(runner, ModelRunner) and not records.ceilings and tuner.missing(steps):
            records.ceilings = await ceilings(runner.device)
        if isinstance(bench, Bench) and isinstance(runner, ModelRunner):
            await tuner.tune(steps, budget * WHOLE_TOKENS)
            await whole_tokens.tune(runner, records, bench, tuner)
            await _batches(runner, records, tuner, bench)
        else:
            await tuner.tune(steps)
        if bench.bursts:  # what was not reached keeps its default: the next visit measures nothing
            for step in steps:
                tuner.keep_defaults(step)
    except CancelledError:
        with contextlib.suppress(SourceError):
            await _keep(store, records, bench.bursts)
        raise
    finally:
        for step in steps:
            step.release()
        bench.release()
    await _keep(store, records, bench.bursts)
    use(runner, records, engine)
    return TuningResult(records, budget - bench.left, bench.bursts)


async def _keep(store: Store | None, records: Records, bursts: int) -> None:
    if store is not None and bursts:
        await store.save(records)


class ModelTuning:
    """The records of one loaded model, and at most one run of the tuner that adds to them.

    The runner was loaded with ``records.choose``; what is found or imported is used from the next
    step on.
    """

    def __init__(
        self,
        runner: ModelRunner | WasmRunner,
        store: Store | None,
        records: Records,
        early: int = 0,
    ) -> None:
        self.records = records
        self.early = early
        """Kernels that were tuned while the weights came."""
        self._runner = runner
        self._store = store
        self._engine: Engine | None = None
        self._running: asyncio.Task[TuningResult] | None = None

    def follow(self, engine: Engine) -> None:
        """Let the engine over the runner keep the pace that is recorded, now and after tuning."""
        self._engine = engine
        if not isinstance(self._runner, WasmRunner):
            use(self._runner, self.records, engine)

    async def run(self, **options: Any) -> TuningResult:
        """Tune with the options of ``tune``; BusyError while it is running already.

        Cancelling the task that awaits this stops the tuner; what was found until then is kept.
        """
        if self._running is not None:
            raise BusyError("This model is being tuned already: wait, or stop that first.")
        stopping = False
        given = tune(
            self._runner,
            self.records,
            store=self._store,
            cancelled=lambda: stopping,
            engine=self._engine,
            **options,
        )
        self._running = asyncio.ensure_future(given)
        try:
            return await asyncio.shield(self._running)
        except asyncio.CancelledError:
            stopping = True  # not in the middle of a measurement, whose buffers must be freed
            with contextlib.suppress(Exception):
                await self._running
            use(self._runner, self.records, self._engine)
            raise
        finally:
            self._running = None

    async def load_json(self, text: str) -> int:
        """Take over and keep the records of a document; return how many it held.

        Raises InvalidRequestError where there is none.
        """
        count = self.records.load_json(text)
        if not count:
            raise InvalidRequestError(
                "This holds no tuning records of this version: export them with the same version "
                "of Tilewright.",
                field="records",
            )
        use(self._runner, self.records, self._engine)
        if self._store is not None:
            await self._store.save(self.records)
        return count
