"""What a model is on the CPU path before it runs: where everything lies, and the one module.

``plan_memory`` decides addresses from the header alone, so that what does not fit is known before
anything is read; ``assemble`` makes the kernels, one function per family, and the sampler, for a
choice of Tunings. The same plan can be assembled again with another choice. Holds no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidRequestError
from ..formats.model_file import ModelFile
from ..graph.layers import expert_layers, parts, spread
from ..graph.ops import Graph, Rows
from ..models.registry import build_graph, original_context, read_constants
from ..wasm import host, kernel_set, lower, pool, state, steps, weights
from ..wasm import scratch as scratches
from ..wasm.assembler import Function, Module
from ..wasm.instructions import without_relaxed
from ..wasm.kernels import linear, sample
from ..wasm.kernels.cache import KvKind
from ..wasm.kernels.packing import Dots
from .families import Family
from .fit import Choice, Fit, advise

DEFAULT_CONTEXT = 4096
PREFILL_CHUNK = 256
LOGITS_CHUNK = 64
_MOST = host.MOST_PAGES * host.PAGE
_NEAR = 16 << 20
"""Bytes of weights that a processor's caches are likely to hold from step to step."""


@dataclass(frozen=True)
class Sampler:
    """Addresses of what drawing needs; one after the other for each row, slot or thread."""

    records: int
    counts: int
    bias: int
    mask: int
    scores: int
    weights: int
    scratch_bytes: int
    """From one thread's scores (or weights) to the next's."""


@dataclass(frozen=True)
class Plan:
    """The graphs of a model and the addresses of everything."""

    graphs: Mapping[Family, Graph]
    own: state.State
    sampler: Sampler
    scratch: scratches.Scratch
    activations: Mapping[Family, state.Activations]
    trial: int
    """Address of the room in which the tuner's kernels run."""
    pool: int
    """Of the words that threads share."""
    threads: int
    chunk: int
    max_sequences: int
    cache_tokens: int
    weights_bytes: int
    cache_bytes: int
    nbytes: int
    """Of the whole memory."""

    def laid_out_for(self, dots: Dots) -> Plan:
        """Return the plan with matrices laid out for such dot products; nothing moves."""
        return replace(self, own=replace(self.own, weights=replace(self.own.weights, dots=dots)))


@dataclass(frozen=True)
class Piece:
    """A function of a step, and what must be in the memory before it is called."""

    function: str
    layer: int | None = None
    """The streamed layer that it needs; None: none."""
    chosen: Chosen | None = None
    """Only these experts of it; None: all that it has."""


@dataclass(frozen=True)
class Chosen:
    """Where the numbers of the chosen experts are."""

    at: int
    stride: int
    """Bytes from row to row."""
    used: int
    """Numbers in a row."""
    rows: Rows


@dataclass(frozen=True)
class Program:
    """The module of a plan."""

    module: bytes
    calls: Mapping[Family, int]
    """Kernels that a step calls."""
    functions: Mapping[Family, tuple[Piece, ...]]
    """A step's functions in order."""
    tunings: tuple[tuple[linear.Structure, bool, linear.Tuning], ...]
    """The Tunings that it is made of."""

    def agrees(self, choose: kernel_set.ChooseTuning) -> bool:
        """Whether ``choose`` would lead to the same module."""
        return all(choose(structure, many) == tuning for structure, many, tuning in self.tunings)


