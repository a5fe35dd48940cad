"""Runs a model's steps on the CPU, in WebAssembly: the engine's ``Runner`` without a GPU.

Everything lies in one memory and a step is one call, so results are there when a method returns;
they are queued all the same, because the engine reads them late. The logic of slots is that of
``runner.py``; the arithmetic is ``wasm/``. Natively through wasmtime, in a page in its own engine.
"""

from __future__ import annotations

import math
import struct
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..errors import InvalidRequestError, UnsupportedModelError
from ..formats.lora import LoraAdapter
from ..formats.model_file import ModelFile
from ..graph.ops import Graph, Rows
from ..wasm import host, kernel_set, pool, state, weights
from ..wasm.crew import Crew
from ..wasm.expert_streaming import ExpertStreamer
from ..wasm.kernels import sample
from ..wasm.kernels.cache import KV_BLOCK, KvKind
from ..wasm.scratch import bytes_read
from ..wasm.streaming import Streamer
from . import wasm_program
from .adapters import Adapters, inputs_of, shelf
from .families import Family
from .prepared import Prepared
from .runner_protocol import RowResult, StepResult, Want
from .sampling import SamplingParams
from .wasm_adapters import WasmStacks, adaptable
from .wasm_program import LOGITS_CHUNK, Plan, mask_bytes
from .wasm_slot import Slot

Assembler = Callable[[Plan, kernel_set.ChooseTuning | None, bool], wasm_program.Program]
"""Makes a plan's module with these Tunings (None: with the default ones), complete or not."""
Beside = Callable[[Awaitable[None], weights.Loader, Plan, host.Host, bool], Awaitable[None]]


