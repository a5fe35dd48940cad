"""A step of a model as material for tuning: real weights, but inputs and a cache of its own.

Nothing that a generation in progress needs is written. A ``Subject`` is one kernel of the step (a
kernel module and a Structure) with all its places in the model, so that it can be timed cold, over
the weights of one layer after the other. Knows graphs and the lowering; nothing of sequences.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..graph.ops import Graph, KvWrite, Op, QkvPrepare, Rows
from ..webgpu.device import BufferRange, Device
from ..webgpu.kernels.kernel import Capabilities, Cost, ceil_div
from ..webgpu.kernels.kv_write import kv_row_bytes
from ..webgpu.lower import Choose, Lowering, default_choice
from ..webgpu.plan import Call, record
from ..webgpu.state import (
    KV_BLOCK,
    ModelState,
    Scratch,
    StepBuffers,
    allocate_step,
    u32,
    whole,
)
from . import space
from .verify import submit

_POSITIONS = 512
"""Positions of the cache that attention is timed on, where the context is as long."""
_CACHES = 8
"""Layers with a scratch cache of their own: enough to be cold."""
_RANDOM = 4099
"""Random numbers that fill the activations again and again: a prime, so that no two rows agree."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One kernel of a step."""

    module: Any
    structure: Any
    instances: int
    """Places of the step that run it."""
    build: Callable[[int, Any], list[Any]]
    """(instance, Tuning) -> its calls: each has a ``kernel`` that knows its cost."""
    prepare: Callable[[], Awaitable[None]]
    """Puts inputs into place as the step before it leaves them."""

    def cost(self, tuning: Any) -> Cost:
        """Return what one instance must move and compute."""
        return total_cost(self.build(0, tuning))

    def choices(self, capabilities: Capabilities) -> int:
        """Return the size of its search space."""
        return len(space.candidates(self.module, self.structure, capabilities))


