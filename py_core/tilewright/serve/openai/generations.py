"""Several answers at once: their deltas in the order in which they come, and what they cost.

Knows ChatModel's deltas, not OpenAI's shapes (but usage).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from ...errors import ContextLengthError, InvalidRequestError
from ...text.grammar.constraint import CompiledGrammar
from ..chat import ChatModel, Delta, Usage
from ..streams import close
from . import shapes
from .request import Options


async def merged(
    sources: Sequence[AsyncIterator[Delta]],
) -> AsyncGenerator[tuple[int, Delta], None]:
    """Yield the deltas of all sources with the source's number; the first error ends all."""
    queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue()

    async def pump(number: int, source: AsyncIterator[Delta]) -> None:
        try:
            async for delta in source:
                queue.put_nowait((number, delta))
            queue.put_nowait((number, None))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            queue.put_nowait((number, error))
        finally:
            await close(source)

    tasks = [asyncio.ensure_future(pump(i, source)) for i, source in enumerate(sources)]
    left = len(tasks)
    try:
        while left:
            number, item = await queue.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield number, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def start(
    model: ChatModel, ids: list[int], options: Options, compiled: CompiledGrammar | None
) -> list[AsyncIterator[Delta]]:
    """Return ``options.count`` answers to one prompt. Raises ContextLengthError."""
    sampling = options.sampling
    sampling.check_vocabulary(model.engine.vocabulary)
    if compiled is not None and sampling.ignore_eos:
        raise InvalidRequestError(
            "ignore_eos cannot be used with what constrains the answer.", field="ignore_eos"
        )
    room = model.engine.context_length - len(ids)
    if room < 1:
        raise ContextLengthError(
            f"The prompt has {len(ids)} tokens, but at most {model.engine.context_length - 1} fit: "
            "shorten it or load the model with a longer context.",
            tokens=len(ids),
            field="messages",
        )
    most = min(room, sampling.max_tokens or room)
    answers = []
    for number in range(options.count):
        constraint = None
        if compiled is not None:
            constraint = compiled.constraint(max_tokens=most, force=sampling.logprobs is None)
        seeded = replace(sampling, seed=sampling.seed + number)
        answers.append(model.complete(ids, seeded, stop=options.stop, constraint=constraint))
    return answers


class Costs:
    """Adds up what the answers to one request cost."""

    def __init__(self) -> None:
        self._usages: list[Usage] = []

    def add(self, usage: Usage | None) -> None:
        """Take note of what one answer cost."""
        if usage is not None:
            self._usages.append(usage)

    def total(self, prompt_tokens: int) -> shapes.Usage:
        """Return the sum; a prompt counts once however many answers it had."""
        made = sum(usage.completion_tokens for usage in self._usages)
        slowest = max(self._usages, key=lambda u: u.completion_seconds, default=Usage())
        first = min((usage.prompt_seconds for usage in self._usages), default=0.0)
        decoded = made - len(self._usages)
        seconds = slowest.completion_seconds
        cached = min((usage.cached_tokens for usage in self._usages), default=0)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": made,
            "total_tokens": prompt_tokens + made,
            "prompt_tokens_details": {"cached_tokens": cached},
            "x_tilewright": {
                "time_to_first_token_s": round(first, 6),
                "completion_s": round(seconds, 6),
                "tokens_per_second": round(decoded / seconds, 3) if seconds > 0 else 0.0,
            },
        }
