"""What a model needs of a device, known from its header: before any weight is read.

``plan_load`` decides context, cache format and cache size, counts every buffer that loading and
the first answers allocate, and holds them against the device's limits and a budget. The context
never shrinks by itself: where a model does not fit, ``Fit.require`` raises OutOfMemoryError with
the largest context, or the largest of the offered quantizations, that would. Allocates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import InvalidRequestError, OutOfMemoryError
from ..formats.model_file import ModelFile
from ..graph.arena import plan_arena
from ..graph.fuse import FusionPlan
from ..graph.layers import spread, streamed_matrices
from ..graph.ops import Attention, Graph, QkvPrepare, Rope, Rows
from ..models.registry import build_graph, read_constants, trained_context
from ..webgpu.device import buffer_bytes
from ..webgpu.kernels import attention
from ..webgpu.kernels.kernel import Capabilities, ceil_div
from ..webgpu.kernels.kv_write import KvKind, KvLayout, kv_row_bytes
from ..webgpu.memory import device_bytes, layer_staging, staging_bytes
from ..webgpu.state import KV_BLOCK
from ..webgpu.structures import attention_structure
from .families import (
    EXACT_CACHE,
    PREFILL_BUCKETS,
    Family,
    capacities,
    default_context,
    fused_graphs,
    kv_bytes,
)
from .sampler import sampler_bytes

_SMALLEST_CONTEXT = KV_BLOCK
_ROPE_ROWS = 256
"""Of a rope table, and positions per further row (``webgpu/kernels/rope.py``)."""
_SMALL = 1 << 16
"""Bytes of what is too small to be listed: step inputs, the sampler's records, read-back rings."""
_MARGIN = 1.02
"""How much a file of another quantization may take beyond its size, once unpacked."""


@dataclass(frozen=True)
class Fit:
    """Bytes on the device, and whether they fit."""

    context_length: int
    kv: KvKind
    cache_tokens: int
    """Positions of all sequences together."""
    weights: int
    cache: int
    activations: int
    """Of prefill and decode, with the tables that depend on the context."""
    staging: int
    """While loading, beside the weights; given back before the cache is allocated."""
    budget: int | None
    """Bytes that the model may take; None: only the device's limits count."""
    fits: bool = True
    largest_context: int = 0
    """The longest context with which it would fit; 0: none."""
    largest_weights: int = 0
    """Bytes of weights that would fit with ``context_length``."""
    largest_choice: str | None = None
    """The largest of the offered quantizations that would fit."""
    message: str | None = None
    """One sentence saying what to do, where it does not fit."""
    streamed_layers: int = 0
    """Layers that would be read for every step so that the rest fits; 0: none."""
    streamed_bytes: int = 0
    """Of the file, for every step; of experts, at most for one token."""
    expert_rooms: int = 0
    """Where only experts of those layers are read, when they are chosen: how many are kept."""

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.weights + max(self.staging, self.cache + self.activations)

    def require(self) -> None:
        """Raise OutOfMemoryError, with these numbers as its details, where it does not fit."""
        if not self.fits:
            facts = self.to_dict()
            raise OutOfMemoryError(str(facts.pop("message")), **facts)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True)
class Streaming:
    """What is not on the device but read for every step."""

    layers: tuple[int, ...]
    staged: int
    """Bytes of each of the two staging buffers."""
    bytes_per_step: int
    """Of the file."""


@dataclass(frozen=True)
class LoadPlan:
    """The graphs of a model on a device, and what they need."""

    plain: Graph
    """Not fused."""
    graphs: Mapping[Family, Graph]
    fit: Fit
    streaming: Streaming | None = None
    """How it is loaded all the same, where it does not fit its budget."""

    def require(self) -> None:
        """Raise OutOfMemoryError where it can be loaded in no way."""
        if self.streaming is None:
            self.fit.require()


@dataclass(frozen=True)
class Choice:
    """Another file of the same model that could be loaded instead."""

    name: str
    """For example ``Q4_K_M``."""
    nbytes: int


