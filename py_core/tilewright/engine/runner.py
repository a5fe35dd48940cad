"""Runs a model's steps on the GPU: the engine's ``Runner``, made of recorded plans.

Three families of plans share weights and cache: ``prefill`` (one sequence, many tokens, the last
row's logits), ``all`` (the same with every row's logits) and ``decode`` (one token of several
sequences). A plan is recorded when a capacity is first needed and replayed from then on. The chosen
ids stay on the GPU; results are read back late, through a ring. Knows ids, not text.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import DeviceLostError, InvalidRequestError, UnsupportedModelError
from ..formats.lora import LoraAdapter
from ..formats.model_file import ModelFile
from ..graph.fuse import FusionPlan
from ..graph.ops import Graph, Rows
from ..webgpu import state as gpu_state
from ..webgpu.device import BufferRange, Device, Fence
from ..webgpu.kernels import sample
from ..webgpu.kernels.kv_write import KvKind
from ..webgpu.kernels.linear import Arithmetic
from ..webgpu.lower import Choose, Lowering, default_choice
from ..webgpu.memory import Beside, OnProgress, load_weights
from ..webgpu.plan import Plan, record
from ..webgpu.replay import replayer
from ..webgpu.state import KV_BLOCK, ModelState, StepBuffers, u32
from ..webgpu.streaming import Streamer
from . import families
from .adapters import Adapters, GpuStacks, inputs_of, shelf
from .families import (
    ADAPTED,
    LOGITS_CHUNK,
    PREFILL_BUCKETS,
    RING,
    Family,
    fused_graphs,
    until_cache,
)
from .fit import LoadPlan, plan_load
from .runner_protocol import RowResult, StepResult, Want
from .sampler import Queued, Sampler
from .sampling import SamplingParams


class ModelRunner:
    """Implements ``runner_protocol.Runner`` for one model on one device."""

    def __init__(
        self,
        device: Device,
        graphs: Mapping[Family, Graph],
        state: ModelState,
        *,
        context_length: int,
        choose: Choose = default_choice,
        adapters: Adapters | None = None,
        streamer: Streamer | None = None,
        fused: Callable[[FusionPlan], Mapping[Family, Graph]] | None = None,
    ) -> None:
        self.device = device
        self.graphs = dict(graphs)
        self.adapters = adapters
        """LoRA adapters; None where the model cannot have any."""
        self.streamer = streamer
        """Brings the layers that are not on the device; None where all are."""
        self.fused = fused
        """Graphs by another fusion plan, for the tuner; None where there is none to choose."""
        self._adapter_of: dict[int, tuple[int, float]] = {}
        """Slot -> its adapter's number and strength."""
        self._prefilled: Family = "prefill"
        """The family of the last prefill that left logits to draw from."""
        self.choose = choose
        self.context_length = context_length
        some = next(iter(graphs.values()))
        self.vocabulary = some.vocabulary
        self.max_sequences = state.max_sequences
        self.kv_block = KV_BLOCK
        self.kv_blocks = state.blocks
        self.encoder = not some.causal
        self.prefill_chunk = families.prefill_chunk(context_length, encoder=self.encoder)
        self.logits_chunk = min(LOGITS_CHUNK, self.prefill_chunk)
        self._state = state
        self._families: dict[Family, StepBuffers] = {}
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._replay = replayer(device, 4 * sample.RESULT_WORDS * state.max_sequences, RING)
        self._queue: deque[Queued] = deque()
        self._sampler = Sampler(device, self.vocabulary, state.max_sequences)
        self._rows: tuple[int, ...] | None = None
        """Slots of the decode family's rows, or None when they must be written anew."""
        self._logits_of: BufferRange | None = None
        self._fences: deque[Fence] = deque()
        self._decode_plans: tuple[Plan, ...] = ()
        self._decode_logprobs: int | None = None
        self._coming: dict[Family, Graph] = {}

    @classmethod
    async def load(
        cls,
        device: Device,
        file: ModelFile,
        *,
        context_length: int | None = None,
        kv: KvKind | None = None,
        max_sequences: int = 4,
        cache_tokens: int | None = None,
        memory_budget: int | None = None,
        arithmetic: Arithmetic = "f32",
        fusion: FusionPlan | None = None,
        choose: Choose = default_choice,
        on_progress: OnProgress | None = None,
        early: Callable[[Device, LoadPlan, Arithmetic], Beside] | None = None,
    ) -> ModelRunner:
        """Build the graph, upload the weights, allocate the cache.

        ``kv``: format of the cache; None: f32 where that is small, else f16.
        ``cache_tokens``: positions of all sequences together (default: two full contexts, at most).
        ``memory_budget``: bytes of device memory; layers beyond it are read for every step. Where
        that is not enough, OutOfMemoryError, before any weight is read, says what would fit.
        ``early``: gives what is done while bytes come, where no budget forbids what that takes.
        """
        plan = await plan_load(
            file,
            device.capabilities,
            context_length=context_length,
            kv=kv,
            max_sequences=max_sequences,
            cache_tokens=cache_tokens,
            budget=memory_budget,
            fusion=fusion,
        )
        plan.require()
        some = next(iter(plan.graphs.values()))
        context = plan.fit.context_length
        async with device.all_or_nothing():
            streamer, given = None, (device, file, some)
            if plan.streaming is None:
                whole = memory_budget is None
                beside = early(device, plan, arithmetic) if early and whole else None
                weights = await load_weights(*given, on_progress=on_progress, beside=beside)
            else:
                how = plan.streaming.layers, plan.streaming.staged
                streamer = await Streamer.load(*given, *how, on_progress=on_progress)
                weights = streamer.weights
            state = gpu_state.allocate_state(
                device,
                some,
                weights,
                kv=plan.fit.kv,
                context_length=context,
                tokens=plan.fit.cache_tokens,
                max_sequences=max_sequences,
                arithmetic=arithmetic,
            )
            graph = families.adaptable(plan.plain, plan.fit.kv, device.capabilities)
            adapters = Adapters(graph, file, GpuStacks(device, weights))
            return cls(
                device,
                plan.graphs,
                state,
                context_length=context,
                choose=choose,
                adapters=adapters if plan.plain.logits is not None else None,
                streamer=streamer,
                fused=partial(fused_graphs, plan.plain, plan.fit.kv, device.capabilities),
            )

    # -- plans -----------------------------------------------------------------------------------

    def _graph(self, family: Family) -> Graph:
        if family in self.graphs:
            return self.graphs[family]
        if family == "embed":
            raise InvalidRequestError(
                "This model has no pooled embedding: use an embedding model (bert, nomic-bert)."
            )
        raise UnsupportedModelError("This model makes embeddings; it cannot generate text.")

    def _step(self, family: Family) -> StepBuffers:
        if family not in self._families:
            capacities = families.capacities(
                family, self.prefill_chunk, self.logits_chunk, self.max_sequences
            )
            graph = self._graph(family)
            self._families[family] = gpu_state.allocate_step(self.device, graph, capacities)
        return self._families[family]

    async def _plan(self, family: Family, rows: dict[Rows, int], graph: Graph, name: str) -> Plan:
        key = (family, name, *rows.values())
        if key not in self._plans:
            lowering = Lowering(
                self.device.capabilities,
                rows,
                self.context_length,
                self._state,
                self._step(family),
                self.choose,
            )
            label = f"{family} {name} {list(rows.values())}"
            if self.streamer is None:
                plan = await record(self.device, label, lowering.lower(graph))
            else:
                plan = await self.streamer.record(label, lowering.lower, graph)
            if lowering.choose is not self.choose:
                return plan  # ``use`` came in between: good for this step only
            self._plans[key] = plan
        return self._plans[key]

    async def prepare(self) -> None:
        """Record what a first answer needs, so that it does not wait for the shader compiler."""
        if self.encoder:
            return
        # In the order of need: a chat's first prompt has more than eight tokens.
        await self._prepare_prefill(PREFILL_BUCKETS[1])
        graph = self._graph("decode")
        await self._plan("decode", dict.fromkeys(Rows, 1), graph, "logits")
        await self._prepare_prefill(PREFILL_BUCKETS[0])

    async def _prepare_prefill(self, tokens: int) -> None:
        rows = {Rows.TOKENS: min(tokens, self.prefill_chunk), Rows.OUTPUTS: 1, Rows.SEQUENCES: 1}
        await self._plan("prefill", rows, self._graph("prefill"), "logits")

    def use(self, choose: Choose) -> None:
        """Take other Tunings from the next step on: recorded plans are dropped.

        May be called between any two steps, those on their way included; results stay the same.
        """
        self.choose = choose
        self._plans.clear()
        self._rows = None

    def use_graphs(self, graphs: Mapping[Family, Graph]) -> None:
        """Compute these families by other graphs of the same weights, from the next step on."""
        self._coming = {f: g for f, g in graphs.items() if g != self.graphs.get(f)}

    @property
    def state(self) -> ModelState:
        """Weights, cache and tables, as the tuner reads them."""
        return self._state

    # -- adapters --------------------------------------------------------------------------------

    async def add_adapter(self, adapter: LoraAdapter) -> None:
        """Keep an adapter for the sequences that ask for it by name."""
        self._use_adapted(await shelf(self.adapters).add(adapter))

    async def remove_adapter(self, name: str) -> None:
        """Forget an adapter; sequences that still use it go on without."""
        self._use_adapted(await shelf(self.adapters).remove(name))

    def _use_adapted(self, graph: Graph | None) -> None:
        self._replace(ADAPTED, {} if graph is None else dict.fromkeys(ADAPTED, graph))
        if graph is None:
            self._adapter_of.clear()

    def _replace(self, dropped: Sequence[Family], graphs: Mapping[Family, Graph]) -> None:
        for family in dropped:
            self.graphs.pop(family, None)
            step = self._families.pop(family, None)
            if step is not None:
                step.release(self.device)
        self.graphs.update(graphs)
        self._plans = {key: plan for key, plan in self._plans.items() if key[0] not in dropped}
        self._sampler.forget(dropped)
        self._rows = None

    def _take_graphs(self) -> None:
        if self._coming:
            coming, self._coming = self._coming, {}
            self._replace(tuple(coming), coming)

    def adapter_serial(self, name: str) -> int:
        """Return what tells an adapter from all others; InvalidRequestError where it is none."""
        if self.adapters is None:
            raise InvalidRequestError("This model takes no adapters.", field="adapter")
        return self.adapters.find(name)[2]

    def set_adapter(self, slot: int, name: str | None) -> None:
        """Choose the adapter of a slot's next steps; None: the model as it is."""
        self._rows = None
        self._adapter_of.pop(slot, None)
        if name is not None and self.adapters is not None:
            number, strength, _ = self.adapters.find(name)
            self._adapter_of[slot] = (number, strength)

    def _write_adapters(self, family: Family, slots: Sequence[int]) -> None:
        """Write which adapter each row of a step uses."""
        chosen = [self._adapter_of.get(slot, (0, 0.0)) for slot in slots]
        for value, data in inputs_of(self._graph(family), chosen):
            self.device.queue.write_buffer(self._step(family).value(value).buffer, 0, data)

    # -- per slot --------------------------------------------------------------------------------

    def set_blocks(self, slot: int, blocks: Sequence[int], first: int = 0) -> None:
        """Write block table entries of a slot."""
        if blocks:
            at = 4 * (slot * self._state.max_blocks + first)
            self.device.queue.write_buffer(self._state.block_tables.buffer, at, u32(blocks))

    def set_sampling(
        self, slot: int, sampling: SamplingParams, ids: Sequence[int], prompt_length: int
    ) -> None:
        """Upload a slot's sampler record, and its counts and bias where they are used."""
        self._rows = None
        self._sampler.set_sampling(slot, sampling, ids, prompt_length)

    def set_mask(self, slot: int, mask: bytes | None) -> None:
        """Upload the allowed ids of the slot's next draw."""
        if self._sampler.set_mask(slot, mask):
            self._rows = None

    # -- steps -----------------------------------------------------------------------------------

    async def prefill(self, slot: int, ids: Sequence[int], start: int, *, want: Want) -> None:
        """Submit one chunk of a sequence."""
        self._take_graphs()
        family: Family = "all" if want == "all" else "prefill"
        if slot in self._adapter_of:
            family = "all+" if want == "all" else "prefill+"
        most = self.logits_chunk if want == "all" else self.prefill_chunk
        if not 0 < len(ids) <= most:
            raise InvalidRequestError(f"A step takes 1 to {most} tokens, not {len(ids)}.")
        bucket = families.prefill_capacity(len(ids), most, encoder=self.encoder)
        outputs = {"none": 0, "last": 1, "all": len(ids)}[want]
        graph = self._graph(family)
        if want == "none":
            graph = until_cache(graph)
        rows = {
            Rows.TOKENS: bucket,
            Rows.OUTPUTS: bucket if want == "all" else 1,
            Rows.SEQUENCES: 1,
        }
        plan = await self._plan(family, rows, graph, "cache" if want == "none" else "logits")
        step = self._step(family)
        wanted = range(len(ids)) if want == "all" else [len(ids) - 1]
        positions = range(start, start + len(ids))
        step.write_inputs(self.device, ids, positions, [slot] * len(ids), wanted)
        self._write_adapters(family, [slot] * len(ids))
        step.write_step(self.device, tokens=len(ids), outputs=outputs, sequences=1, first_slot=slot)
        await self._submit([plan])
        if graph.logits is not None:
            self._logits_of = step.value(graph.logits)
            self._prefilled = family
        # A long prompt must not flood the queue, or stopping it would come too late.
        self._fences.append(self.device.fence())
        if len(self._fences) > 2:
            await self._fences.popleft().reached()

    async def _submit(self, plans: Sequence[Plan], result: BufferRange | None = None) -> None:
        if self.streamer is None:
            self._replay.submit(plans, result)
        else:
            await self.streamer.submit(self._replay, plans, result)

    async def sample(self, slot: int) -> None:
        """Submit the draw from the last prefill's logits."""
        structure = self._sampler.structure([slot], 1, advance=False)
        family = self._prefilled
        step, logits = self._step(family), self._graph(family).logits
        plan = await self._sampler.plan(family, structure, step, logits)
        await self._submit([plan], self._sampler.results(1))
        self._queue.append(Queued((slot,), structure.logprobs))
        self._rows = None

    async def decode(self, slots: Sequence[int]) -> None:
        """Submit one decode step."""
        self._take_graphs()
        rows = tuple(slots)
        if rows != self._rows:
            await self._enter_batch(rows)
        await self._submit(self._decode_plans, self._sampler.results(len(rows)))
        self._queue.append(Queued(rows, self._decode_logprobs))

    async def _enter_batch(self, slots: tuple[int, ...]) -> None:
        """Write the rows of the decode family for a new batch; ids stay on the GPU."""
        capacity = min(families.batch_capacity(len(slots)), self.max_sequences)
        family: Family = "decode+" if any(s in self._adapter_of for s in slots) else "decode"
        graph = self._graph(family)
        forward = await self._plan(family, dict.fromkeys(Rows, capacity), graph, "logits")
        step = self._step(family)
        structure = self._sampler.structure(slots, capacity, advance=True)
        draw = await self._sampler.plan(family, structure, step, graph.logits)
        self._decode_plans, self._decode_logprobs = (forward, draw), structure.logprobs
        write = self.device.queue.write_buffer
        write(step.slots.buffer, 0, u32(slots))
        write(step.outputs.buffer, 0, u32(range(len(slots))))
        self._write_adapters(family, slots)
        count = len(slots)
        step.write_step(
            self.device, tokens=count, outputs=count, sequences=count, first_slot=slots[0]
        )
        encoder = self.device.handle.create_command_encoder()
        records = self._sampler.records.buffer
        for row, slot in enumerate(slots):
            at = slot * sample.SAMPLER_BYTES
            copy = encoder.copy_buffer_to_buffer
            copy(records, at + sample.NEXT_ID, step.ids.buffer, 4 * row, 4)
            copy(records, at + sample.NEXT_POSITION, step.positions.buffer, 4 * row, 4)
        self.device.queue.submit([encoder.finish()])
        self._rows = slots

    async def fetch(self) -> StepResult:
        """Wait for the oldest result."""
        if not self._queue:
            raise InvalidRequestError("No result is on its way.")
        data = await self._replay.fetch()
        queued = self._queue.popleft()
        top = queued.logprobs or 0
        rows = []
        for slot, found in zip(
            queued.slots, sample.unpack_results(data, len(queued.slots), top), strict=True
        ):
            if found.slot != slot:
                raise DeviceLostError("The GPU returned a result that does not belong here.")
            logprob = None if queued.logprobs is None else found.logprob
            rows.append(RowResult(slot, found.id, logprob, found.top))
        return StepResult(tuple(rows))

    async def logits(self, rows: int) -> bytes:
        """Read back the logits of the last prefill."""
        if self._logits_of is None:
            raise InvalidRequestError("No step has left logits.")
        return await self.device.read(self._logits_of.buffer, 0, 4 * rows * self.vocabulary)

    async def embed(
        self, slots: Sequence[int], sequences: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Run whole sequences in one step and read their pooled vectors."""
        graph = self._graph("embed")
        pooled = graph.pooled
        if pooled is None:
            raise InvalidRequestError(
                "This model has no pooled embedding: use an embedding model (bert, nomic-bert)."
            )
        ids = [token for sequence in sequences for token in sequence]
        positions = [position for sequence in sequences for position in range(len(sequence))]
        of_token = [slot for slot, s in zip(slots, sequences, strict=True) for _ in s]
        if not 0 < len(ids) <= self.prefill_chunk:
            raise InvalidRequestError(f"A step takes 1 to {self.prefill_chunk} tokens.")
        rows = {
            Rows.TOKENS: families.prefill_capacity(
                len(ids), self.prefill_chunk, encoder=self.encoder
            ),
            Rows.OUTPUTS: 1,
            Rows.SEQUENCES: min(families.batch_capacity(len(slots)), self.max_sequences),
        }
        plan = await self._plan("embed", rows, graph, "pooled")
        step = self._step("embed")
        step.write_inputs(self.device, ids, positions, of_token, slots)
        write = self.device.queue.write_buffer
        for slot, sequence in zip(slots, sequences, strict=True):
            write(self._state.lengths.buffer, 4 * slot, u32([len(sequence)]))
        counts = {"tokens": len(ids), "outputs": 0, "sequences": len(slots)}
        step.write_step(self.device, **counts, first_slot=slots[0])
        await self._submit([plan])
        nbytes = 4 * pooled.width * len(slots)
        flat = array("f", await self.device.read(step.value(pooled).buffer, 0, nbytes))
        return [list(flat[i : i + pooled.width]) for i in range(0, len(flat), pooled.width)]

    # -- facts -----------------------------------------------------------------------------------

    @property
    def device_name(self) -> str:
        """What computes, in words."""
        return self.device.name

    @property
    def device_bytes(self) -> int:
        """Bytes allocated on the device."""
        return self.device.allocated

    def plan_stats(self) -> dict[str, float]:
        """Return what one decode step of one sequence costs: dispatches, submits, bytes."""
        plans = self._decode_plans
        return {
            "dispatches_per_token": sum(len(plan.dispatches) for plan in plans),
            "submits_per_token": 1 if plans else 0,
            "bytes_per_token": sum(plan.nbytes for plan in plans),
            "submits": self._replay.submits,
            **({} if self.streamer is None else self.streamer.stats()),
        }

    async def close(self) -> None:
        """Free everything on the device."""
        while self._fences:
            await self._fences.popleft().reached()
        self._replay.release()
        for step in self._families.values():
            step.release(self.device)
        self._sampler.release()
        if self.adapters is not None:
            self.adapters.release()
        if self.streamer is not None:
            await self.streamer.close()
        self._state.release(self.device)
        self._plans.clear()
