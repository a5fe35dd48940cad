"""Runs a model's steps on the CPU, in WebAssembly: the engine's ``Runner`` without a GPU.

Everything lies in one memory and a step is one call, so results are there when a method returns;
they are queued all the same, because the engine reads them late. The logic of slots is that of
``runner.py``; the arithmetic is ``wasm/``. Natively through wasmtime, in a page in its own engine.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidRequestError, UnsupportedModelError
from ..formats.model_file import ModelFile
from ..graph.ops import Graph, KvWrite, Rows
from ..models.registry import build_graph, original_context, read_constants
from ..wasm import host, kernel_set, lower, pool, state, steps, weights
from ..wasm import scratch as scratches
from ..wasm.assembler import Module
from ..wasm.instructions import without_relaxed
from ..wasm.kernels import sample
from ..wasm.kernels.attention import KV_BLOCK
from .runner_protocol import RowResult, StepResult, Want
from .sampling import SamplingParams

DEFAULT_CONTEXT = 4096
PREFILL_CHUNK = 256
LOGITS_CHUNK = 64
Family = Literal["prefill", "cache", "all", "decode", "embed"]


@dataclass
class _Slot:
    """What the runner knows of a sequence."""

    sampling: SamplingParams
    next_id: int = 0
    position: int = -1
    """Of ``next_id``."""
    masked: bool = False


class WasmRunner:
    """Implements ``runner_protocol.Runner`` for one model in one memory."""

    def __init__(
        self,
        memory: host.Memory,
        graphs: Mapping[Family, Graph],
        own: state.State,
        program: _Program,
        *,
        max_sequences: int,
    ) -> None:
        some = next(iter(graphs.values()))
        self.memory = memory
        self.graphs = graphs
        self.context_length = own.context_length
        self.vocabulary = some.vocabulary
        self.max_sequences = max_sequences
        self.kv_block = KV_BLOCK
        self.kv_blocks = own.blocks
        self.prefill_chunk = program.chunk
        self.logits_chunk = min(LOGITS_CHUNK, program.chunk)
        self._state = own
        self._program = program
        self.threads = program.threads
        self._step = memory.instantiate(program.module)
        if program.threads > 1:
            memory.start(program.module, program.threads - 1)
        self._slots = [_Slot(SamplingParams()) for _ in range(max_sequences)]
        self._queue: deque[StepResult] = deque()
        self._logits_at: int | None = None
        self._last_row = 0

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
        on_progress: weights.Report | None = None,
    ) -> WasmRunner:
        """Build the graph, lay the memory out, load the weights.

        ``threads``: that compute together, never more than there are cores, and one where memories
        cannot be shared; None: chosen for this machine.
        ``wide``: activations have 16 bits throughout: nearly exact, half as fast.
        ``cache_tokens``: positions of all sequences together (default: two full contexts, at most).
        Raises OutOfMemoryError where 4 GiB do not suffice, UnsupportedModelError for a format or
        an op that has no kernel here, DeviceUnavailableError without wasmtime.
        """
        context = context_length or min(original_context(file), DEFAULT_CONTEXT)
        if context < 1 or max_sequences < 1 or (threads is not None and threads < 1):
            raise InvalidRequestError(
                "The context and the numbers of sequences and threads must be positive."
            )
        machine = host.here()
        together = min(threads or _threads(machine.cores), machine.cores)
        plain = build_graph(file, context_length=context, constants=await read_constants(file))
        graphs = _graphs(plain)
        tokens = cache_tokens or context * min(max_sequences, 2)
        layout = weights.Layout()
        placed = weights.plan_weights(layout, graphs.values(), file)
        chunk = context if not plain.causal else min(PREFILL_CHUNK, context)
        own = state.plan_state(
            layout,
            graphs.values(),
            placed,
            context_length=context,
            tokens=tokens,
            max_sequences=max_sequences,
            chunk=chunk,
        )
        guess = kernel_set.default_choice if machine.relaxed else kernel_set.plain_choice
        kinds = _Kinds(choose or guess, wide, together)
        with without_relaxed(not machine.relaxed):
            program = _Program(layout, graphs, own, chunk, max_sequences, kinds)
        memory = machine.allocate(layout.nbytes, together > 1)
        await weights.load_weights(memory, placed, file, on_progress, shared=together > 1)
        for table, address in own.ropes.items():
            memory.write(address, state.rope_table_bytes(table, context))
        return cls(memory, graphs, own, program, max_sequences=max_sequences)

    # -- per slot --------------------------------------------------------------------------------

    def set_blocks(self, slot: int, blocks: Sequence[int], first: int = 0) -> None:
        """Write block table entries of a slot."""
        inputs = self._state.inputs
        self._write(inputs.tables + 4 * (slot * inputs.max_blocks + first), blocks)

    def set_sampling(
        self, slot: int, sampling: SamplingParams, ids: Sequence[int], prompt_length: int
    ) -> None:
        """Write a slot's counts and bias where they are used; clears its mask."""
        own = self._slots[slot]
        own.sampling, own.masked = sampling, False
        own.position = len(ids) - 1
        size = 4 * self.vocabulary
        sampler = self._program.sampler
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
            at = self._program.sampler.mask + slot * _mask_bytes(self.vocabulary)
            self.memory.write(at, mask)

    # -- steps -----------------------------------------------------------------------------------

    async def prefill(self, slot: int, ids: Sequence[int], start: int, *, want: Want) -> None:
        """Compute one chunk of a sequence."""
        family: Family = {"none": "cache", "last": "prefill", "all": "all"}[want]  # type: ignore[assignment]
        most = self.logits_chunk if want == "all" else self.prefill_chunk
        if not 0 < len(ids) <= most:
            raise InvalidRequestError(f"A step takes 1 to {most} tokens, not {len(ids)}.")
        graph = self._graph(family)
        count = len(ids)
        outputs = range(count) if want == "all" else [count - 1]
        self._inputs(ids, range(start, start + count), [slot] * count, outputs)
        self._run(family, count, len(outputs), 1)
        if graph.logits is not None:
            self._logits_at = self._program.activations[family].at(graph.logits)
            self._last_row = len(outputs) - 1

    async def sample(self, slot: int) -> None:
        """Draw from the last prefill's logits."""
        if self._logits_at is None:
            raise InvalidRequestError("No step has left logits.")
        at = self._logits_at + 4 * self.vocabulary * self._last_row
        self._queue.append(StepResult((self._draw(slot, at, fresh=True),)))

    async def decode(self, slots: Sequence[int]) -> None:
        """Compute one decode step."""
        graph = self._graph("decode")
        own = [self._slots[slot] for slot in slots]
        count = len(own)
        self._inputs([s.next_id for s in own], [s.position for s in own], slots, range(count))
        self._run("decode", count, count, count)
        if graph.logits is None:
            raise UnsupportedModelError("This model makes embeddings; it cannot generate text.")
        at = self._program.activations["decode"].at(graph.logits)
        size = 4 * self.vocabulary
        drawn = [self._draw(s, at + i * size, fresh=False) for i, s in enumerate(slots)]
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
        self._run("embed", len(ids), 0, len(slots))
        width = graph.pooled.width
        at = self._program.activations["embed"].at(graph.pooled)
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
        inputs = self._state.inputs
        self._write(inputs.ids, ids)
        self._write(inputs.positions, positions)
        self._write(inputs.slots, slots)
        self._write(inputs.outputs, outputs)

    def _run(self, family: Family, tokens: int, outputs: int, sequences: int) -> None:
        self._step.call(f"step_{family}", tokens, outputs, sequences)

    def _draw(self, slot: int, logits: int, *, fresh: bool) -> RowResult:
        """Draw a token from a row of logits; it becomes the slot's next input."""
        own, sampler = self._slots[slot], self._program.sampler
        sampling, size = own.sampling, 4 * self.vocabulary
        if sampling.penalised and not fresh:
            # The token that this step has read is part of the answer now.
            at = sampler.counts + slot * size + 4 * own.next_id
            (count,) = struct.unpack("<I", self.memory.read(at, 4))
            self._write(at, [count + 1])
        uses = sample.USES_PENALTIES * sampling.penalised
        uses |= sample.USES_BIAS * bool(sampling.logit_bias) | sample.USES_MASK * own.masked
        record = sample.pack_record(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition=sampling.repetition_penalty,
            frequency=sampling.frequency_penalty,
            presence=sampling.presence_penalty,
            uses=uses,
            seed=sampling.seed,
            position=own.position + 1,
        )
        self.memory.write(sampler.record, record)
        chosen = self._step.call(
            "draw",
            logits,
            self.vocabulary,
            sampler.record,
            sampler.counts + slot * size,
            sampler.bias + slot * size,
            sampler.mask + slot * _mask_bytes(self.vocabulary),
            sampler.scores,
            sampler.weights,
        )
        own.next_id, own.position = chosen, own.position + 1
        if sampling.logprobs is None:
            return RowResult(slot, chosen)
        return self._explained(slot, chosen, logits, sampling.logprobs)

    def _explained(self, slot: int, chosen: int, logits: int, top: int) -> RowResult:
        """Return the choice with the model's own log-probabilities."""
        out = self._program.sampler.record
        self._step.call("mass", logits, self.vocabulary, out)
        peak, total = struct.unpack("<2f", self.memory.read(out, 8))
        norm = peak + math.log(total)

        def value(token: int) -> float:
            found: float = struct.unpack("<f", self.memory.read(logits + 4 * token, 4))[0]
            return found

        best: list[tuple[int, float]] = []
        last, token = math.inf, -1
        for _ in range(min(top, self.vocabulary)):
            token = self._step.call("runner_up", logits, self.vocabulary, last, token)
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

    def plan_stats(self) -> dict[str, int]:
        """Return what one decode step of one sequence costs: kernel calls, steps, bytes read."""
        return {
            "dispatches_per_token": self._program.calls.get("decode", 0),
            "submits_per_token": 1 if "decode" in self.graphs else 0,
            "bytes_per_token": self._program.bytes_read,
            "module_bytes": len(self._program.module),
            "threads": self.threads,
        }

    async def close(self) -> None:
        """End the threads, forget the memory."""
        self._queue.clear()
        if self.memory is not None:
            if self.threads > 1:
                self._step.call("quit")
            self.memory.close()
        self._step = None  # type: ignore[assignment]
        self.memory = None  # type: ignore[assignment]


