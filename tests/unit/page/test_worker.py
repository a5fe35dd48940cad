"""The worker's loop with a fake model: order, errors, stopping, back-pressure, lost devices."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.reference import golden_models

from tilewright import settings
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.sequence import TokenOutput
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.errors import DeviceLostError, DeviceUnavailableError, SourceError
from tilewright.formats.open import open_model
from tilewright.formats.source import MemorySource
from tilewright.serve import protocol
from tilewright.serve.chat import Delta, Usage
from tilewright.serve.snapshot import restored
from tilewright.serve.worker import WorkerLoop
from tilewright.wasm import host
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels.kernel import Capabilities
from tilewright.webgpu.memory import Progress


class FakeModel:
    """Counts: the answer to ids [.., n] is n+1, n+2, ..., one character each."""

    busy = False

    def __init__(self, lose_after: int | None = None) -> None:
        self.lose_after = lose_after
        self.closed = False
        self.stopped = 0
        self.kept = 0

    async def complete(
        self, prompt: list[int], sampling: SamplingParams | None = None, **_: Any
    ) -> AsyncIterator[Delta]:
        assert sampling is not None
        try:
            for made in range(1, (sampling.max_tokens or 10_000) + 1):
                await asyncio.sleep(0)
                if self.lose_after is not None and made > self.lose_after:
                    raise DeviceLostError("The GPU is gone.")
                token = prompt[-1] + made
                last = made == sampling.max_tokens
                usage = Usage(prompt_tokens=len(prompt), completion_tokens=made) if last else None
                reason = "length" if last else None
                yield Delta(chr(96 + token % 26), (TokenOutput(token),), reason, usage)
        finally:
            self.stopped += 1

    def prompt_ids(self, prompt: Any, **_: Any) -> list[int]:
        return [len(prompt)]

    def stats(self) -> dict[str, Any]:
        return {"steps": 7}

    async def prepare(self) -> None:
        await asyncio.sleep(0)

    async def keep(self) -> None:
        self.kept += 1

    async def close(self) -> None:
        self.closed = True


class Page:
    """The other end of the loop."""

    def __init__(self, *models: FakeModel, acknowledge: bool = True) -> None:
        self.messages: list[dict[str, Any]] = []
        self.models = list(models)
        self.acknowledge = acknowledge
        self.opened: list[int] = []
        self.options: list[Any] = []
        self.loop = WorkerLoop(self.take, self.open, self.load, lambda _: {"name": "fake"})  # type: ignore[typeddict-item]

    def take(self, text: str) -> None:
        message = json.loads(text)
        self.messages.append(message)
        if message["type"] == "delta" and self.acknowledge:
            self.send(type="ack", id=message["id"])

    async def open(self, number: int) -> MemorySource:
        self.opened.append(number)
        return MemorySource(b"model")

    async def load(self, source: MemorySource, *, options: Any, on_progress: Any) -> FakeModel:
        assert await source.read(0, 5) == b"model"
        on_progress(Progress("weights", 5, 5, 0.1))
        self.options.append(options)
        return self.models.pop(0)

    def send(self, **message: Any) -> None:
        self.loop.receive(json.dumps(message))

    async def last(self, number: int, *kinds: str) -> dict[str, Any]:
        for _ in range(2000):
            for message in self.messages:
                if message.get("id") == number and message["type"] in kinds:
                    return message
            await asyncio.sleep(0)
        raise AssertionError(f"no {kinds} for {number} in {self.messages[-3:]}")

    async def loaded(self) -> Page:
        self.send(type="load", id=1)
        assert (await self.last(1, "loaded", "error"))["type"] == "loaded"
        return self

    def text(self, number: int) -> str:
        return "".join(
            m["text"] for m in self.messages if m["type"] == "delta" and m["id"] == number
        )


async def test_load_reports_progress_and_generates() -> None:
    model = FakeModel()
    page = await Page(model).loaded()
    assert page.messages[0] | {"seconds": 0} == {
        "type": "progress",
        "id": 1,
        "phase": "weights",
        "done": 5,
        "total": 5,
        "seconds": 0,
        "tuned": 0,
    }
    page.send(type="generate", id=2, ids=[0], sampling={"max_tokens": 3})
    done = await page.last(2, "done", "error")
    assert page.text(2) == "abc"
    assert done["finish_reason"] == "length"
    assert done["usage"]["completion_tokens"] == 3
    for number in (3, 4):
        page.send(type="generate", id=number, ids=[0], sampling={"max_tokens": 1})
        await page.last(number, "done")
    assert model.kept == 1, "once, after the first answer"
    assert done.keys() == protocol.Done.__annotations__.keys()
    assert done["usage"].keys() == protocol.UsageReport.__annotations__.keys()


@pytest.mark.parametrize(
    ("request_fields", "code", "field"),
    [
        ({"type": "generate"}, "invalid_request", "messages"),
        ({"type": "generate", "prompt": "a", "ids": [1]}, "invalid_request", "messages"),
        ({"type": "generate", "ids": ["a"]}, "invalid_request", "ids"),
        ({"type": "generate", "prompt": "a", "sampling": {"beams": 4}}, "invalid_request", "beams"),
        ({"type": "generate", "prompt": "a", "sampling": {"top_p": 2}}, "invalid_request", "top_p"),
        (
            {"type": "generate", "prompt": "a", "sampling": {"logit_bias": {"x": 1}}},
            "invalid_request",
            "logit_bias",
        ),
        ({"type": "dance"}, "invalid_request", "type"),
        ({"type": "load"}, "busy", None),
    ],
)
async def test_bad_requests_are_refused_by_field(
    request_fields: dict[str, Any], code: str, field: str | None
) -> None:
    page = await Page(FakeModel()).loaded()
    page.send(id=2, **request_fields)
    error = await page.last(2, "error", "done")
    assert (error["code"], error["details"].get("field")) == (code, field)


async def test_nothing_is_generated_before_a_load() -> None:
    page = Page()
    page.send(type="generate", id=5, prompt="x")
    assert (await page.last(5, "error"))["code"] == "invalid_request"


async def test_a_failed_load_can_be_tried_again() -> None:
    page = Page(FakeModel())
    keep, failures = page.open, [SourceError("The server is gone.")]

    async def fails_once(number: int) -> MemorySource:
        if failures:
            raise failures.pop()
        return await keep(number)

    page.loop._open_source = fails_once
    page.send(type="load", id=1)
    error = await page.last(1, "error")
    assert (error["code"], error["message"]) == ("source_unavailable", "The server is gone.")
    page.send(type="load", id=2)
    assert (await page.last(2, "loaded", "error"))["type"] == "loaded"


async def test_abort_stops_the_model() -> None:
    model = FakeModel()
    page = await Page(model).loaded()
    page.send(type="generate", id=2, ids=[0])
    await page.last(2, "delta")
    page.send(type="abort", id=2)
    assert (await page.last(2, "error"))["code"] == "cancelled"
    assert model.stopped == 1


async def test_a_request_that_is_stopped_before_it_began_is_answered() -> None:
    page = await Page(FakeModel()).loaded()
    page.send(type="generate", id=2, ids=[0])
    page.send(type="abort", id=2)
    assert (await page.last(2, "error"))["code"] == "cancelled"


async def test_decoding_waits_for_a_page_that_does_not_keep_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "DELTA_SECONDS", 0.0)
    page = await Page(FakeModel(), acknowledge=False).loaded()
    page.send(type="generate", id=2, ids=[0], sampling={"max_tokens": 100})
    for _ in range(1000):
        await asyncio.sleep(0)
    sent = [m for m in page.messages if m["type"] == "delta"]
    assert len(sent) == protocol.DELTA_WINDOW
    page.acknowledge = True
    for _ in sent:
        page.send(type="ack", id=2)
    await page.last(2, "done")
    assert len(page.text(2)) == 100


async def test_a_lost_device_is_replaced_and_the_answer_goes_on() -> None:
    page = await Page(FakeModel(lose_after=4), FakeModel()).loaded()
    page.send(type="generate", id=2, ids=[0, 0], sampling={"max_tokens": 9})
    done = await page.last(2, "done", "error")
    assert page.text(2) == "abcdefghi"
    assert done["usage"]["completion_tokens"] == 9
    assert done["usage"]["prompt_tokens"] == 2
    assert page.opened == [1, 1]


async def test_a_device_that_is_lost_again_and_again_fails_clearly() -> None:
    models = [FakeModel(lose_after=1) for _ in range(5)]
    page = await Page(*models).loaded()
    page.send(type="generate", id=2, ids=[0], sampling={"max_tokens": 9})
    assert (await page.last(2, "error", "done"))["code"] == "device_lost"


@pytest.mark.parametrize(
    ("asked", "last"), [({}, "wasm"), ({"backend": "webgpu"}, "webgpu")], ids=["free", "forced"]
)
async def test_a_device_lost_for_good_is_left_for_the_processor(
    asked: dict[str, Any], last: str
) -> None:
    """The second replacement is no GPU, unless the page insists."""
    page = Page(FakeModel(lose_after=2), FakeModel(lose_after=2), FakeModel())
    page.send(type="load", id=1, options=asked)
    await page.last(1, "loaded", "error")
    page.send(type="generate", id=2, ids=[0, 0], sampling={"max_tokens": 9})
    assert (await page.last(2, "done", "error"))["type"] == "done"
    assert page.text(2) == "abcdefghi"
    assert [options.backend for options in page.options][::2] == [asked.get("backend"), last]


async def test_unload_stops_everything_and_frees_the_model() -> None:
    model = FakeModel()
    page = await Page(model, FakeModel()).loaded()
    page.send(type="generate", id=2, ids=[0])
    await page.last(2, "delta")
    page.send(type="unload", id=3)
    await page.last(3, "result")
    assert (await page.last(2, "error"))["code"] == "cancelled"
    assert model.closed
    page.send(type="load", id=4)
    assert (await page.last(4, "loaded", "error"))["type"] == "loaded"


async def test_stats_and_ids() -> None:
    page = await Page(FakeModel()).loaded()
    page.send(type="stats", id=2)
    assert (await page.last(2, "result"))["value"] == {"steps": 7}
    page.loop.receive('{"type": "stats"}')
    assert page.messages[-1]["details"] == {"field": "id"}


def test_a_restored_snapshot_takes_new_switches_and_new_randomness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "0")
    random.seed(1)
    before = random.random()
    random.seed(1)
    try:
        restored('{"TILEWRIGHT_DEBUG": "3"}')
        assert settings.current().debug == 3
        assert random.random() != before
    finally:
        monkeypatch.undo()
        importlib.reload(settings)


MODEL = (golden_models.FOLDER / "qwen3.gguf").read_bytes()


def real_loop() -> tuple[WorkerLoop, list[Any]]:
    """Return a loop that opens real models, and the list of what it posts."""

    async def open_source(_: int) -> MemorySource:
        return MemorySource(MODEL, "qwen3.gguf")

    posted: list[Any] = []
    return WorkerLoop(lambda text: posted.append(json.loads(text)), open_source), posted


async def test_inspect_tells_whether_a_model_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe() -> Capabilities:
        return Capabilities()

    monkeypatch.setattr(Device, "probe", probe)
    loop, posted = real_loop()
    choices = [{"name": "Q4_0", "bytes": 9000}, {"name": "F32", "bytes": 1 << 30}]
    request = {"type": "inspect", "id": 3, "options": {"context_length": 64}}
    loop.receive(json.dumps(request))
    request = {**request, "id": 4, "options": {"memory_budget": 8 << 20}, "choices": choices}
    loop.receive(json.dumps(request))
    loop.receive(json.dumps({**request, "id": 5, "choices": [3]}))
    while len(posted) < 3:
        await asyncio.sleep(0.01)
    answers = {message["id"]: message for message in posted}
    found = answers[3]["value"]
    assert found["architecture"] == "qwen3"
    assert found["fit"]["fits"]
    assert found["fit"]["context_length"] == 64
    assert set(found) == set(protocol.Inspection.__annotations__)
    assert set(found["fit"]) == set(protocol.FitReport.__annotations__)
    refused = answers[4]["value"]["fit"]
    assert not refused["fits"]
    assert refused["budget"] == 8 << 20
    assert answers[5]["code"] == "invalid_request"


async def test_inspect_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

    async def probe() -> Capabilities:
        raise DeviceUnavailableError("There is none.")

    monkeypatch.setattr(Device, "probe", probe)
    loop, posted = real_loop()
    sizes: list[dict[str, Any]] = [{"context_length": 64}]
    sizes += [{"context_length": 1 << 24}, {"context_length": 64, "backend": "webgpu"}]
    with settings.scope(backend=""):
        for number, options in enumerate(sizes):
            loop.receive(json.dumps({"type": "inspect", "id": number, "options": options}))
        while len(posted) < len(sizes):
            await asyncio.sleep(0.01)
    answers = {message["id"]: message for message in posted}
    fit = answers[0]["value"]["fit"]
    assert fit["fits"]
    assert fit["kv"] == "f32"
    runner = await WasmRunner.load(
        await open_model(MemorySource(MODEL, "qwen3.gguf")), context_length=64, threads=1
    )
    assert 0 <= runner.device_bytes - fit["total"] < host.PAGE
    await runner.close()
    refused = answers[1]["value"]["fit"]
    assert not refused["fits"]
    assert "4295 MB" in refused["message"]
    assert refused["largest_context"] > 64
    assert answers[2]["code"] == "no_device"
