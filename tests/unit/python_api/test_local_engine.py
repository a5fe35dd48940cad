"""``Engine`` and its blocking facade over a scripted model: fields, streams, errors, stopping."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.openai.scripted import ScriptedModel

from tilewright import BlockingEngine, Engine
from tilewright.errors import InvalidRequestError
from tilewright.serve.openai.errors import ModelNotFoundError

ASK: Any = [{"role": "user", "content": "Say hello."}]


def engine(script: str = "Hello there.") -> Engine:
    return Engine(ScriptedModel(script))  # type: ignore[arg-type]


async def test_whole_and_streamed_answers_agree() -> None:
    made = engine()
    whole = await made.chat.completions.create(messages=ASK)
    assert whole.choices[0].message.content == "Hello there."
    assert whole["choices"][0]["finish_reason"] == "stop"
    chunks = await made.chat.completions.create(
        messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    streamed = [chunk async for chunk in chunks]
    text = "".join(c.choices[0].delta.get("content", "") for c in streamed if c.choices)
    assert text == "Hello there."
    assert streamed[-1].usage.total_tokens == whole.usage.total_tokens
    short = [chunk async for chunk in made.chat("Say hello.", max_tokens=5)]
    assert "".join(c.choices[0].delta.get("content", "") for c in short) == "Hello"


async def test_errors_are_exceptions_of_their_class() -> None:
    made = engine()
    with pytest.raises(InvalidRequestError, match="temprature") as caught:
        await made.chat.completions.create(messages=ASK, temprature=1)
    assert caught.value.details["field"] == "temprature"
    with pytest.raises(ModelNotFoundError):
        await made.chat.completions.create(messages=ASK, model="another")
    with pytest.raises(AttributeError, match="there are"):
        _ = (await made.models.list()).nothing
    assert (await made.models.list()).data[0].id == made.name


def test_the_facade_waits_and_iterates() -> None:
    facade = BlockingEngine(engine())
    whole = facade.chat.completions.create(messages=ASK)
    assert whole.choices[0].message.content == "Hello there."
    stream = facade.chat.completions.create(messages=ASK, stream=True)
    assert "".join(c.choices[0].delta.get("content") or "" for c in stream) == "Hello there."
    assert [c for c in facade.chat("Say hello.")][-1].choices[0].finish_reason == "stop"
    with pytest.raises(InvalidRequestError):
        facade.chat.completions.create(messages=[])
    left = facade.chat("Say hello.")
    next(left)
    left.close()
    with pytest.raises(StopIteration):
        next(left)
