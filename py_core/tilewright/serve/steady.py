"""A loaded model whose lost GPU device is replaced: completions go on where they were.

Offers what ``ChatModel`` offers to the OpenAI service and to the worker's loop, which owns the
model and says how it is loaded again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..engine.sampling import Constraint, SamplingParams
from ..errors import DeviceLostError
from .chat import ChatModel, Delta
from .streams import close

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.runner import ModelRunner
    from ..engine.wasm_runner import WasmRunner
    from ..text.chat_template import ChatTemplate
    from ..text.tokenizer import Tokenizer

RECOVERIES = 2
"""How often one generation may replace a lost device."""


class Resumable(Constraint, Protocol):
    """A constraint that can begin again."""

    def again(self) -> Constraint:
        """Return this constraint as it was before the first token."""
        ...


Recover = Callable[[bool], Awaitable[None]]


class SteadyModel:
    """The model that is loaded at the moment.

    Args:
        loaded: returns it, or raises where there is none.
        recover: loads it again on a new device, once for all that wait; given True, on
            none at all, where that is allowed.

    """

    def __init__(self, loaded: Callable[[], Any], recover: Recover) -> None:
        self._loaded: Callable[[], ChatModel] = loaded
        self._recover = recover

    @property
    def name(self) -> str:
        """The model's name."""
        return self._loaded().name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._loaded().tokenizer

    @property
    def template(self) -> ChatTemplate | None:
        """The model's chat template."""
        return self._loaded().template

    @property
    def runner(self) -> ModelRunner | WasmRunner:
        """What runs the model now."""
        return self._loaded().runner

    @property
    def engine(self) -> Engine:
        """The engine now."""
        return self._loaded().engine

    def prompt_ids(self, prompt: str | Sequence[Mapping[str, Any]], **options: Any) -> list[int]:
        """Return the ids of a prompt or of messages."""
        return self._loaded().prompt_ids(prompt, **options)

    async def complete(
        self,
        ids: Sequence[int],
        sampling: SamplingParams,
        *,
        stop: Sequence[str] = (),
        constraint: Resumable | None = None,
    ) -> AsyncGenerator[Delta, None]:
        """Stream the completion of ``ids``; raises DeviceLostError only when that goes on and on.

        What was made before a loss becomes part of the next prompt; usage counts it as made.
        """
        made: list[int] = []
        for attempt in range(RECOVERIES + 1):
            before = len(made)
            options: dict[str, Any] = {"stop": stop}
            if constraint is not None:
                options["constraint"] = _resumed(constraint, made) if made else constraint
            left = sampling.max_tokens and sampling.max_tokens - before
            generation = self._loaded().complete(
                [*ids, *made], replace(sampling, max_tokens=left), **options
            )
            try:
                async for delta in generation:
                    made += [token.id for token in delta.tokens]
                    yield _counted(delta, len(ids), before)
                return
            except DeviceLostError:
                if attempt == RECOVERIES:
                    raise
                # Lost for good, it seems: the last try may be the processor.
                await self._recover(attempt + 1 == RECOVERIES)
            finally:
                await close(generation)


def _resumed(constraint: Resumable, made: Sequence[int]) -> Constraint:
    fresh = constraint.again()
    for token in made:
        fresh.accept(token)
    return fresh


def _counted(delta: Delta, prompt_tokens: int, before: int) -> Delta:
    """Count what was made before a loss as made, though it was part of the last prompt."""
    usage = delta.usage
    if usage is None or not before:
        return delta
    return delta._replace(
        usage=replace(
            usage,
            prompt_tokens=prompt_tokens,
            completion_tokens=usage.completion_tokens + before,
            cached_tokens=min(usage.cached_tokens, prompt_tokens),
        ),
    )
