"""``BlockingEngine``: ``Engine`` without ``await``, for scripts and the prompt. Natively only.

One thread runs the event loop of all blocking engines, so the engine works on while the caller does
something else, and it may be used in a notebook, whose own loop is running.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from .local import Engine, Fields
from .streams import close

Result = TypeVar("Result")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tilewright", daemon=True).start()
    return loop


def _wait(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in the thread; an interrupt of the caller cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _each(chunks: AsyncIterator[Fields]) -> Iterator[Fields]:
    """Yield what an asynchronous iterator gives; closing this one closes it."""
    try:
        while True:
            chunk = _wait(_next(chunks))
            if chunk is None:
                return
            yield chunk
    finally:
        _wait(close(chunks))


async def _next(chunks: AsyncIterator[Fields]) -> Fields | None:
    return await anext(chunks, None)


class _Blocking:
    """Stands for an object of ``Engine``: its coroutines are waited for, its streams iterated."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return self._called(found) if asyncio.iscoroutinefunction(found) else _Blocking(found)

    def __call__(self, *arguments: Any, **fields: Any) -> Iterator[Fields]:
        return _each(self._target(*arguments, **fields))

    @staticmethod
    def _called(function: Any) -> Any:
        @functools.wraps(function)
        def call(*arguments: Any, **fields: Any) -> Any:
            result = _wait(function(*arguments, **fields))
            return _each(result) if hasattr(result, "__anext__") else result

        return call


class BlockingEngine:
    """A loaded model: ``with BlockingEngine.load("model.gguf") as engine: ...``.

    ``chat``, ``completions``, ``embeddings`` and ``models`` are those of ``Engine``: the same
    names, fields and answers; streams are plain iterators.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.chat = _Blocking(engine.chat)
        self.completions = _Blocking(engine.completions)
        self.embeddings = _Blocking(engine.embeddings)
        self.models = _Blocking(engine.models)

    @classmethod
    def load(cls, model: Any, **options: Any) -> BlockingEngine:
        """Load a model; see ``Engine.load``."""
        return cls(_wait(Engine.load(model, **options)))

    @property
    def name(self) -> str:
        """The model's name."""
        return self._engine.name

    def close(self) -> None:
        """Free the device's memory."""
        _wait(self._engine.close())

    def __enter__(self) -> BlockingEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
