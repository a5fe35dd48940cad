"""Which step runs next: admission, chunked prefill between decode steps, preemption.

Pure bookkeeping on the host: says what to submit, is told what was submitted and what came back.
Knows nothing of GPUs, of asyncio or of who waits for the tokens.

Order is first come, first served. One sequence is prefilled at a time, in chunks, and a decode step
of all that can decode runs after each chunk's worth of prompts, so that a long prompt slows the
others down but does not stop them, and short ones that came together soon share their steps. A
later request with the same prefix is admitted after the prefix was computed, and finds it in the
cache. Where blocks run out, the latest admitted sequence gives its own back and is computed again
later.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from ..errors import BusyError, ContextLengthError, InvalidRequestError
from .kv_cache import BlockManager
from .sequence import FinishReason, Sequence, State


@dataclass(frozen=True)
class Prefill:
    """Compute ``ids`` of one sequence from position ``start``; then draw where ``last``."""

    sequence: Sequence
    ids: tuple[int, ...]
    start: int
    last: bool


@dataclass(frozen=True)
class Decode:
    """One more token for each of these."""

    sequences: tuple[Sequence, ...]


@dataclass(frozen=True)
class Admit:
    """A guest has its slot and blocks: its owner may go on."""

    sequence: Sequence


@dataclass(frozen=True)
class Drain:
    """Nothing can be submitted before results in flight have been read."""


Action = Prefill | Decode | Admit | Drain


class Scheduler:
    """Queues of sequences over ``max_sequences`` slots and the blocks of one cache."""

    def __init__(
        self,
        blocks: BlockManager,
        *,
        max_sequences: int,
        context_length: int,
        prefill_chunk: int,
        max_waiting: int,
    ) -> None:
        self.blocks = blocks
        self.context_length = min(context_length, blocks.total * blocks.size)
        """Positions that one sequence can have: what the cache can hold also counts."""
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """In order of admission."""
        self.preemptions = 0
        self.prefill_chunk = prefill_chunk
        """Most tokens of a prompt in one step."""
        self._max_waiting = max_waiting
        self._slots = list(range(max_sequences))
        self._prefilled = 0
        """Tokens of prompts since the last decode step."""

    @property
    def idle(self) -> bool:
        """Whether no sequence is left."""
        return not self.waiting and not self.running

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence. Raises BusyError, ContextLengthError, InvalidRequestError."""
        if not sequence.ids:
            raise InvalidRequestError("The prompt is empty: give at least one token id.")
        room = self.context_length - (0 if sequence.guest else 1)
        if sequence.prompt_length > room:
            raise ContextLengthError(
                f"The prompt has {sequence.prompt_length} tokens, but at most {room} fit: shorten "
                "it or load the model with a longer context.",
                tokens=sequence.prompt_length,
                limit=room,
            )
        if len(self.waiting) >= self._max_waiting:
            raise BusyError(
                f"{len(self.waiting)} requests are waiting already: try again later.",
                waiting=len(self.waiting),
            )
        self.waiting.append(sequence)

    def schedule(self) -> Action | None:
        """Return what to submit next; None where every sequence waits for its results or owner."""
        prefilling = next((s for s in self.running if s.needs_prefill), None)
        if prefilling is None:
            prefilling = self._admit()
            if prefilling is not None and prefilling.guest:
                return Admit(prefilling)
        decoding = [s for s in self.running if s.can_decode]
        if prefilling is not None and (self._fits(prefilling) or not decoding):
            action = self._prefill(prefilling)
            if action is not None:
                return action
            decoding = [s for s in self.running if s.can_decode]
        return self._decode(decoding)

    def submitted(self, action: Prefill | Decode) -> None:
        """Take note that the step was submitted (its sequences may have ended meanwhile)."""
        if isinstance(action, Prefill):
            sequence = action.sequence
            if sequence.state is not State.RUNNING:
                return
            sequence.computed += len(action.ids)
            self.blocks.register(sequence.table, sequence.ids, sequence.computed)
            if action.last:
                sequence.decoding = True
                sequence.in_flight += 1
            self._prefilled += len(action.ids)
            return
        for sequence in action.sequences:
            sequence.computed += 1
            sequence.in_flight += 1
        self._prefilled = 0

    def accept(self, sequence: Sequence, token: int) -> FinishReason | None:
        """Append the id that was read back or forced; a reason where the sequence is finished."""
        sequence.ids.append(token)
        self.blocks.register(sequence.table, sequence.ids, sequence.computed)
        sampling = sequence.sampling
        reason: FinishReason | None = None
        if token in sampling.stop_ids and not sampling.ignore_eos:
            reason = "stop"
        elif len(sequence.ids) >= sequence.limit:
            reason = "length"
        if reason is not None:
            self.finish(sequence, reason)
        return reason

    def finish(self, sequence: Sequence, reason: FinishReason, *, forget: bool = False) -> None:
        """Take a sequence out, wherever it is; results in flight for it are to be ignored.

        ``forget``: what it computed is not trusted and must not be found in the cache.
        """
        if sequence.state is State.FINISHED:
            return
        if sequence.state is State.RUNNING:
            self._leave(sequence, forget=forget)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.state = State.FINISHED
        sequence.finish_reason = reason

    def preempt(self, sequence: Sequence, *, forget: bool = False) -> None:
        """Put a running sequence back to the front of the queue; it will be computed again.

        None of its draws may be in flight, or (where the device was lost) ever be read.
        """
        self._leave(sequence, forget=forget)
        sequence.state = State.WAITING
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _leave(self, sequence: Sequence, *, forget: bool) -> None:
        self.running.remove(sequence)
        self.blocks.release(sequence.table, forget=forget)
        heapq.heappush(self._slots, sequence.slot)
        sequence.slot = -1
        sequence.uploaded_blocks = 0
        sequence.computed = 0
        sequence.in_flight = 0
        sequence.decoding = False

    def _admit(self) -> Sequence | None:
        if not self.waiting or not self._slots:
            return None
        sequence = self.waiting[0]
        cached = self.blocks.acquire(sequence.table, sequence.ids, share=not sequence.guest)
        if cached is None:
            return None
        self.waiting.popleft()
        sequence.slot = heapq.heappop(self._slots)
        sequence.computed = cached
        if not sequence.preemptions:
            sequence.cached_tokens = cached
        sequence.state = State.RUNNING
        self.running.append(sequence)
        return sequence

    def _fits(self, sequence: Sequence) -> bool:
        """Whether a sequence's next chunk may come before the others decode again."""
        left = len(sequence.ids) - sequence.computed
        return self._prefilled + min(left, self.prefill_chunk) <= self.prefill_chunk

    def _prefill(self, sequence: Sequence) -> Prefill | Drain | None:
        if not self._reserve(sequence, len(sequence.ids)):
            return Drain() if sequence.state is State.RUNNING else None
        start = sequence.computed
        end = min(len(sequence.ids), start + self.prefill_chunk)
        last = end == len(sequence.ids)
        return Prefill(sequence, tuple(sequence.ids[start:end]), start, last)

    def _decode(self, sequences: list[Sequence]) -> Decode | Drain | None:
        batch = []
        for sequence in sequences:
            if self._reserve(sequence, sequence.computed + 1):
                batch.append(sequence)
            elif sequence.state is State.RUNNING:
                return Drain()
        # A sequence is only ever preempted for an earlier one, so the batch still runs.
        return Decode(tuple(batch)) if batch else None

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Give the sequence room for ``tokens``, preempting later ones where nothing is in flight.

        False: it was preempted itself, or (where it still runs) results must be read first.
        """
        if sequence.state is not State.RUNNING:
            return False
        while not self.blocks.grow(sequence.table, tokens):
            if any(other.in_flight for other in self.running):
                return False
            victim = next(other for other in reversed(self.running) if not other.guest)
            self.preempt(victim)
            if victim is sequence:
                return False
        return True
