"""LoRA adapters on the CPU path: their matrices lie behind the model's own memory, which grows.

The families of steps with adapters have activations of their own there, too. Two places are used in
turn, so that a step which has begun is not disturbed. Knows no sequences.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import UnsupportedModelError
from ..formats.model_file import ModelFile
from ..graph.fuse import fuse
from ..graph.lora import FUSION
from ..graph.ops import Graph, Weight
from ..wasm import host, state, weights
from ..wasm import scratch as scratches
from ..wasm.kernels.packing import PAIR
from .adapters import low_rank
from .families import ADAPTED
from .wasm_program import Plan, capacities


def adaptable(plain: Graph) -> Graph:
    """Return the graph to which adapters are added (``graph.lora``)."""
    return fuse(plain, replace(FUSION, prepare=False), accept=lambda op: True)


class WasmStacks:
    """Behind a model's memory; ``plan`` is the model's with what is there."""

    def __init__(self, memory: host.Memory, plan: Plan) -> None:
        self.plan = plan
        self._own = plan
        self._memory = memory
        self._taken = plan.nbytes, plan.nbytes
        """First byte and end of what is in use."""

    async def replace(self, graph: Graph, file: ModelFile) -> None:
        """See ``adapters.Stacks``. Raises UnsupportedModelError for rows that are no pairs."""
        (first, end), at = self._taken, self._own.nbytes
        plan, made = self._lay_out(at, graph, file)
        if first < end and first < plan.nbytes:
            at = end
            plan, made = self._lay_out(at, graph, file)
        self._memory.grow(plan.nbytes)
        await weights.Loader(self._memory, made, file, shared=plan.threads > 1).load()
        self.plan, self._taken = plan, (at, plan.nbytes)

    def _lay_out(self, at: int, graph: Graph, file: ModelFile) -> tuple[Plan, weights.Weights]:
        """Return the plan with what lies from ``at`` on, and the adapters' part of the weights."""
        layout = weights.Layout()
        layout.nbytes = at
        matrices: dict[Weight, int] = {}
        for op in low_rank(graph, file):
            if op.expert_rows % PAIR:
                raise UnsupportedModelError(
                    f"On the CPU an adapter's matrices must have a multiple of {PAIR} rows, "
                    f"{op.weight.name} has {op.expert_rows}: use the WebGPU backend."
                )
            matrices[op.weight] = layout.take(weights.matrix_bytes(op.weight))
        largest = max(tensor.nbytes for tensor in file.items())
        widest = max(4 * tensor.columns for tensor in file.items())
        nbytes = max(widest, min(weights.PIECE, largest))
        made = replace(
            self._own.own.weights,
            matrices=matrices,
            vectors={},
            raw=layout.take(nbytes),
            raw_bytes=nbytes,
            streamed=(),
            experts=None,
        )
        plan, activations = self._own, dict(self._own.activations)
        scratch, known = plan.scratch, plan.own.weights
        for family in ADAPTED:
            rows = capacities(family, plan.chunk, plan.max_sequences)
            activations[family] = state.plan_activations(layout, graph, rows)
            needed = scratches.scratch_bytes(graph, rows)
            if needed > scratch.shared_bytes:
                scratch = replace(scratch, shared=layout.take(needed), shared_bytes=needed)
        every = replace(known, matrices={**known.matrices, **matrices})
        plan = replace(
            plan,
            graphs={**plan.graphs, **dict.fromkeys(ADAPTED, graph)},
            own=replace(plan.own, weights=every),
            activations=activations,
            scratch=scratch,
            nbytes=layout.nbytes,
        )
        return plan, made

    def release(self) -> None:
        """Forget all; the memory stays as large as it is."""
        self.plan = self._own
        self._taken = self._own.nbytes, self._own.nbytes