async def plan_load(
    file: ModelFile,
    *,
    context_length: int | None = None,
    max_sequences: int = 4,
    cache_tokens: int | None = None,
    threads: int = 1,
    budget: int | None = None,
    kv: KvKind = "f32",
) -> Plan:
    """Read the header and decide where everything lies.

    The cache holds two full contexts (with several sequences) where that fits, else one. Experts or
    layers beyond ``budget`` bytes are streamed. Raises UnsupportedModelError, InvalidRequestError;
    OutOfMemoryError where not even that makes it fit.
    """
    context = context_length or min(original_context(file), DEFAULT_CONTEXT)
    if context < 1 or max_sequences < 1:
        raise InvalidRequestError("The context and the number of sequences must be positive.")
    graphs = fused_families(await plain_graph(file, context))
    most = min(budget or _MOST, _MOST)
    plan = _widest(file, graphs, context, max_sequences, cache_tokens, threads, most, kv)
    if budget is None or plan.nbytes <= most:
        return plan
    streamed = _streamed(file, plan, most)
    if streamed is None:
        fit, _ = await plan_fit(
            file, context_length=context, max_sequences=max_sequences, budget=budget, kv=kv
        )
        fit.require()
    tokens = plan.cache_tokens
    return plan_memory(file, graphs, context, tokens, max_sequences, threads, streamed, kv=kv)


async def plain_graph(file: ModelFile, context_length: int) -> Graph:
    """Return a model's graph, not fused."""
    return build_graph(file, context_length=context_length, constants=await read_constants(file))


@dataclass(frozen=True)
class Streamed:
    """What is not in the memory but read when it is needed."""

    layers: tuple[int, ...] = ()
    rooms: int = 0
    """For experts of all layers; 0: they are in the memory with their layers."""
    bytes_per_step: int = 0
    """Of the file, at most for one token."""


def _streamed(file: ModelFile, plan: Plan, most: int) -> Streamed | None:
    """Return what to stream so that the rest fits ``most`` bytes: experts, else whole layers."""
    some = next(iter(plan.graphs.values()))
    if not file.at_hand:
        return None
    rest = plan.nbytes - plan.weights_bytes

    def placed(streamed: Streamed) -> tuple[int, weights.Weights]:
        layout = weights.Layout()
        how = streamed.layers, streamed.rooms
        made = weights.plan_weights(layout, plan.graphs.values(), file, *how)
        return rest + layout.nbytes, made

    if _by_expert(some):
        taken, made = placed(Streamed(rooms=1))
        assert made.experts is not None
        raw, least = weights.expert_bytes(file, made.experts), max(made.experts.experts.values())
        # What is on its way is held twice for a moment.
        rooms = 1 + (most - taken - min(least * raw, made.raw_bytes)) // made.experts.each
        if rooms >= least:  # all that a prompt's tokens choose in a layer
            used = sum(ops[0].used for ops in expert_layers(some).values())
            return Streamed(rooms=rooms, bytes_per_step=used * raw)
    for count in range(2, some.layers + 1):
        chosen = spread(count, some.layers)
        coming = [_layer_bytes(file, plan, layer) for layer in chosen]
        if placed(Streamed(chosen))[0] + max(coming) <= most:
            return Streamed(chosen, bytes_per_step=sum(coming))
    return None


def _by_expert(graph: Graph) -> bool:
    """Whether single experts can be read: each tensor holds one part of every expert."""
    ops = [op for found in expert_layers(graph).values() for op in found]
    return bool(ops) and all(len(op.weight.tensors) == (2 if op.gate_then_up else 1) for op in ops)


def _layer_bytes(file: ModelFile, plan: Plan, layer: int) -> int:
    return weights.layer_bytes(file, plan.own.weights.matrices, layer)


def _widest(
    file: ModelFile,
    graphs: Mapping[Family, Graph],
    context: int,
    max_sequences: int,
    cache_tokens: int | None,
    threads: int,
    most: int,
    kv: KvKind,
) -> Plan:
    """Return the plan with the larger of the two caches that are worth having and fit."""
    tokens = cache_tokens or context * min(max_sequences, 2)
    plan = plan_memory(file, graphs, context, tokens, max_sequences, threads, kv=kv)
    if plan.nbytes > most and cache_tokens is None and tokens > context:
        plan = plan_memory(file, graphs, context, context, max_sequences, threads, kv=kv)
    return plan