class Workload:
    """One family of steps: the decode of a token, or the prefill of a chunk."""

    def __init__(
        self,
        name: str,
        device: Device,
        graph: Graph,
        state: ModelState,
        rows: Mapping[Rows, int],
        context_length: int,
    ) -> None:
        """Allocate inputs, activations and a cache; OutOfMemoryError where there is no room."""
        self.name = name
        self.graph = graph
        self.capacity = rows[Rows.TOKENS]
        """Most tokens of a step."""
        self.used = self.capacity
        """Tokens of the steps that are timed; fewer where a whole step takes too long."""
        self._device = device
        self._rows = dict(rows)
        self._context = context_length
        positions = max(min(_POSITIONS, context_length), self.capacity)
        self._blocks = ceil_div(positions, KV_BLOCK)
        self._own: list[BufferRange] = []
        self._state = self._scratch_state(state, graph)
        self._step: StepBuffers = allocate_step(device, graph, rows)
        self._subjects: list[Subject] | None = None

    def _new(self, nbytes: int, label: str) -> BufferRange:
        made = whole(self._device, nbytes, label)
        self._own.append(made)
        return made

    def _scratch_state(self, state: ModelState, graph: Graph) -> ModelState:
        keys: list[BufferRange] = []
        values: list[BufferRange] = []
        rows = KV_BLOCK * self._blocks
        kept: dict[tuple[int, int, int], tuple[BufferRange, BufferRange]] = {}
        for layer, (key, value) in enumerate(graph.kv_width):
            place = (layer % _CACHES, key, value)
            if place not in kept:
                kept[place] = (
                    self._new(rows * kv_row_bytes(state.kv, key), "tuning keys"),
                    self._new(rows * kv_row_bytes(state.kv, value), "tuning values"),
                )
            keys.append(kept[place][0])
            values.append(kept[place][1])
        tables = self._new(4 * state.max_blocks * state.max_sequences, "tuning block tables")
        lengths = self._new(4 * state.max_sequences, "tuning lengths")
        self._device.queue.write_buffer(tables.buffer, 0, u32(range(self._blocks)))
        return replace(
            state,
            keys=tuple(keys),
            values=tuple(values),
            block_tables=tables,
            lengths=lengths,
            blocks=self._blocks,
            scratch=Scratch(self._device),
        )

    # -- inputs ----------------------------------------------------------------------------------

    def use(self, tokens: int) -> None:
        """Let steps have ``tokens`` tokens, the last ones of the scratch cache."""
        self.used = min(tokens, self.capacity)
        write, step, count = self._device.queue.write_buffer, self._step, self.used
        last = self._blocks * KV_BLOCK
        chosen = random.Random(count)
        ids = [chosen.randrange(self.graph.vocabulary) for _ in range(count)]
        first = last - count if self.graph.causal else 0
        write(step.ids.buffer, 0, u32(ids))
        write(step.positions.buffer, 0, u32(range(first, first + count)))
        write(step.slots.buffer, 0, u32([0] * count))
        write(step.outputs.buffer, 0, u32([count - 1] * self._rows[Rows.OUTPUTS]))
        write(self._state.lengths.buffer, 0, u32([count]))
        outputs = min(self._rows[Rows.OUTPUTS], count)
        step.write_step(self._device, tokens=count, outputs=outputs, sequences=1, first_slot=0)

    async def fill(self) -> None:
        """Fill activations and cache with random numbers of order 1."""
        chosen = random.Random(1)
        pattern = array("f", (chosen.gauss(0.0, 1.0) for _ in range(_RANDOM)))
        for place in self._step.activations:
            count = place.size // 4
            data = (pattern * ceil_div(count, _RANDOM))[:count].tobytes()
            self._device.queue.write_buffer(place.buffer, 0, data)
        writers = [op for op in self.graph.ops if isinstance(op, KvWrite | QkvPrepare)][:_CACHES]
        if not writers:
            self.use(self.capacity)
            return
        calls = [call for op in writers for call in self._lower(op, default_choice)]
        plan = await record(self._device, f"tuning {self.name} cache", calls)
        self.use(self.capacity)
        for first in range(0, self._blocks * KV_BLOCK, self.capacity):
            if self.capacity == 1 and first % KV_BLOCK:
                continue  # one token at a time is slow: a few rows per block will do
            positions = [min(first + i, self._blocks * KV_BLOCK - 1) for i in range(self.capacity)]
            self._device.queue.write_buffer(self._step.positions.buffer, 0, u32(positions))
            await submit(self._device, plan.dispatches)
        self.use(self.capacity)

    # -- what is tuned ---------------------------------------------------------------------------

    def _lower(self, op: Op, choose: Choose) -> list[Call]:
        lowering = Lowering(
            self._device.capabilities,
            self._rows,
            self._context,
            self._state,
            self._step,
            choose,
        )
        return lowering.lower(replace(self.graph, ops=(op,)))

    def calls(self, choose: Choose) -> list[Call]:
        """Return the dispatches of the whole step."""
        return [call for op in self.graph.ops for call in self._lower(op, choose)]

    def subjects(self) -> list[Subject]:
        """Return the distinct kernels of the step in the order of their first use."""
        if self._subjects is None:
            places: dict[tuple[Any, Any], list[Op]] = {}
            for op in self.graph.ops:
                for asked in self._asked(op):
                    found = places.setdefault(asked, [])
                    if op not in found[-1:]:
                        found.append(op)
            firsts = [ops[0] for ops in places.values()]
            self._subjects = [
                self._subject(module, structure, ops, firsts[:number])
                for number, ((module, structure), ops) in enumerate(places.items())
            ]
        return self._subjects

    def _asked(self, op: Op) -> list[tuple[Any, Any]]:
        """Return which kernels an op is made of."""
        asked: list[tuple[Any, Any]] = []

        def listen(module: Any, structure: Any, capabilities: Any) -> Any:
            asked.append((module, structure))
            return module.default(structure, capabilities)

        self._lower(op, listen)
        return asked

    def _subject(
        self, module: Any, structure: Any, ops: Sequence[Op], before: Sequence[Op]
    ) -> Subject:
        others = [self._lower(op, default_choice) for op in ops]
        kernels: dict[Any, list[Call]] = {}

        def build(instance: int, tuning: Any) -> list[Call]:
            def choose(other: Any, shape: Any, capabilities: Any) -> Any:
                if other is module and shape == structure:
                    return tuning
                return other.default(shape, capabilities)

            if tuning not in kernels:  # linked once; instances differ in what is bound
                kernels.clear()
                kernels[tuning] = self._lower(ops[0], choose)
            made, own = kernels[tuning], others[instance]
            if len(own) == 1:
                return [Call(c.kernel, {**c.ranges, **own[0].ranges}) for c in made]
            if len(own) == len(made):
                pairs = zip(made, own, strict=True)
                return [Call(c.kernel, {**c.ranges, **o.ranges}) for c, o in pairs]
            return self._lower(ops[instance], choose)

        async def prepare() -> None:
            calls = [call for op in before for call in self._lower(op, default_choice)]
            plan = await record(self._device, f"tuning {self.name} inputs", calls)
            await submit(self._device, plan.dispatches)

        return Subject(module, structure, len(ops), build, prepare)

    @property
    def result(self) -> BufferRange:
        """Some bytes that a step leaves, as small as what is read back of a token."""
        place = self._step.value(self.graph.logits) if self.graph.logits else self._step.ids
        return BufferRange(place.buffer, place.offset, min(place.size, 64))

    def cost(self) -> Cost:
        """Return what the whole step must move and compute."""
        return total_cost(self.calls(default_choice))

    def release(self) -> None:
        """Free everything."""
        self._step.release(self._device)
        self._state.scratch.release()
        for made in self._own:
            self._device.release(made.buffer)
        self._own.clear()


def total_cost(calls: Sequence[Any]) -> Cost:
    """Return what calls must move and compute together."""
    kernels = [call.kernel for call in calls]
    return Cost(sum(k.cost.nbytes for k in kernels), sum(k.cost.flops for k in kernels))