async def plan_load(
    file: ModelFile,
    capabilities: Capabilities,
    *,
    context_length: int | None = None,
    kv: KvKind | None = None,
    max_sequences: int = 4,
    cache_tokens: int | None = None,
    budget: int | None = None,
    fusion: FusionPlan | None = None,
    choices: Sequence[Choice] = (),
    complete: bool = False,
) -> LoadPlan:
    """Decide how a model would be loaded, and whether it fits.

    ``kv``: format of the cache; None: f32 where that is small and fits, else f16. The cache holds
    two full contexts (with several sequences) where that fits, else one. ``complete``: count
    activations even where no budget asks for it. Raises FormatError, UnsupportedModelError,
    OutOfMemoryError where a single row of a matrix exceeds the device's limits.
    """
    context = default_context(file) if context_length is None else context_length
    if context < 1 or max_sequences < 1:
        raise InvalidRequestError("The context and the number of sequences must be positive.")
    plain = build_graph(file, context_length=context, constants=await read_constants(file))
    options = _options(plain, kv, cache_tokens, max_sequences)
    likely = options(context)[0][0]
    graphs = fused_graphs(plain, likely, capabilities, fusion)
    some = next(iter(graphs.values()))
    counting = _Counting(
        graphs,
        capabilities,
        max_sequences,
        weights=device_bytes(some, capabilities),
        staging=staging_bytes(file, some),
        budget=budget,
        complete=complete or budget is not None,
    )
    candidates = [counting.fit(context, *option) for option in options(context)]
    found = next((fit for fit in candidates if fit.fits), candidates[0])

    def fits_with(length: int) -> bool:
        return any(counting.fit(length, *option).fits for option in options(length))

    streaming = None
    if not found.fits and budget is not None and file.at_hand:
        streaming = _streaming(file, some, capabilities, candidates[-1], budget)
        if streaming is not None:
            count, nbytes = len(streaming.layers), streaming.bytes_per_step
            found = replace(candidates[-1], streamed_layers=count, streamed_bytes=nbytes)
    if found.kv != likely:
        graphs = fused_graphs(plain, found.kv, capabilities, fusion)
    if not found.fits or complete:
        found = advise(found, file, fits_with, choices)
    return LoadPlan(plain, graphs, found, streaming)


def _streaming(
    file: ModelFile, graph: Graph, capabilities: Capabilities, fit: Fit, budget: int
) -> Streaming | None:
    """Return how to stream the fewest layers with which the rest fits; None where nothing helps."""
    limit = min(capabilities.max_binding, capabilities.max_buffer)
    for count in range(2, graph.layers + 1):
        layers = spread(count, graph.layers)
        found = streamed_matrices(graph, layers)
        staged = max(layer_staging(file, weights, limit) for weights in found.values())
        kept = device_bytes(graph, capabilities, layers)
        if kept + staging_bytes(file, graph, staged) + fit.cache + fit.activations <= budget:
            names = (n for some in found.values() for weight in some for n in weight.tensors)
            return Streaming(layers, staged, sum(file.tensor(name).nbytes for name in names))
    return None


def _options(plain: Graph, kv: KvKind | None, cache_tokens: int | None, max_sequences: int) -> Any:
    """Return what gives the (cache format, cache positions) to try for a context, best first."""

    def options(context: int) -> list[tuple[KvKind, int]]:
        wanted = cache_tokens or context * min(max_sequences, 2)
        sizes = dict.fromkeys((wanted, max(context, min(wanted, context))))
        kinds: list[KvKind] = [kv] if kv else ["f16"]
        if kv is None and kv_bytes(plain, "f32", wanted) <= EXACT_CACHE:
            kinds.insert(0, "f32")
        return [(kind, tokens) for tokens in sizes for kind in kinds]

    return options