@dataclass(frozen=True)
class _Sampler:
    """Addresses of what drawing needs."""

    record: int
    counts: int
    bias: int
    mask: int
    scores: int
    weights: int


@dataclass(frozen=True)
class _Kinds:
    """How a program's kernels are made."""

    choose: kernel_set.ChooseTuning
    wide: bool
    threads: int


class _Program:
    """The one module: kernels, a function per family, the sampler; and its memory's plan."""

    def __init__(
        self,
        layout: weights.Layout,
        graphs: Mapping[Family, Graph],
        own: state.State,
        chunk: int,
        max_sequences: int,
        kinds: _Kinds,
    ) -> None:
        self.chunk = chunk
        self.threads = kinds.threads
        self.activations: dict[Family, state.Activations] = {}
        self.calls: dict[Family, int] = {}
        vocabulary = next(iter(graphs.values())).vocabulary
        row = 4 * vocabulary
        self.sampler = _Sampler(
            layout.take(sample.RECORD_BYTES),
            layout.take(row * max_sequences),
            layout.take(row * max_sequences),
            layout.take(_mask_bytes(vocabulary) * max_sequences),
            layout.take(row),
            layout.take(row),
        )
        module = Module(host.SHARED if kinds.threads > 1 else host.IMPORTED)
        kernels = kernel_set.Kernels(module, kinds.choose, kinds.wide)
        capacities = {name: _capacities(name, chunk, max_sequences) for name in graphs}
        needed = max(scratches.scratch_bytes(graphs[n], capacities[n]) for n in graphs)
        private = max(scratches.private_bytes(graph) for graph in graphs.values())
        area = layout.take(private * kinds.threads)
        scratch = scratches.Scratch(layout.take(needed), needed, area, private)
        shared = kinds.threads > 1
        threads = pool.Pool(module, layout.take(pool.NBYTES), kinds.threads) if shared else None
        made = steps.Steps(module, threads)
        for name, graph in graphs.items():
            counts = capacities[name]
            self.activations[name] = state.plan_activations(layout, graph, counts)
            lowering = lower.Lowering(
                kernels, own, self.activations[name], scratch, counts, many=name != "decode"
            )
            lowering.lower(graph, name, made)
            self.calls[name] = lowering.calls
        made.finish()
        sample.add_sampler(module)
        self.module = module.assemble()
        some = graphs.get("decode")
        self.bytes_read = 0 if some is None else scratches.bytes_read(some)


