"""One sequence of token ids on its way through the engine, and what it gives to its reader.

Knows nothing of how it is scheduled or computed; the scheduler and the engine write its fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

from .kv_cache import BlockTable
from .sampling import Constraint, SamplingParams

FinishReason = Literal["stop", "length", "cancelled", "error"]


class State(Enum):
    """Where a sequence is."""

    WAITING = "waiting"
    """In the queue: new, or preempted."""
    RUNNING = "running"
    """Holds a slot and blocks."""
    FINISHED = "finished"


class TokenOutput(NamedTuple):
    """One token of an answer."""

    id: int
    logprob: float | None = None
    """The model's own log-probability (natural); None where not asked for, or where the id was
    forced by a constraint."""
    top: tuple[tuple[int, float], ...] = ()
    """The most likely ids and their log-probabilities, as many as ``SamplingParams.logprobs``."""
    finish_reason: FinishReason | None = None
    """Set on the last token only: ``stop`` or ``length``."""


@dataclass(eq=False)
class Sequence:
    """Prompt and answer of one request, and how far it has been computed."""

    serial: int
    """Order of arrival."""
    ids: list[int]
    """Prompt, then the answer as far as the host has read it."""
    prompt_length: int
    sampling: SamplingParams
    limit: int
    """Most ids, prompt included: the smaller of max_tokens and the context."""
    constraint: Constraint | None = None
    state: State = State.WAITING
    slot: int = -1
    table: BlockTable = field(default_factory=BlockTable)
    uploaded_blocks: int = 0
    """Leading blocks of the table that the runner knows."""
    computed: int = 0
    """Positions whose keys and values have been submitted."""
    in_flight: int = 0
    """Draws submitted and not read back yet."""
    cached_tokens: int = 0
    """Positions that were found in the prefix cache when the sequence first ran."""
    preemptions: int = 0
    decoding: bool = False
    """The newest id was sampled on the GPU and is the slot's next input there."""
    guest: bool = False
    """Only wants a slot and blocks for its ids: the engine's ``logits`` and ``embed``."""
    finish_reason: FinishReason | None = None

    @property
    def length(self) -> int:
        """Ids including those in flight."""
        return len(self.ids) + self.in_flight

    @property
    def needs_prefill(self) -> bool:
        """Whether ids known to the host have yet to be computed before the next draw."""
        return not self.decoding and not self.guest

    @property
    def can_decode(self) -> bool:
        """Whether another decode step may be submitted now."""
        if not self.decoding or self.length >= self.limit:
            return False
        return self.constraint is None or self.in_flight == 0

    @property
    def answer(self) -> list[int]:
        """The ids after the prompt."""
        return self.ids[self.prompt_length :]
