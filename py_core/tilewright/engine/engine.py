"""The engine: prompts of ids in, streams of ids out, many at once over one runner.

One background task on the caller's event loop schedules, submits and reads back; it exists only
while there is work. Several steps are in flight: a token is read while later ones are computed, and
what was computed beyond a stop is discarded. Knows nothing of text and nothing of GPUs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Sequence as Ids
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ..errors import CancelledError, DeviceLostError, InvalidRequestError
from .generation import Generation
from .kv_cache import BlockManager, BlockStats
from .runner_protocol import RowResult, Runner, Want
from .sampling import Constraint, SamplingParams
from .scheduler import Admit, Decode, Drain, Prefill, Scheduler
from .sequence import Sequence, State, TokenOutput

__all__ = ["Engine", "EngineStats", "Generation"]

_GREEDY = SamplingParams(temperature=0.0)
_SHORT = 1.5e-3
"""Seconds of steps after which readers have their turn."""
_MOST_IN_A_ROW = 3


@dataclass(frozen=True)
class EngineStats:
    """Counters since the engine was made, and what it holds now."""

    prompt_tokens: int
    """Prompt tokens computed (those found in the cache and recomputed ones are not in here)."""
    generated_tokens: int
    """Tokens delivered."""
    discarded_tokens: int
    """Tokens computed after a stop or a cancellation."""
    decode_steps: int
    prefill_chunks: int
    preemptions: int
    waiting: int
    running: int
    blocks: BlockStats


class Engine:
    """Serves requests over one runner. All methods belong to one event loop.

    ``depth``: decode steps in flight. ``recover``: makes a new runner of the same model after the
    device was lost; sequences then go on where they were. Without it a lost device fails them all.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        depth: int = 3,
        max_waiting: int = 256,
        recover: Callable[[], Awaitable[Runner]] | None = None,
    ) -> None:
        self._runner = runner
        self._depth = max(1, depth)
        self._recover = recover
        self._scheduler = Scheduler(
            BlockManager(runner.kv_blocks, runner.kv_block),
            max_sequences=runner.max_sequences,
            context_length=runner.context_length,
            prefill_chunk=runner.prefill_chunk,
            max_waiting=max_waiting,
        )
        self._generations: dict[Sequence, Generation] = {}
        self._guests: dict[Sequence, asyncio.Future[None]] = {}
        self._cancelled: list[Sequence] = []
        # The draws submitted and not read back, oldest first, each with the sequences of its rows.
        self._pending: deque[tuple[Sequence, ...]] = deque()
        self._adapted: set[int] = set()
        """Slots whose last sequence had an adapter."""
        self._device = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._serial = 0
        self._paused, self._in_a_row = 0.0, 0
        """When readers last had their turn, and the turns of the task since."""
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._discarded_tokens = 0
        self._decode_steps = 0
        self._prefill_chunks = 0

    @property
    def context_length(self) -> int:
        """Most ids of one sequence, prompt and answer."""
        return self._scheduler.context_length

    @property
    def busy(self) -> bool:
        """Whether anything is computed or waits to be."""
        return self._task is not None and not self._task.done()

    def pace(self, *, depth: int, prefill_chunk: int) -> None:
        """Take another number of steps in flight and another size of a prompt's chunks."""
        self._depth = max(1, depth)
        self._scheduler.prefill_chunk = min(max(1, prefill_chunk), self._runner.prefill_chunk)

    @property
    def vocabulary(self) -> int:
        """Ids are 0 .. vocabulary - 1."""
        return self._runner.vocabulary

    def submit(
        self,
        prompt_ids: Ids[int],
        sampling: SamplingParams,
        *,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Queue a request.

        Raises InvalidRequestError, ContextLengthError, BusyError; the error that ended the engine
        where it has ended.
        """
        sampling.check_vocabulary(self.vocabulary)
        sequence = self._sequence(prompt_ids, sampling, constraint)
        self._scheduler.add(sequence)
        generation = Generation(sequence, self._cancel)
        self._generations[sequence] = generation
        try:
            if constraint is not None:
                self._append_forced(sequence, constraint)
        except Exception:
            generation.cancel()
            raise
        self._start()
        return generation

    def submit_many(
        self, prompt_ids: Ids[int], sampling: SamplingParams, count: int
    ) -> list[Generation]:
        """Queue ``count`` answers to one prompt, with seeds ``seed``, ``seed + 1`` ...

        The prompt's full blocks are computed once. All are queued, or none.
        """
        made: list[Generation] = []
        try:
            for number in range(count):
                seeded = replace(sampling, seed=sampling.seed + number)
                made.append(self.submit(prompt_ids, seeded))
        except Exception:
            for generation in made:
                generation.cancel()
            raise
        return made

    async def generate(
        self,
        prompt_ids: Ids[int],
        sampling: SamplingParams,
        *,
        constraint: Constraint | None = None,
    ) -> AsyncIterator[TokenOutput]:
        """Yield the answer's tokens; closing the iterator cancels the request."""
        generation = self.submit(prompt_ids, sampling, constraint=constraint)
        try:
            async for output in generation:
                yield output
        finally:
            generation.cancel()

    async def logits(self, ids: Ids[int], *, adapter: str | None = None) -> AsyncIterator[bytes]:
        """Yield the logits of all positions in order, in pieces ``f32[rows, V]`` little-endian."""
        async with self._guest(ids, adapter) as sequence:
            for start in range(0, len(sequence.ids), self._runner.logits_chunk):
                piece = sequence.ids[start : start + self._runner.logits_chunk]
                async with self._device:
                    self._check(sequence)
                    self._choose_adapter(sequence)
                    await self._runner.prefill(sequence.slot, piece, start, want="all")
                    data = await self._runner.logits(len(piece))
                self._prompt_tokens += len(piece)
                yield data

    async def embed(self, sequences: Ids[Ids[int]]) -> list[list[float]]:
        """Return the pooled vector of each sequence of ids, in order."""
        vectors: list[list[float]] = []
        for ids in sequences:
            if len(ids) > self._runner.prefill_chunk:
                raise InvalidRequestError(
                    f"A text of {len(ids)} tokens exceeds the {self._runner.prefill_chunk} that "
                    "can be embedded at once: split it.",
                    field="input",
                )
        for ids in sequences:
            async with self._guest(ids) as sequence, self._device:
                self._check(sequence)
                vectors += await self._runner.embed([sequence.slot], [sequence.ids])
            self._prompt_tokens += len(ids)
        return vectors

    def stats(self) -> EngineStats:
        """Return the counters."""
        return EngineStats(
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            discarded_tokens=self._discarded_tokens,
            decode_steps=self._decode_steps,
            prefill_chunks=self._prefill_chunks,
            preemptions=self._scheduler.preemptions,
            waiting=len(self._scheduler.waiting),
            running=len(self._scheduler.running),
            blocks=self._scheduler.blocks.stats(),
        )

    async def close(self) -> None:
        """End all requests (they raise CancelledError) and wait until the runner is at rest."""
        self._end(CancelledError("The engine was closed."))
        if self._task is not None:
            self._wake.set()
            await asyncio.wait([self._task])
        while self._pending:
            self._pending.popleft()
            try:
                await self._runner.fetch()
            except Exception:
                self._pending.clear()

    # The background task.

    def _start(self) -> None:
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._failure is None:
            try:
                if not await self._turn():
                    return
            except DeviceLostError as error:
                await self._lost(error)
            except Exception as error:  # a defect: better all fail than all hang
                self._end(error)

    async def _turn(self) -> bool:
        """Submit or read back once; False where there is nothing left to do."""
        self._apply_cancelled()
        action = self._scheduler.schedule()
        if action is None or isinstance(action, Drain):
            if self._pending:
                await self._collect()
            elif self._scheduler.idle:
                return False
            else:  # guests hold what the queue waits for
                self._wake.clear()
                await self._wake.wait()
            return True
        if isinstance(action, Admit):
            async with self._device:
                self._upload_blocks(action.sequence)
            self._guests[action.sequence].set_result(None)
            return True
        async with self._device:
            await self._submit(action)
        constrained = any(s.constraint is not None for s in self._scheduler.running)
        while len(self._pending) >= (1 if constrained else self._depth):
            await self._collect()
        # A result that was there already is awaited without a pause: let readers and the page live.
        # Short steps are taken in a row: a reader that finds several tokens has been woken once.
        self._in_a_row += 1
        if self._in_a_row == _MOST_IN_A_ROW or time.perf_counter() - self._paused > _SHORT:
            await asyncio.sleep(0)
            self._paused, self._in_a_row = time.perf_counter(), 0
        return True

    async def _submit(self, action: Prefill | Decode) -> None:
        try:
            if isinstance(action, Prefill):
                await self._submit_prefill(action)
            else:
                await self._submit_decode(action)
        except DeviceLostError:
            raise
        except Exception as error:
            for sequence in action.sequences if isinstance(action, Decode) else [action.sequence]:
                self._fail(sequence, error)

    async def _submit_prefill(self, action: Prefill) -> None:
        sequence, runner = action.sequence, self._runner
        self._upload_blocks(sequence)
        want: Want = "last" if action.last else "none"
        self._choose_adapter(sequence)
        await runner.prefill(sequence.slot, action.ids, action.start, want=want)
        self._prefill_chunks += 1
        self._prompt_tokens += len(action.ids)
        if action.last:
            runner.set_sampling(
                sequence.slot, sequence.sampling, sequence.ids, sequence.prompt_length
            )
            self._upload_mask(sequence)
            await runner.sample(sequence.slot)
            self._pending.append((sequence,))
        self._scheduler.submitted(action)

    def _choose_adapter(self, sequence: Sequence) -> None:
        """Tell the runner which adapter the sequence's slot uses, where that changes."""
        name, slot = sequence.sampling.adapter, sequence.slot
        if name is None and slot not in self._adapted:
            return
        self._runner.set_adapter(slot, name)
        (self._adapted.discard if name is None else self._adapted.add)(slot)

    async def _submit_decode(self, action: Decode) -> None:
        for sequence in action.sequences:
            self._upload_blocks(sequence)
            self._upload_mask(sequence)
        await self._runner.decode([sequence.slot for sequence in action.sequences])
        self._decode_steps += 1
        self._pending.append(action.sequences)
        self._scheduler.submitted(action)

    async def _collect(self) -> None:
        """Read the oldest result and deliver its tokens."""
        async with self._device:
            rows = self._pending.popleft()
            try:
                result = await self._runner.fetch()
            except DeviceLostError:
                raise
            except Exception as error:
                for sequence in rows:
                    self._fail(sequence, error)
                return
        for sequence, row in zip(rows, result.rows, strict=True):
            # Nothing is in flight for a preempted sequence: it runs, or it has ended.
            if sequence.state is State.RUNNING:
                sequence.in_flight -= 1
                self._deliver(sequence, row)
            else:
                self._discarded_tokens += 1

    def _deliver(self, sequence: Sequence, row: RowResult) -> None:
        wanted = sequence.sampling.logprobs
        logprob = None if wanted is None else row.logprob
        top = row.top[: wanted or 0]
        try:
            self._append(sequence, row.id, logprob, top)
            if sequence.constraint is not None and sequence.state is State.RUNNING:
                sequence.constraint.accept(row.id)
                self._append_forced(sequence, sequence.constraint)
        except Exception as error:
            self._fail(sequence, error)

    def _append(
        self,
        sequence: Sequence,
        token: int,
        logprob: float | None = None,
        top: tuple[tuple[int, float], ...] = (),
    ) -> None:
        reason = self._scheduler.accept(sequence, token)
        self._generated_tokens += 1
        self._generations[sequence].deliver(TokenOutput(token, logprob, top, reason))
        if reason is not None:
            del self._generations[sequence]

    def _append_forced(self, sequence: Sequence, constraint: Constraint) -> None:
        """Append what the constraint leaves no choice about; it is computed as a prompt is."""
        for token in constraint.forced():
            if sequence.state is State.FINISHED:
                return
            if not 0 <= token < self.vocabulary:
                raise InvalidRequestError(
                    f"The constraint forces the id {token}, which is unknown."
                )
            sequence.decoding = False
            self._append(sequence, token)

    def _upload_blocks(self, sequence: Sequence) -> None:
        known, blocks = sequence.uploaded_blocks, sequence.table.blocks
        if known < len(blocks):
            self._runner.set_blocks(sequence.slot, blocks[known:], known)
            sequence.uploaded_blocks = len(blocks)

    def _upload_mask(self, sequence: Sequence) -> None:
        if sequence.constraint is None:
            return
        mask = sequence.constraint.mask()
        if mask is not None and mask.count(0) == len(mask):
            raise InvalidRequestError(
                "The constraint allows no further token: it does not fit the model's vocabulary.",
                field="constraint",
            )
        self._runner.set_mask(sequence.slot, mask)

    # Ends.

    def _cancel(self, sequence: Sequence) -> None:
        if sequence.state is not State.FINISHED:
            self._cancelled.append(sequence)
            self._start()

    def _apply_cancelled(self) -> None:
        for sequence in self._cancelled:
            self._scheduler.finish(sequence, "cancelled")
            self._generations.pop(sequence, None)
            self._guests.pop(sequence, None)
        self._cancelled.clear()

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        self._scheduler.finish(sequence, "error", forget=True)
        generation = self._generations.pop(sequence, None)
        if generation is not None:
            generation.fail(error)
        guest = self._guests.pop(sequence, None)
        if guest is not None and not guest.done():
            guest.set_exception(error)

    def _end(self, error: Exception) -> None:
        """Fail everything, now and from now on."""
        self._failure = self._failure or error
        self._apply_cancelled()
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            self._fail(sequence, error)

    async def _lost(self, error: DeviceLostError) -> None:
        """Go on with a new runner, or fail all."""
        self._pending.clear()
        if self._recover is None:
            self._end(error)
            return
        self._apply_cancelled()
        scheduler = self._scheduler
        for sequence in reversed(scheduler.running.copy()):
            if sequence.guest:
                self._fail(sequence, error)
            else:
                scheduler.preempt(sequence, forget=True)
        scheduler.blocks.reset()
        try:
            self._runner = await self._recover()
        except Exception as failure:
            self._end(failure)

    def _check(self, guest: Sequence | None = None) -> None:
        if self._failure is not None:
            raise self._failure
        if guest is not None and guest.state is State.FINISHED:
            raise DeviceLostError("The GPU device was lost during this call: try again.")

    # Guests: work that needs a slot and blocks, but no decoding.

    @asynccontextmanager
    async def _guest(self, ids: Ids[int], adapter: str | None = None) -> AsyncIterator[Sequence]:
        sequence = self._sequence(ids, replace(_GREEDY, adapter=adapter), None, guest=True)
        self._scheduler.add(sequence)
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._guests[sequence] = admitted
        self._start()
        try:
            await admitted
            yield sequence
        finally:
            self._cancel(sequence)

    def _sequence(
        self,
        ids: Ids[int],
        sampling: SamplingParams,
        constraint: Constraint | None,
        *,
        guest: bool = False,
    ) -> Sequence:
        self._check()
        known = list(ids)
        for token in known:
            if not isinstance(token, int) or not 0 <= token < self.vocabulary:
                raise InvalidRequestError(
                    f"The id {token!r} is outside the vocabulary of {self.vocabulary}.",
                    field="prompt",
                )
        self._serial += 1
        limit = self.context_length
        if sampling.max_tokens is not None:
            limit = min(limit, len(known) + sampling.max_tokens)
        made = Sequence(self._serial, known, len(known), sampling, limit, constraint, guest=guest)
        made.table.seed = self._adapter_seed(sampling.adapter)
        return made

    def _adapter_seed(self, name: str | None) -> bytes:
        """Return what tells an adapter's keys and values from others' in the prefix cache."""
        return b"" if name is None else b"adapter %d" % self._runner.adapter_serial(name)
