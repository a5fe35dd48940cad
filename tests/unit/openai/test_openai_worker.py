"""The OpenAI API over the worker's messages: replies, streams, stops, lost devices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.openai.scripted import ScriptedModel

from tilewright.errors import DeviceLostError, SourceError
from tilewright.formats.source import MemorySource
from tilewright.serve import protocol
from tilewright.serve.api_requests import ApiRequests, nothing
from tilewright.serve.worker import WorkerLoop

HI = [{"role": "user", "content": "Hi"}]


class Served(ScriptedModel):
    """A scripted model that the worker can load, and whose device may go after some deltas."""

    def __init__(self, script: str = "Hello.", lose_after: int | None = None) -> None:
        super().__init__(script)
        self.lose_after = lose_after

    async def complete(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        made = 0
        async for delta in super().complete(*arguments, **options):
            if made == self.lose_after:
                raise DeviceLostError("The GPU is gone.")
            made += 1
            yield delta

    async def prepare(self) -> None:
        await asyncio.sleep(0)

    async def keep(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        pass


class Page:
    """The other end of the loop; takes events at once, or only when told."""

    def __init__(self, *models: Served) -> None:
        self.messages: list[dict[str, Any]] = []
        self.models = list(models)
        self.takes = True
        self.installed = 0
        self.loop = WorkerLoop(
            self.take,
            self.open,
            self.load,
            lambda _: {"name": "x"},  # type: ignore[typeddict-item]
            install=self.install,
        )
        self.loop.receive(json.dumps({"type": "load", "id": 1, "reference": "hf:a/b/c.gguf"}))

    def take(self, text: str) -> None:
        message = json.loads(text)
        self.messages.append(message)
        if message["type"] == "events" and self.takes:
            self.acknowledge(message["id"])

    def acknowledge(self, number: int) -> None:
        self.loop.receive(json.dumps({"type": "ack", "id": number}))

    async def open(self, _number: int) -> MemorySource:
        return MemorySource(b"model")

    async def load(self, _source: Any, **_: Any) -> Served:
        return self.models.pop(0)

    async def install(self) -> None:
        self.installed += 1

    def ask(self, number: int, path: str, body: dict[str, Any] | None = None) -> None:
        method = "GET" if body is None else "POST"
        message = {"type": "api", "id": number, "method": method, "path": path}
        if body is not None:
            message["body"] = json.dumps(body)
        self.loop.receive(json.dumps(message))

    async def end(self, number: int) -> dict[str, Any]:
        for _ in range(5000):
            for message in self.messages:
                if message.get("id") == number and message["type"] in ("reply", "error"):
                    return message
            await asyncio.sleep(0)
        raise AssertionError(f"no end of {number} in {self.messages[-3:]}")

    def events(self, number: int) -> list[dict[str, Any]]:
        found = (m for m in self.messages if m["type"] == "events" and m["id"] == number)
        return [event for message in found for event in message["events"]]

    def text(self, number: int) -> str:
        choices = [event["choices"][0] for event in self.events(number) if event["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


async def loaded(*models: Served) -> Page:
    page = Page(*models)
    while not any(message["type"] == "loaded" for message in page.messages):
        await asyncio.sleep(0)
    return page


async def test_events_before_a_failure_are_forwarded() -> None:
    async def failing() -> AsyncIterator[Any]:
        for number in range(3):
            yield {"n": number}
        raise SourceError("It broke.")

    sent: list[Any] = []
    requests = ApiRequests(None, lambda **message: sent.append(message), nothing)  # type: ignore[arg-type]
    with pytest.raises(SourceError):
        await requests._forward(failing(), asyncio.Semaphore(9), 1)
    assert [event["n"] for message in sent for event in message["events"]] == [0, 1, 2]


async def test_whole_answers_lists_and_errors_are_replies() -> None:
    page = await loaded(Served())
    page.ask(2, "/v1/chat/completions", {"model": "hf:a/b/c.gguf", "messages": HI})
    reply = await page.end(2)
    assert reply["status"] == 200
    assert reply["body"]["choices"][0]["message"]["content"] == "Hello."
    page.ask(3, "/v1/models")
    assert (await page.end(3))["body"]["data"][0]["id"] == "scripted"
    page.ask(4, "/v1/chat/completions", {"messages": HI, "frequency": 1})
    refused = await page.end(4)
    assert (refused["status"], refused["body"]["error"]["param"]) == (400, "frequency")
    assert page.installed == 3


async def test_a_stream_is_events_and_then_an_empty_reply() -> None:
    page = await loaded(Served())
    options = {"stream": True, "stream_options": {"include_usage": True}}
    page.ask(2, "/v1/chat/completions", {"messages": HI, **options})
    assert await page.end(2) == {"type": "reply", "id": 2, "status": 200, "body": None}
    assert page.text(2) == "Hello."
    assert page.events(2)[-1]["usage"]["completion_tokens"] > 0


async def test_a_stream_waits_for_a_page_that_does_not_keep_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(protocol, "DELTA_SECONDS", 0.0)
    page = await loaded(Served("word " * 200))
    page.takes = False
    page.ask(2, "/v1/chat/completions", {"messages": HI, "stream": True})
    for _ in range(1500):
        await asyncio.sleep(0)
    sent = [m for m in page.messages if m["type"] == "events"]
    assert len(sent) == protocol.DELTA_WINDOW
    page.takes = True
    for _ in sent:
        page.acknowledge(2)
    await page.end(2)
    assert page.text(2) == "word " * 200


async def test_a_request_is_stopped_and_the_next_one_is_served() -> None:
    page = await loaded(Served("word " * 5000))
    page.ask(2, "/v1/chat/completions", {"messages": HI, "stream": True})
    while not page.events(2):
        await asyncio.sleep(0)
    page.loop.receive(json.dumps({"type": "abort", "id": 2}))
    assert (await page.end(2))["code"] == "cancelled"
    page.ask(3, "/v1/models")
    assert (await page.end(3))["status"] == 200


async def test_a_lost_device_is_replaced_within_an_answer() -> None:
    script = '{"city": "Oslo"}'
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}},
              "required": ["city"], "additionalProperties": False}  # fmt: skip
    named = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    page = await loaded(Served(script, lose_after=6), Served(script))
    body = {"messages": HI, "response_format": named, "stream": True, "max_tokens": 60}
    page.ask(2, "/v1/chat/completions", body)
    assert (await page.end(2))["status"] == 200
    assert not page.models, "the second model was not loaded"
    assert isinstance(json.loads(page.text(2))["city"], str)