@dataclass(frozen=True)
class _Counting:
    """Counts what a context and a cache need."""

    graphs: Mapping[Family, Graph]
    capabilities: Capabilities
    max_sequences: int
    weights: int
    staging: int
    budget: int | None
    complete: bool

    def fit(self, context: int, kv: KvKind, tokens: int) -> Fit:
        some = next(iter(self.graphs.values()))
        cache = kv_bytes(some, kv, tokens)
        steps = self._activations(context, kv) if self.complete else 0
        found = Fit(context, kv, tokens, self.weights, cache, steps, self.staging, self.budget)
        room = (self.budget or 0) - (found.total - found.weights)
        found = replace(found, largest_weights=max(0, room))
        widest = max((kv_row_bytes(kv, max(pair)) for pair in some.kv_width), default=0)
        padded = ceil_div(tokens, KV_BLOCK) * KV_BLOCK
        limit = min(self.capabilities.max_binding, self.capabilities.max_buffer)
        too_large = self.budget is not None and found.total > self.budget
        return replace(found, fits=padded * widest <= limit and not too_large)

    def _activations(self, context: int, kv: KvKind) -> int:
        """Return the bytes of step buffers, tables and sampler, as the first answers need them."""
        causal = "embed" not in self.graphs or len(self.graphs) > 1
        chunk = min(PREFILL_BUCKETS[-1], context) if causal else context
        families: tuple[Family, ...] = ("prefill", "decode") if causal else ("embed",)
        total, scratch, many = _SMALL, 0, self.max_sequences
        for family in families:
            rows = capacities(family, chunk, 1, many)
            total += self._arena(family, tuple(rows.items()))
            total += 3 * buffer_bytes(4 * max(rows[Rows.TOKENS], 4))
            scratch = max(scratch, self._scratch(family, rows[Rows.TOKENS], context, kv))
        tables = {
            op.table
            for op in next(iter(self.graphs.values())).ops
            if isinstance(op, Rope | QkvPrepare) and op.table is not None
        }
        rope_rows = _ROPE_ROWS + ceil_div(context, _ROPE_ROWS)
        total += sum(buffer_bytes(4 * table.dimensions * rope_rows) for table in tables)
        total += 4 * many * ceil_div(context, KV_BLOCK)
        if causal:
            vocabulary = self.graphs["decode"].vocabulary
            total += sampler_bytes(vocabulary, many)
        return total + scratch

    def _scratch(self, family: Family, tokens: int, context: int, kv: KvKind) -> int:
        """Return what attention keeps between its two dispatches, with its default Tuning."""
        most = 0
        for op in self.graphs[family].ops:
            if isinstance(op, Attention):
                layout = KvLayout(
                    kv,
                    op.kv_heads,
                    op.head_size,
                    op.value_size,
                    KV_BLOCK,
                    ceil_div(context, KV_BLOCK),
                )
                structure = attention_structure(op, layout, tokens)
                tuning = attention.default(structure, self.capabilities)
                most = max(most, attention.partials_bytes(structure, tuning))
        return most

    def _arena(self, family: Family, rows: tuple[tuple[Rows, int], ...]) -> int:
        slots = plan_arena(self.graphs[family], dict(rows)).slots
        return sum(buffer_bytes(size) for size in slots)


def advise(fit: Fit, file: ModelFile, fits_with: Any, choices: Sequence[Choice]) -> Fit:
    """Add the largest context and the largest choice that would fit, and the sentence."""
    low, high = 0, trained_context(file) // _SMALLEST_CONTEXT
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits_with(middle * _SMALLEST_CONTEXT) else (low, middle - 1)
    longest = low * _SMALLEST_CONTEXT
    if fit.fits:
        longest = max(longest, fit.context_length)
    stored = sum(tensor.nbytes for tensor in file.items())
    growth = max(1.0, fit.weights / max(stored, 1)) * _MARGIN
    smaller = [
        choice
        for choice in choices
        if fit.budget is None or choice.nbytes * growth <= fit.largest_weights
    ]
    best = max(smaller, key=lambda choice: choice.nbytes, default=None)
    message = None if fit.fits else _sentence(fit, longest, best)
    name = None if best is None else best.name
    return replace(fit, largest_context=longest, largest_choice=name, message=message)


def _sentence(fit: Fit, longest: int, best: Choice | None) -> str:
    if fit.budget is not None and fit.total > fit.budget:
        need = (
            f"With a context of {fit.context_length} positions this model needs "
            f"{fit.total / 1e6:.0f} MB on the device, of which {fit.weights / 1e6:.0f} MB are "
            f"weights, and {fit.budget / 1e6:.0f} MB are there"
        )
    else:
        need = (
            f"A cache of {fit.cache_tokens} positions in {fit.kv} exceeds this device's largest "
            "buffer"
        )
    ways = []
    if longest:
        ways.append(f"a context of at most {longest} positions")
    if best is not None:
        ways.append(f"the quantization {best.name} ({best.nbytes / 1e6:.0f} MB)")
    if fit.streamed_layers:
        upto = "up to " if fit.expert_rooms else ""
        read = f"{upto}{fit.streamed_bytes / 1e6:.0f} MB read for every step"
        ways.append(f"this memory budget, with {read} (slow)")
    if not ways:
        ways.append("a smaller model or a smaller quantization")
    return f"{need}: choose {' or '.join(ways)}."