def _threads(cores: int) -> int:
    """Return how many threads to use: memory is the limit, and half of many cores are slow ones."""
    return cores if cores <= 4 else min(8, max(4, cores // 2))


def _capacities(family: Family, chunk: int, max_sequences: int) -> dict[Rows, int]:
    if family == "decode":
        return dict.fromkeys(Rows, max_sequences)
    tokens = min(LOGITS_CHUNK, chunk) if family == "all" else chunk
    outputs = tokens if family == "all" else 1
    return {Rows.TOKENS: tokens, Rows.OUTPUTS: outputs, Rows.SEQUENCES: max_sequences}


def _graphs(plain: Graph) -> dict[Family, Graph]:
    """Return the graph of each family; they read the same weights."""
    if not plain.causal:
        return {"embed": lower.fused(plain, "late")}
    prefill = lower.fused(plain, "early")
    made: dict[Family, Graph] = {
        "prefill": prefill,
        "cache": _until_cache(prefill),
        "all": lower.fused(plain, "all"),
        "decode": lower.fused(plain, "all"),
    }
    if plain.pooled is not None:
        made["embed"] = lower.fused(plain, "late")
    return made


def _until_cache(graph: Graph) -> Graph:
    """Cut everything after the last write to the cache: a step whose logits nobody wants."""
    last = max(i for i, op in enumerate(graph.ops) if isinstance(op, KvWrite))
    ops = graph.ops[: last + 1]
    return Graph(ops, graph.vocabulary, graph.layers, graph.kv_width, None)


def _mask_bytes(vocabulary: int) -> int:
    return -(-vocabulary // 32) * 4
