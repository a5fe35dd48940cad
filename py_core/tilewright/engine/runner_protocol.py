"""What the engine needs of whatever computes a model: the seam between scheduling and arithmetic.

``engine/runner.py`` implements it on the GPU; tests implement it with a toy model. Work that was
submitted runs in the order of submission, and writes of the host (block tables, parameters, masks)
take effect between the submissions before and after them, as on a WebGPU queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from .sampling import SamplingParams

Want = Literal["none", "last", "all"]


class RowResult(NamedTuple):
    """One sampled token."""

    slot: int
    id: int
    logprob: float | None = None
    """Natural logarithm of the model's own probability of ``id``; None where not asked for."""
    top: tuple[tuple[int, float], ...] = ()
    """The most likely ids with their log-probabilities, falling; at least as many as asked for."""


@dataclass(frozen=True)
class StepResult:
    """What one ``sample`` or one step of ``decode`` chose, in the order of its slots."""

    rows: tuple[RowResult, ...]


class Runner(Protocol):
    """Runs steps of one model. Slots are 0 .. max_sequences - 1.

    Per slot the runner holds: a block table, the sampler's parameters and counts, and (on the GPU)
    the id that was sampled last with its position, which are the input of the slot's next decode
    step. Methods are awaited one at a time; ``sample`` and ``decode`` never wait for the GPU (but
    may await the compilation of a plan that is used for the first time).
    Raises DeviceLostError from any method once the device is gone.
    """

    context_length: int
    """Most positions of one sequence."""
    vocabulary: int
    max_sequences: int
    """Slots, and the largest batch of ``decode``."""
    kv_block: int
    """Positions per block of the cache."""
    kv_blocks: int
    """Physical blocks: 0 .. kv_blocks - 1."""
    prefill_chunk: int
    """Most tokens of one ``prefill`` with want ``none`` or ``last``, and of one ``embed`` step."""
    logits_chunk: int
    """Most tokens of one ``prefill`` with want ``all``."""

    def set_blocks(self, slot: int, blocks: Sequence[int], first: int = 0) -> None:
        """Set entries ``first ..`` of the slot's block table (entries beyond are kept)."""
        ...

    def set_sampling(
        self, slot: int, sampling: SamplingParams, ids: Sequence[int], prompt_length: int
    ) -> None:
        """Upload the slot's parameters, logit bias, and penalty counts; clears its mask.

        ``ids`` is all that the sequence holds so far (prompt, then answer): the next ``sample``
        draws the token of position ``len(ids)``. Called before every ``sample``, never between
        decode steps.
        """
        ...

    def set_mask(self, slot: int, mask: bytes | None) -> None:
        """Upload the allowed ids of the slot's next draw (see ``Constraint.mask``); None: all."""
        ...

    def adapter_serial(self, name: str) -> int:
        """Return a number that no other adapter ever had, also none of the same name.

        Raises InvalidRequestError where there is no such adapter.
        """
        ...

    def set_adapter(self, slot: int, name: str | None) -> None:
        """Choose the adapter of the slot's next steps; None: the model as it is."""
        ...

    async def prefill(self, slot: int, ids: Sequence[int], start: int, *, want: Want) -> None:
        """Submit tokens at positions ``start ..``: writes their keys and values.

        Leaves the logits of the last or of all of them in the logits buffer. Returns while at most
        this chunk and the one before it are being computed, so that a long prompt neither floods
        the device nor outruns its cancellation.
        """
        ...

    async def sample(self, slot: int) -> None:
        """Submit the draw from the last row's logits of the ``prefill`` just submitted.

        The id becomes the slot's next input; the result is queued for ``fetch`` (one row).
        """
        ...

    async def decode(self, slots: Sequence[int]) -> None:
        """Submit one step: forward of each slot's last sampled id at its position, then the draw.

        The new ids become the slots' next inputs; the result is queued for ``fetch``.
        """
        ...

    async def fetch(self) -> StepResult:
        """Wait for the oldest queued result and remove it."""
        ...

    async def logits(self, rows: int) -> bytes:
        """Read back ``f32[rows, V]`` little-endian: the logits that the last ``prefill`` left."""
        ...

    async def embed(
        self, slots: Sequence[int], sequences: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Run whole sequences in one step and return the pooled vector of each.

        Their lengths add up to at most ``prefill_chunk`` tokens. Raises InvalidRequestError where
        the model has no pooled output.
        """
        ...
