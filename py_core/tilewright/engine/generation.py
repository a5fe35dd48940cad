"""One request's answer as its reader sees it: an asynchronous iterator that can be cancelled.

Knows nothing of how the tokens come about; the engine delivers them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from .sequence import FinishReason, Sequence, TokenOutput


class Generation:
    """One request's answer: an asynchronous iterator of TokenOutput, once.

    Raises what stopped the request (DeviceLostError ...). After ``cancel`` it ends quietly.
    """

    def __init__(self, sequence: Sequence, cancel: Callable[[Sequence], None]) -> None:
        self._sequence = sequence
        self._cancel = cancel
        # A queue for the one reader there is: asyncio's own costs twice as much per token.
        self._outputs: deque[TokenOutput | BaseException | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self.submitted_at = time.perf_counter()
        self.first_token_at: float | None = None
        self.finished_at: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """Ids of the prompt."""
        return self._sequence.prompt_length

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were found in the cache; known with the first token."""
        return min(self._sequence.cached_tokens, self.prompt_tokens)

    @property
    def generated_tokens(self) -> int:
        """Ids of the answer so far."""
        return len(self._sequence.ids) - self._sequence.prompt_length

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended: ``stop``, ``length``, ``cancelled``, ``error``; None: it goes on."""
        return self._sequence.finish_reason

    def cancel(self) -> None:
        """Stop at once; safe at any moment and more than once."""
        if not self._ended:
            self._ended = True
            self._put(None)
            self._cancel(self._sequence)

    def deliver(self, output: TokenOutput) -> None:
        """For the engine: hand one token to the reader."""
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        if output.finish_reason is not None:
            self.finished_at = time.perf_counter()
        self._put(output)

    def fail(self, error: BaseException) -> None:
        """For the engine: end the answer with an error."""
        self._put(error)

    def _put(self, item: TokenOutput | BaseException | None) -> None:
        self._outputs.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Generation:
        return self

    def at_hand(self) -> list[TokenOutput]:
        """Take the tokens that are there already, so that a late reader is woken once for all."""
        found: list[TokenOutput] = []
        while self._outputs and not self._ended:
            output = self._outputs[0]
            if output is None or isinstance(output, BaseException):
                break
            found.append(output)
            self._outputs.popleft()
            self._ended = output.finish_reason is not None
        return found

    async def __anext__(self) -> TokenOutput:
        if self._ended:
            raise StopAsyncIteration
        while not self._outputs:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        output = self._outputs.popleft()
        if isinstance(output, BaseException):
            self._ended = True
            raise output
        if output is None:
            raise StopAsyncIteration
        self._ended = output.finish_reason is not None
        return output