def plan_memory(
    file: ModelFile,
    graphs: Mapping[Family, Graph],
    context: int,
    tokens: int,
    max_sequences: int,
    threads: int,
    streamed: Streamed | None = None,
    *,
    kv: KvKind = "f32",
) -> Plan:
    """Give everything its address, for a cache of ``tokens`` positions."""
    layout = weights.Layout()
    how = (streamed.layers, streamed.rooms) if streamed else ()
    placed = weights.plan_weights(layout, graphs.values(), file, *how)
    weights_bytes = layout.nbytes
    chunk = context if tuple(graphs) == ("embed",) else min(PREFILL_CHUNK, context)
    own = state.plan_state(
        layout,
        graphs.values(),
        placed,
        context_length=context,
        tokens=tokens,
        max_sequences=max_sequences,
        chunk=chunk,
        kv=kv,
    )
    some = next(iter(graphs.values()))
    row = 4 * some.vocabulary
    apart = (row + 16 + 63) // 64 * 64
    sampler = Sampler(
        layout.take(sample.RECORD_BYTES * max_sequences),
        layout.take(row * max_sequences),
        layout.take(row * max_sequences),
        layout.take(mask_bytes(some.vocabulary) * max_sequences),
        layout.take(apart * threads),
        layout.take(apart * threads),
        apart,
    )
    rows = {name: capacities(name, chunk, max_sequences) for name in graphs}
    needed = max(scratches.scratch_bytes(graphs[n], rows[n]) for n in graphs)
    private = max(scratches.private_bytes(graph) for graph in graphs.values())
    area = layout.take(private * threads)
    scratch = scratches.Scratch(layout.take(needed), needed, area, private)
    trial = layout.take(max(scratches.trial_bytes(graph) for graph in graphs.values()))
    words = layout.take(pool.NBYTES)
    activations = {n: state.plan_activations(layout, graphs[n], rows[n]) for n in graphs}
    return Plan(
        graphs,
        own,
        sampler,
        scratch,
        activations,
        trial,
        words,
        threads,
        chunk,
        max_sequences,
        tokens,
        weights_bytes,
        state.kv_bytes(some, tokens, kv),
        layout.nbytes,
    )


def assemble(
    plan: Plan,
    choose: kernel_set.ChooseTuning,
    *,
    wide: bool = False,
    relaxed: bool = True,
    complete: bool = True,
) -> Program:
    """Make a plan's module with the Tunings that ``choose`` names.

    ``complete``: with the family that few ever ask for (``all``: logits of a whole prompt).
    ``wide``: activations have 16 bits throughout. Raises UnsupportedModelError for an op or a
    format that has no kernel here.
    """
    with without_relaxed(not relaxed):
        shared = plan.threads > 1
        module = Module(host.SHARED if shared else host.IMPORTED)
        near, dots = plan.weights_bytes <= _NEAR, plan.own.weights.dots
        kernels = kernel_set.Kernels(module, choose, wide, near, dots)
        made = steps.Steps(module, pool.Pool(module, plan.pool, plan.threads) if shared else None)
        draws = sample.add_sampler(module)
        calls: dict[Family, int] = {}
        functions: dict[Family, tuple[Piece, ...]] = {}
        layers, rooms = plan.own.weights.streamed, plan.own.weights.experts
        for name, graph in plan.graphs.items():
            if name.startswith("all") and not complete:
                continue
            lowering = lower.Lowering(
                kernels,
                plan.own,
                plan.activations[name],
                plan.scratch,
                capacities(name, plan.chunk, plan.max_sequences),
                many=not name.startswith("decode"),
            )
            drawn = _draws(draws, plan, name, graph) if name.startswith("decode") else ()
            cut = parts(graph, layers, () if rooms is None else rooms.places)
            pieces: list[Piece] = []
            for number, part in enumerate(cut):
                called = f"{name}_{number}" if len(cut) > 1 else name
                last = drawn if part is cut[-1] else ()
                lowering.lower(part.graph, called, made, last)
                chosen = None
                if part.chosen is not None:
                    where = plan.activations[name].span(part.chosen)
                    chosen = Chosen(*where, part.chosen.width, part.chosen.rows)
                pieces.append(Piece(f"step_{called}", part.layer, chosen))
            functions[name] = tuple(pieces)
            calls[name] = lowering.calls
        made.finish()
        tunings = tuple((*key, tuning) for key, tuning in kernels.chosen.items())
        return Program(module.assemble(), calls, functions, tunings)


