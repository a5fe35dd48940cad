"""Buffers that live as long as the model: the KV cache, and the inputs and activations of steps.

``ModelState`` is shared by all plans; a ``StepBuffers`` belongs to one family of plans (prefill,
decode), whose steps run one after the other. Knows shapes, not what fills them.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import OutOfMemoryError
from ..graph.arena import Arena, plan_arena
from ..graph.ops import Graph, QkvPrepare, Rope, RopeTable, Rows, Value
from .device import BufferRange, Device
from .kernels.kernel import ceil_div
from .kernels.kv_write import KvKind, kv_row_bytes
from .kernels.linear import Arithmetic
from .kernels.rope import rope_table_bytes
from .memory import Weights

KV_BLOCK = 32
"""Positions per block of the cache."""


class Scratch:
    """Memory that a kernel needs between two dispatches of one op; all plans share it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._ranges: list[BufferRange] = []

    def at_least(self, nbytes: int) -> BufferRange:
        """Return a range of ``nbytes`` or more; recorded plans keep the smaller ones they have."""
        if not self._ranges or self._ranges[-1].size < nbytes:
            self._ranges.append(whole(self._device, nbytes, "scratch"))
        return self._ranges[-1]

    def release(self) -> None:
        """Free everything."""
        for found in self._ranges:
            self._device.release(found.buffer)
        self._ranges.clear()


@dataclass(frozen=True)
class ModelState:
    """Weights, cache and tables."""

    weights: Weights
    kv: KvKind
    keys: tuple[BufferRange, ...]
    values: tuple[BufferRange, ...]
    block_tables: BufferRange
    """u32[slots, max_blocks]."""
    lengths: BufferRange
    """u32[slots]."""
    rope_tables: Mapping[RopeTable, BufferRange]
    max_sequences: int
    max_blocks: int
    """Blocks per sequence."""
    blocks: int
    """Physical blocks."""
    scratch: Scratch
    arithmetic: Arithmetic = "f32"
    """What dense linear maps are computed in, where their weights' formats allow it."""

    def release(self, device: Device) -> None:
        """Free everything."""
        self.weights.release(device)
        self.scratch.release()
        for r in (
            *self.keys,
            *self.values,
            self.block_tables,
            self.lengths,
            *self.rope_tables.values(),
        ):
            device.release(r.buffer)


def kv_bytes(graph: Graph, kv: KvKind, tokens: int) -> int:
    """Return the bytes of a cache of ``tokens`` positions."""
    padded = ceil_div(tokens, KV_BLOCK) * KV_BLOCK
    rows = sum(kv_row_bytes(kv, key) + kv_row_bytes(kv, value) for key, value in graph.kv_width)
    return padded * rows


def whole(device: Device, nbytes: int, label: str, usage: Sequence[str] = ()) -> BufferRange:
    """Return a new buffer as a range of all of it."""
    buffer = device.buffer(nbytes, label=label, usage=usage)
    return BufferRange(buffer, 0, buffer.size)


def allocate_state(
    device: Device,
    graph: Graph,
    weights: Weights,
    *,
    kv: KvKind,
    context_length: int,
    tokens: int,
    max_sequences: int,
    arithmetic: Arithmetic = "f32",
) -> ModelState:
    """Allocate the cache for ``tokens`` positions in all and the tables.

    Raises OutOfMemoryError with the largest possible cache where a layer exceeds a binding.
    """
    blocks = ceil_div(tokens, KV_BLOCK)
    max_blocks = ceil_div(context_length, KV_BLOCK)
    widest = max((kv_row_bytes(kv, max(pair)) for pair in graph.kv_width), default=0)
    if blocks * KV_BLOCK * widest > device.capabilities.max_binding:
        most = device.capabilities.max_binding // widest // KV_BLOCK * KV_BLOCK
        raise OutOfMemoryError(
            f"A KV cache of {tokens} positions exceeds this device's binding limit: choose a "
            f"context of at most {most} positions, or a smaller cache format.",
            largest_context=most,
        )
    keys: list[BufferRange] = []
    values: list[BufferRange] = []
    for layer, (key_width, value_width) in enumerate(graph.kv_width):
        for found, width, name in ((keys, key_width, "keys"), (values, value_width, "values")):
            nbytes = blocks * KV_BLOCK * kv_row_bytes(kv, width)
            found.append(whole(device, nbytes, f"{name} {layer}"))
    tables: dict[RopeTable, BufferRange] = {}
    for op in graph.ops:
        table = op.table if isinstance(op, Rope | QkvPrepare) else None
        if table is not None and table not in tables:
            data = rope_table_bytes(table, context_length)
            tables[table] = whole(device, len(data), "rope table")
            device.queue.write_buffer(tables[table].buffer, 0, data)
    return ModelState(
        weights,
        kv,
        tuple(keys),
        tuple(values),
        whole(device, 4 * max_sequences * max_blocks, "block tables"),
        whole(device, 4 * max_sequences, "lengths"),
        tables,
        max_sequences,
        max_blocks,
        blocks,
        Scratch(device),
        arithmetic,
    )


@dataclass(frozen=True)
class StepBuffers:
    """Inputs and activations of one family of plans, at its capacity."""

    step: BufferRange
    ids: BufferRange
    positions: BufferRange
    slots: BufferRange
    outputs: BufferRange
    activations: tuple[BufferRange, ...]
    """The arena's slots."""
    arena: Arena

    def value(self, value: Value) -> BufferRange:
        """Return where a value's storage lies."""
        return self.activations[self.arena.slot_of(value)]

    def write_step(
        self, device: Device, *, tokens: int, outputs: int, sequences: int, first_slot: int
    ) -> None:
        """Write the run-time values of ``shaders/lib/step.wgsl``."""
        data = struct.pack("<4I", tokens, outputs, sequences, first_slot)
        device.queue.write_buffer(self.step.buffer, 0, data)

    def write_inputs(
        self,
        device: Device,
        ids: Sequence[int],
        positions: Sequence[int],
        slots: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        """Write the tokens of a step and which rows are wanted."""
        write = device.queue.write_buffer
        write(self.ids.buffer, 0, u32(ids))
        write(self.positions.buffer, 0, u32(positions))
        write(self.slots.buffer, 0, u32(slots))
        write(self.outputs.buffer, 0, u32(outputs))

    def release(self, device: Device) -> None:
        """Free everything."""
        ranges = (self.step, self.ids, self.positions, self.slots, self.outputs)
        for r in (*ranges, *self.activations):
            device.release(r.buffer)


def allocate_step(device: Device, graph: Graph, rows: Mapping[Rows, int]) -> StepBuffers:
    """Allocate the buffers of a family of plans with these capacities."""
    arena = plan_arena(graph, rows)
    tokens = ceil_div(max(rows[Rows.TOKENS], 4), 4) * 4
    both = ("UNIFORM",)
    return StepBuffers(
        whole(device, 16, "step", both),
        whole(device, 4 * tokens, "ids", both),
        whole(device, 4 * tokens, "positions", both),
        whole(device, 4 * tokens, "slots", both),
        whole(device, 4 * max(rows[Rows.OUTPUTS], rows[Rows.SEQUENCES], 4), "outputs", both),
        tuple(whole(device, size, "activations") for size in arena.slots),
        arena,
    )


def u32(values: Sequence[int]) -> bytes:
    """Return little-endian u32s."""
    data = array("I", values)
    return data.tobytes()