class WasmRunner:
    """Implements ``runner_protocol.Runner`` for one model in one memory."""

    def __init__(
        self,
        memory: host.Memory,
        plan: Plan,
        made: Assembler,
        machine: host.Host,
        *,
        streamer: Streamer | ExpertStreamer | None = None,
        wide: bool = False,
        ready: Prepared | None = None,
        file: ModelFile | None = None,
    ) -> None:
        some = next(iter(plan.graphs.values()))
        self.memory = memory
        self.machine = machine
        self.wide = wide
        self.graphs = plan.graphs
        self.context_length = plan.own.context_length
        self.vocabulary = some.vocabulary
        self.max_sequences = plan.max_sequences
        self.kv_block = KV_BLOCK
        self.kv_blocks = plan.own.blocks
        self.prefill_chunk = plan.chunk
        self.logits_chunk = min(LOGITS_CHUNK, plan.chunk)
        self.threads = plan.threads
        self.plan = plan
        self.streamer = streamer
        """Brings the layers or experts that are not in the memory; None where all are."""
        self.adapters: Adapters | None = None
        """LoRA adapters, once there was one."""
        self._adapter_of: dict[int, tuple[int, float]] = {}
        """Slot -> its adapter's number and strength."""
        self._stacks = WasmStacks(memory, plan)
        self._used = plan
        """The plan whose program this is: with adapters, where there are any."""
        self._file = file
        self._made = made
        self._state = plan.own
        self._crew = Crew(plan.threads)
        self._slots = [Slot(SamplingParams()) for _ in range(plan.max_sequences)]
        self._queue: deque[StepResult] = deque()
        self._logits_at: int | None = None
        self._last_row = 0
        self._step: host.Instance | None = None
        self._module = b""
        self._choice: kernel_set.ChooseTuning | None = None
        self._complete = False
        self.use(None)
        self.first_program = self._program
        """With the Tunings that were known while loading."""
        self.restored = ready is not None and ready.program is self._program
        """Whether there is nothing that an earlier load has not left."""

    def use(self, choose: kernel_set.ChooseTuning | None) -> None:
        """Compute from now on with kernels of this choice; None: the default. Between two steps."""
        self._choice = choose
        program = self._made(self._used, choose, self._complete)
        if self._step is not None and program.module == self._module:
            return
        self._program: wasm_program.Program = program
        self._module = program.module
        if self._step is not None and self.threads > 1:
            self._step.call("quit")
            self.memory.stop()
            self.memory.write(self.plan.pool, bytes(pool.NBYTES))
            self._crew = Crew(self.threads)
        self._step = self.memory.instantiate(self._program.module)
        if self.threads > 1:
            self.memory.start(self._program.module, self.threads - 1)

    @classmethod
    async def load(
        cls,
        file: ModelFile,
        *,
        context_length: int | None = None,
        max_sequences: int = 4,
        cache_tokens: int | None = None,
        choose: kernel_set.ChooseTuning | None = None,
        wide: bool = False,
        threads: int | None = None,
        kv: KvKind = "f32",
        memory_budget: int | None = None,
        on_progress: weights.Report | None = None,
        ready: Prepared | None = None,
        early: Beside | None = None,
    ) -> WasmRunner:
        """Build the graph, lay the memory out, load the weights.

        ``threads``: that compute together, never more than there are cores, and one where memories
        cannot be shared; None: chosen for this machine.
        ``wide``: activations have 16 bits throughout: nearly exact, half as fast.
        ``cache_tokens``: positions of all sequences together (default: two full contexts, at most).
        ``memory_budget``: bytes of the memory; layers beyond it are read for every step, of a
        mixture of experts only those experts that are chosen and not there.
        ``ready``: what an earlier load of this file with these options left.
        ``early``: awaits the load, and does something else meanwhile.
        Raises OutOfMemoryError where 4 GiB do not suffice, UnsupportedModelError for a format or
        an op that has no kernel here, DeviceUnavailableError without wasmtime.
        """
        if threads is not None and threads < 1:
            raise InvalidRequestError("The number of threads must be positive.")
        machine = host.here()
        together = min(threads or wasm_program.threads_for(machine.cores), machine.cores)
        dots = "seven" if wide else machine.dots
        if ready and ready.plan.own.weights.dots != dots:
            ready = None  # of another processor
        plan = (
            ready.plan
            if ready
            else await wasm_program.plan_load(
                file,
                context_length=context_length,
                max_sequences=max_sequences,
                cache_tokens=cache_tokens,
                threads=together,
                kv=kv,
                budget=memory_budget,
            )
        ).laid_out_for(dots)
        guess = kernel_set.guess(relaxed=machine.relaxed, splat=machine.splat, dots=machine.dots)

        def made(
            used: Plan, chosen: kernel_set.ChooseTuning | None, complete: bool
        ) -> wasm_program.Program:
            choice, relaxed = chosen or choose or guess, machine.relaxed
            if ready and used is plan and not complete and ready.program.agrees(choice):
                return ready.program
            return wasm_program.assemble(
                used, choice, wide=wide, relaxed=relaxed, complete=complete
            )

        memory = ready.memory if ready and ready.memory else None
        memory = memory or machine.allocate(plan.nbytes, together > 1)
        if ready and await ready.weights_are_there(on_progress):
            return cls(memory, plan, made, machine, ready=ready, file=file)
        loader = weights.Loader(memory, plan.own.weights, file, shared=together > 1)
        loading = loader.load(on_progress)
        if early is None:
            await loading
        else:
            await early(loading, loader, plan, machine, wide)
        for table, address in plan.own.ropes.items():
            memory.write(address, state.rope_table_bytes(table, plan.own.context_length))
        streamer: Streamer | ExpertStreamer | None = None
        if plan.own.weights.experts is not None:
            streamer = ExpertStreamer(loader, plan.own.weights.experts)
        elif plan.own.weights.streamed:
            streamer = Streamer(loader)
        # A memory that is not shared is filled here each time: the rest was an earlier load's.
        rest = ready if ready and ready.memory is None else None
        return cls(memory, plan, made, machine, streamer=streamer, wide=wide, ready=rest, file=file)

    # -- per slot --------------------------------------------------------------------------------

    def set_blocks(self, slot: int, blocks: Sequence[int], first: int = 0) -> None:
        """Write block table entries of a slot."""
        inputs = self._state.inputs
        self._write(inputs.tables + 4 * (slot * inputs.max_blocks + first), blocks)

    def set_sampling(
        self, slot: int, sampling: SamplingParams, ids: Sequence[int], prompt_length: int
    ) -> None:
        """Write a slot's counts and bias where they are used; clears its mask."""
        self._slots[slot] = Slot(sampling, len(ids) - 1)
        size = 4 * self.vocabulary
        sampler = self.plan.sampler
        if sampling.penalised:
            counts = array("I", bytes(size))
            for token in set(ids[:prompt_length]):
                counts[token] = sample.IN_PROMPT
            for token in ids[prompt_length:]:
                counts[token] += 1
            self.memory.write(sampler.counts + slot * size, counts.tobytes())
        if sampling.logit_bias:
            bias = array("f", bytes(size))
            for token, value in sampling.logit_bias.items():
                bias[token] = value
            self.memory.write(sampler.bias + slot * size, bias.tobytes())

    def set_mask(self, slot: int, mask: bytes | None) -> None:
        """Write the allowed ids of the slot's next draw."""
        self._slots[slot].masked = mask is not None
        if mask is not None:
            at = self.plan.sampler.mask + slot * mask_bytes(self.vocabulary)
            self.memory.write(at, mask)

    # -- adapters --------------------------------------------------------------------------------

    async def add_adapter(self, adapter: LoraAdapter) -> None:
        """Keep an adapter for the sequences that ask for it by name, from the next step on."""
        if self.adapters is None and self._file is not None and "decode" in self.graphs:
            plain = await wasm_program.plain_graph(self._file, self.context_length)
            self.adapters = Adapters(adaptable(plain), self._file, self._stacks)
        await shelf(self.adapters).add(adapter)

    async def remove_adapter(self, name: str) -> None:
        """Forget an adapter; sequences that still use it go on without."""
        if await shelf(self.adapters).remove(name) is None:
            self._adapter_of.clear()

    def adapter_serial(self, name: str) -> int:
        """Return what tells an adapter from all others; InvalidRequestError where it is none."""
        if self.adapters is None:
            raise InvalidRequestError(
                f"There is no adapter {name[:80]!r}: add it first.", field="adapter"
            )
        return self.adapters.find(name)[2]

    def set_adapter(self, slot: int, name: str | None) -> None:
        """Choose the adapter of a slot's next steps; None: the model as it is."""
        self._adapter_of.pop(slot, None)
        if name is not None and self.adapters is not None:
            number, strength, _ = self.adapters.find(name)
            self._adapter_of[slot] = (number, strength)

    def _family(self, family: Family, slots: Sequence[int]) -> Family:
        """Return the family of a step of these rows, told which adapters they use."""
        if self._used is not self._stacks.plan:
            self._used = self._stacks.plan
            self.graphs = self._used.graphs
            self.use(self._choice)
        if not any(slot in self._adapter_of for slot in slots):
            return family
        adapted: dict[Family, Family] = {"prefill": "prefill+", "all": "all+", "decode": "decode+"}
        chosen = [self._adapter_of.get(slot, (0, 0.0)) for slot in slots]
        for value, data in inputs_of(self.graphs[adapted[family]], chosen):
            self.memory.write(self._used.activations[adapted[family]].at(value), data)
        return adapted[family]

    # -- steps -----------------------------------------------------------------------------------

    async def prefill(self, slot: int, ids: Sequence[int], start: int, *, want: Want) -> None:
        """Compute one chunk of a sequence."""
        # Logits that nobody wants are one row's: less than another family costs at the start.
        family = self._family("all" if want == "all" else "prefill", [slot] * len(ids))
        if want == "all" and not self._complete:
            self._complete = True
            self.use(self._choice)
        most = self.logits_chunk if want == "all" else self.prefill_chunk
        if not 0 < len(ids) <= most:
            raise InvalidRequestError(f"A step takes 1 to {most} tokens, not {len(ids)}.")
        graph = self._graph(family)
        count = len(ids)
        outputs = range(count) if want == "all" else [count - 1]
        self._inputs(ids, range(start, start + count), [slot] * count, outputs)
        await self._run(family, count, len(outputs), 1)
        if graph.logits is not None:
            self._logits_at = self._used.activations[family].at(graph.logits)
            self._last_row = len(outputs) - 1

    async def sample(self, slot: int) -> None:
        """Draw from the last prefill's logits."""
        if self._logits_at is None:
            raise InvalidRequestError("No step has left logits.")
        at = self._logits_at + 4 * self.vocabulary * self._last_row
        own, sampler, size = self._slots[slot], self.plan.sampler, 4 * self.vocabulary
        self.memory.write(sampler.records, own.record(slot, fresh=True))
        chosen = self._call(
            "draw",
            at,
            self.vocabulary,
            sampler.records,
            sampler.counts + slot * size,
            sampler.bias + slot * size,
            sampler.mask + slot * mask_bytes(self.vocabulary),
            sampler.scores,
            sampler.weights,
        )
        self._queue.append(StepResult((self._chosen(slot, chosen, at),)))

    async def decode(self, slots: Sequence[int]) -> None:
        """Compute one decode step."""
        family = self._family("decode", slots)
        graph = self._graph(family)
        if graph.logits is None:
            raise UnsupportedModelError("This model makes embeddings; it cannot generate text.")
        own = [self._slots[slot] for slot in slots]
        count, records = len(own), self.plan.sampler.records
        self._inputs([s.next_id for s in own], [s.position for s in own], slots, range(count))
        made = [s.record(slot, fresh=False) for s, slot in zip(own, slots, strict=True)]
        self.memory.write(records, b"".join(made))
        await self._run(family, count, count, count)
        words = array("I", self.memory.read(records, sample.RECORD_BYTES * count))
        ids = words[sample.CHOSEN // 4 :: sample.RECORD_BYTES // 4]
        at, size = self._used.activations[family].span(graph.logits)
        drawn = [self._chosen(s, ids[i], at + i * size) for i, s in enumerate(slots)]
        self._queue.append(StepResult(tuple(drawn)))

    async def fetch(self) -> StepResult:
        """Return the oldest result."""
        if not self._queue:
            raise InvalidRequestError("No result is on its way.")
        return self._queue.popleft()

    async def logits(self, rows: int) -> bytes:
        """Read the logits of the last prefill."""
        if self._logits_at is None:
            raise InvalidRequestError("No step has left logits.")
        return self.memory.read(self._logits_at, 4 * rows * self.vocabulary)

    async def embed(
        self, slots: Sequence[int], sequences: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Run whole sequences in one step and read their pooled vectors."""
        graph = self._graph("embed")
        if graph.pooled is None:
            raise InvalidRequestError(
                "This model has no pooled embedding: use an embedding model (bert, nomic-bert)."
            )
        ids = [token for sequence in sequences for token in sequence]
        if not 0 < len(ids) <= self.prefill_chunk:
            raise InvalidRequestError(f"A step takes 1 to {self.prefill_chunk} tokens.")
        positions = [position for sequence in sequences for position in range(len(sequence))]
        of_token = [slot for slot, s in zip(slots, sequences, strict=True) for _ in s]
        self._inputs(ids, positions, of_token, [0])
        for slot, sequence in zip(slots, sequences, strict=True):
            self._write(self._state.inputs.lengths + 4 * slot, [len(sequence)])
        await self._run("embed", len(ids), 0, len(slots))
        width = graph.pooled.width
        at = self.plan.activations["embed"].at(graph.pooled)
        flat = array("f", self.memory.read(at, 4 * width * len(slots)))
        return [list(flat[i : i + width]) for i in range(0, len(flat), width)]

    # -- parts -----------------------------------------------------------------------------------

    def _graph(self, family: Family) -> Graph:
        if family in self.graphs:
            return self.graphs[family]
        if family == "embed":
            raise InvalidRequestError(
                "This model has no pooled embedding: use an embedding model (bert, nomic-bert)."
            )
        raise UnsupportedModelError("This model makes embeddings; it cannot generate text.")

    def _write(self, at: int, values: Sequence[int]) -> None:
        self.memory.write(at, array("I", values).tobytes())

    def _inputs(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        slots: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        # They lie one behind the other: in a page, every write costs more than its bytes do.
        inputs = self._state.inputs
        data = bytearray(inputs.outputs - inputs.ids + 4 * len(outputs))
        given = ((inputs.ids, ids), (inputs.positions, positions), (inputs.slots, slots))
        for at, values in (*given, (inputs.outputs, outputs)):
            struct.pack_into(f"<{len(values)}I", data, at - inputs.ids, *values)
        self.memory.write(inputs.ids, data)

    def _call(self, name: str, *values: float) -> Any:
        if self._step is None:
            raise InvalidRequestError("The model is closed.")
        return self._step.call(name, *values)

    async def _run(self, family: Family, tokens: int, outputs: int, sequences: int) -> None:
        """Run a step; where threads are waited for too long, the next ones have fewer."""
        seconds, late = 0.0, 0
        for piece in self._program.functions[family]:
            if piece.layer is not None:
                await self._bring(piece.layer, piece.chosen, (tokens, outputs, sequences))
            begun = time.perf_counter()
            late = self._call(piece.function, tokens, outputs, sequences)
            seconds += time.perf_counter() - begun
        if self.threads > 1 and self._crew.after(seconds, late):
            self._call("rest", self.threads - self._crew.size)

    async def _bring(
        self, layer: int, chosen: wasm_program.Chosen | None, counts: tuple[int, int, int]
    ) -> None:
        """Have in the memory what a piece of a step needs."""
        if isinstance(self.streamer, Streamer):
            await self.streamer.bring(layer)
        elif self.streamer is not None and chosen is not None:
            rows = dict(zip(Rows, counts, strict=True))[chosen.rows]
            data = array("I", self.memory.read(chosen.at, chosen.stride * rows))
            step = chosen.stride // 4
            experts = (e for n in range(0, rows * step, step) for e in data[n : n + chosen.used])
            await self.streamer.bring(layer, experts)

    def _chosen(self, slot: int, chosen: int, logits: int) -> RowResult:
        """Take note of the token drawn from a row of logits: it is the slot's next input."""
        own = self._slots[slot]
        sampling = own.sampling
        own.next_id, own.position = chosen, own.position + 1
        if sampling.logprobs is None:
            return RowResult(slot, chosen)
        return self._explained(slot, chosen, logits, sampling.logprobs)

    def _explained(self, slot: int, chosen: int, logits: int, top: int) -> RowResult:
        """Return the choice with the model's own log-probabilities."""
        out = self.plan.sampler.records
        self._call("mass", logits, self.vocabulary, out)
        peak, total = struct.unpack("<2f", self.memory.read(out, 8))
        norm = peak + math.log(total)

        def value(token: int) -> float:
            found: float = struct.unpack("<f", self.memory.read(logits + 4 * token, 4))[0]
            return found

        best: list[tuple[int, float]] = []
        last, token = math.inf, -1
        for _ in range(min(top, self.vocabulary)):
            token = self._call("runner_up", logits, self.vocabulary, last, token)
            if token < 0:
                break
            last = value(token)
            best.append((token, last - norm))
        return RowResult(slot, chosen, value(chosen) - norm, tuple(best))

    # -- facts -----------------------------------------------------------------------------------

    @property
    def device_name(self) -> str:
        """What computes, in words."""
        threads = f"{self.threads} threads" if self.threads > 1 else "1 thread"
        return f"CPU (WebAssembly SIMD, {threads})"

    @property
    def device_bytes(self) -> int:
        """Bytes of the memory."""
        return self.memory.nbytes

    def plan_stats(self) -> dict[str, float]:
        """Return what one decode step of one sequence costs: kernel calls, steps, bytes read."""
        decode = self.graphs.get("decode")
        return {
            "dispatches_per_token": self._program.calls.get("decode", 0),
            "submits_per_token": 1 if "decode" in self.graphs else 0,
            "bytes_per_token": 0 if decode is None else bytes_read(decode),
            "module_bytes": len(self._program.module),
            "threads": self._crew.size,
            "restored": float(self.restored),
            **({} if self.streamer is None else self.streamer.stats()),
        }

    async def close(self) -> None:
        """End the threads, forget the memory."""
        self._queue.clear()
        if self.streamer is not None:
            await self.streamer.close()
        if self.memory is not None:
            if self.threads > 1:
                self._call("quit")
            self.memory.close()
        self._step = None
        self.memory = None  # type: ignore[assignment]