def _draws(kernel: Function, plan: Plan, family: Family, graph: Graph) -> tuple[steps.Call, ...]:
    """Return the call with which a step of decode ends: a token for each of its rows."""
    if graph.logits is None:
        return ()
    own = plan.sampler
    at, row = plan.activations[family].span(graph.logits)
    values = (
        *(steps.Moving(at, row), row),
        *(steps.Moving(own.records, sample.RECORD_BYTES), steps.COUNT),
        graph.vocabulary,
        *(own.counts, own.bias, own.mask),
        steps.Private(own.scores, own.scratch_bytes),
        steps.Private(own.weights, own.scratch_bytes),
    )
    rows = Rows.SEQUENCES
    return (steps.Call(kernel, values, rows, steps.Split(rows, 1)),)


async def plan_fit(
    file: ModelFile,
    *,
    context_length: int | None = None,
    max_sequences: int = 4,
    budget: int | None = None,
    choices: Sequence[Choice] = (),
    kv: KvKind = "f32",
) -> tuple[Fit, int]:
    """Say what a model needs of a memory of at most 4 GiB, and how many layers it has."""
    first = await plan_load(file, context_length=context_length, max_sequences=max_sequences, kv=kv)
    most = min(budget or _MOST, _MOST)
    streamed = None if budget is None or first.nbytes <= most else _streamed(file, first, most)
    layers = () if streamed is None else streamed.layers
    if streamed is not None and streamed.rooms:
        layers = tuple(expert_layers(next(iter(first.graphs.values()))))

    def fit(context: int) -> Fit:
        plan = _widest(file, first.graphs, context, max_sequences, None, 1, most, kv)
        rest = plan.nbytes - plan.weights_bytes
        return Fit(
            context,
            kv,
            plan.cache_tokens,
            plan.weights_bytes,
            plan.cache_bytes,
            rest - plan.cache_bytes,
            0,
            most,
            plan.nbytes <= most,
            largest_weights=max(0, most - rest),
            streamed_layers=len(layers),
            streamed_bytes=0 if streamed is None else streamed.bytes_per_step,
            expert_rooms=0 if streamed is None else streamed.rooms,
        )

    def fits_with(context: int) -> bool:
        return fit(context).fits

    found = advise(fit(first.own.context_length), file, fits_with, choices)
    return replace(found, budget=budget), next(iter(first.graphs.values())).layers


def threads_for(cores: int) -> int:
    """Return how many threads to use: memory is the limit, and half of many cores are slow ones."""
    return cores if cores <= 4 else min(8, max(4, cores // 2))


def capacities(family: Family, chunk: int, max_sequences: int) -> dict[Rows, int]:
    """Return the most rows of a family's steps."""
    if family.startswith("decode"):
        return dict.fromkeys(Rows, max_sequences)
    every = family.startswith("all")
    tokens = min(LOGITS_CHUNK, chunk) if every else chunk
    outputs = tokens if every else 1
    return {Rows.TOKENS: tokens, Rows.OUTPUTS: outputs, Rows.SEQUENCES: max_sequences}


def fused_families(plain: Graph) -> dict[Family, Graph]:
    """Return the graph of each family; they read the same weights."""
    if not plain.causal:
        return {"embed": lower.fused(plain, "late")}
    every = lower.fused(plain, "all")
    made: dict[Family, Graph] = {
        "prefill": lower.fused(plain, "early"),
        "all": every,
        "decode": every,
    }
    if plain.pooled is not None:
        made["embed"] = lower.fused(plain, "late")
    return made


def mask_bytes(vocabulary: int) -> int:
    """Return the bytes of one bit per id, in whole words."""
    return -(-vocabulary // 32) * 4
