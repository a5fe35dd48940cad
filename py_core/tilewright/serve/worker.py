"""The Python half of the worker: requests in, messages out, one model at a time.

``WorkerLoop`` knows no JavaScript: it is given ``post`` (a JSON text for the page), a way to open
the bytes of a load, and a way to load a model, so tests drive it natively with a fake. ``start`` is
the edge that ``web/src/worker.ts`` calls. The messages are those of ``protocol.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

from .. import __version__
from ..engine.sampling import SamplingParams
from ..errors import (
    BusyError,
    CancelledError,
    InvalidRequestError,
    TilewrightError,
)
from ..formats.source import ByteSource
from ..tuning.store import Storage
from ..webgpu.memory import Progress
from . import api_requests, protocol, tuning_requests
from .chat import ChatModel, Delta, Embedded, LoadOptions, Usage
from .ready_queue import ReadyQueue
from .steady import SteadyModel

Message = dict[str, Any]
OpenSource = Callable[[int], Awaitable[ByteSource]]


class Model(Protocol):
    """What the loop needs of a ``ChatModel``."""

    def complete(
        self, prompt: Any, sampling: SamplingParams | None = None, **options: Any
    ) -> AsyncIterator[Delta]:
        """Stream a completion."""
        ...

    def prompt_ids(self, prompt: Any, **options: Any) -> list[int]:
        """Return the ids of a prompt or of messages."""
        ...

    async def embed(self, inputs: Sequence[str] | Sequence[Sequence[int]]) -> Embedded:
        """Return the vectors of texts or of lists of ids."""
        ...

    async def add_adapter(self, source: Any, name: str | None = None) -> str:
        """Load a LoRA adapter."""
        ...

    async def remove_adapter(self, name: str) -> None:
        """Forget a LoRA adapter."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return the counters."""
        ...

    async def prepare(self) -> None:
        """Compile what the first answer needs."""
        ...

    async def keep(self) -> None:
        """Keep what makes the next load shorter."""
        ...

    @property
    def busy(self) -> bool:
        """Whether anything is computed or waits to be."""
        ...

    async def close(self) -> None:
        """Free the memory."""
        ...


LoadModel = Callable[..., Awaitable[Any]]
Describe = Callable[[Any], protocol.ModelInfo]


def describe(model: ChatModel) -> protocol.ModelInfo:
    """Return what the page is told about a model."""
    formats: Counter[str] = Counter()
    for tensor in model.file.items():
        formats[tensor.quant.name] += tensor.nbytes
    return {
        "name": model.name,
        "architecture": model.file.architecture,
        "context_length": model.runner.context_length,
        "vocabulary": model.tokenizer.vocabulary_size,
        "has_chat_template": model.template is not None,
        "bytes": sum(source.size for source in model.file.sources),
        "stored": all(getattr(source, "stored", False) for source in model.file.sources),
        "formats": [name for name, _ in formats.most_common()],
        "device": model.runner.device_name,
        "backend": model.backend,
    }


class WorkerLoop:
    """Serves the requests of one page."""

    def __init__(
        self,
        post: Callable[[str], None],
        open_source: OpenSource,
        load: LoadModel = ChatModel.load,
        describe: Describe = describe,
        storage: Storage | None = None,
        install: api_requests.Install = api_requests.nothing,
    ) -> None:
        self._post = post
        self._open_source = open_source
        self._load_model = load
        self._describe = describe
        self._storage = storage
        self._model: Model | None = None
        self._reload: Callable[..., Awaitable[Model]] | None = None
        self._recovery: asyncio.Task[Model] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._kept: Model | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._windows: dict[int, asyncio.Semaphore] = {}
        steady = SteadyModel(self._loaded, partial(self._recover, 0))
        self._api = api_requests.ApiRequests(steady, self._send, install)

    def receive(self, text: str) -> None:
        """Take one request (JSON); its answers follow through ``post``."""
        message: Message = json.loads(text)
        kind, number = message.get("type"), message.get("id")
        if not isinstance(number, int) or isinstance(number, bool):
            self._fail(0, InvalidRequestError("A request needs a number as its id.", field="id"))
        elif kind == "ack":
            window = self._windows.get(number)
            if window is not None:
                window.release()
        elif kind == "abort":
            task = self._tasks.get(number)
            if task is not None:
                task.cancel()
        elif number in self._tasks:
            self._fail(number, InvalidRequestError("This id is already in use.", field="id"))
        else:
            task = asyncio.ensure_future(self._guarded(message, number))
            self._tasks[number] = task
            task.add_done_callback(lambda ended: self._ended(ended, number))

    def _send(self, **message: Any) -> None:
        self._post(json.dumps(message))

    def _fail(self, number: int, error: TilewrightError) -> None:
        self._send(type="error", id=number, **error.to_dict())

    async def _work(self, message: Message, number: int) -> None:
        kind = message.get("type")
        if kind == "load":
            await self._load(message, number)
        elif kind == "inspect":
            await self._inspect(message, number)
        elif kind == "adapter":
            await self._adapter(message, number)
        elif kind == "generate":
            await self._generate(message, number)
            self._answered()
        elif kind == "api":
            self._loaded()
            await self._api.answer(message, self._windows)
            self._answered()
        elif kind == "embed":
            found = await self._loaded().embed(_inputs(message))
            self._send(type="result", id=number, value=asdict(found))
        elif kind == "unload":
            await self._unload(number)
        elif kind == "stats":
            self._send(type="result", id=number, value=self._loaded().stats())
        elif kind == "selftest":
            await self._selftest(message, number)
        elif kind in ("tune", "records"):
            model = self._loaded()
            answer = tuning_requests.answer(model, message, self._idle, self._send)
            self._send(type="result", id=number, value=await answer)
        else:
            raise InvalidRequestError(f"There is no request of type {kind!r}.", field="type")

    def _ended(self, task: asyncio.Task[None], number: int) -> None:
        self._tasks.pop(number, None)
        if task.cancelled():  # before its first step, so that _guarded could not say so
            self._fail(number, CancelledError("Stopped."))

    async def _guarded(self, message: Message, number: int) -> None:
        try:
            await self._work(message, number)
        except asyncio.CancelledError:
            self._fail(number, CancelledError("Stopped."))
        except TilewrightError as error:
            self._fail(number, error)
        except MemoryError:
            self._fail_plainly(
                number, "out_of_memory", "The worker's memory is full: reload the page."
            )
        except Exception as error:  # a defect of ours: the page must still hear of it
            self._fail_plainly(number, "internal", f"{type(error).__name__}: {error}")
            raise

    def _fail_plainly(self, number: int, code: str, message: str) -> None:
        self._send(type="error", id=number, code=code, message=message, details={})

    def _loaded(self) -> Model:
        if self._model is None:
            raise InvalidRequestError("No model is loaded: send a load request first.")
        return self._model

    async def _load(self, message: Message, number: int) -> None:
        if self._model is not None or self._reload is not None:
            raise BusyError("A model is loaded or loading: unload it first.")
        options = _options(message.get("options", {}))
        more = tuning_requests.load_options(message, self._storage)

        async def load(asked_by: int, without_gpu: bool = False) -> Model:
            source = await self._open_source(number)
            if options.quantize is not None:
                await self._api.installed()
            gone = without_gpu and options.backend is None
            asked = replace(options, backend="wasm") if gone else options
            model: Model = await self._load_model(
                source, options=asked, on_progress=self._reporter(asked_by), **more
            )
            return model

        self._reload = load
        try:
            self._model = await load(number)
        except BaseException:
            self._reload = None
            raise
        self._api.loaded(message)
        self._send(type="loaded", id=number, model=self._describe(self._model))
        self._preparing = asyncio.ensure_future(self._prepare(self._model))

    async def _inspect(self, message: Message, number: int) -> None:
        """Read a header; the source stays open, as JavaScript may load from it next."""
        from ..engine.backend import likely_gpu
        from ..formats.open import open_model
        from .inspection import choices_of, inspect

        options = _options(message.get("options", {}))
        choices = choices_of(message.get("choices", []))
        if options.quantize is not None:
            await self._api.installed()
        file = await open_model(await self._open_source(number))
        capabilities = await likely_gpu(options.backend)
        found = await inspect(file, capabilities, options=options, choices=choices)
        self._send(type="result", id=number, value=found)

    async def _adapter(self, message: Message, number: int) -> None:
        """Load a LoRA adapter, or forget it."""
        model, name = self._loaded(), message.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidRequestError("An adapter needs a name.", field="name")
        if message.get("remove"):
            await model.remove_adapter(name)
        else:
            await model.add_adapter(await self._open_source(number), name)
        self._send(type="result", id=number, value={"name": name})

    async def _prepare(self, model: Model) -> None:
        """Compile while the first prompt is being typed; what fails here, fails there again."""
        with contextlib.suppress(TilewrightError):
            await model.prepare()

    def _answered(self) -> None:
        """Begin, after a model's first answer, what only the next visit has something of."""
        if self._model is not None and self._model is not self._kept:
            self._kept = self._model
            self._keeping = asyncio.ensure_future(self._keep(self._model))

    async def _keep(self, model: Model) -> None:
        with contextlib.suppress(TilewrightError):  # a full disk: the next load is a plain one
            await model.keep()

    def _idle(self) -> bool:
        """Whether nothing else wants the device."""
        preparing = self._preparing is not None and not self._preparing.done()
        return not preparing and (self._model is None or not self._model.busy)

    def _reporter(self, number: int) -> Callable[[Progress], None]:
        last = -1.0

        def report(progress: Progress) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last < 0.05 and progress.done < progress.total:
                return
            last = now
            facts = {**asdict(progress), "seconds": round(progress.seconds, 3)}
            self._send(type="progress", id=number, **facts)

        return report

    async def _generate(self, message: Message, number: int) -> None:
        model = self._loaded()
        prompt = _prompt(message)
        sampling = _sampling(message.get("sampling", {}))
        options = {"tools": message.get("tools"), "variables": message.get("variables")}
        ids = prompt if "ids" in message else model.prompt_ids(prompt, **options)
        outbox = _Outbox(self, number)
        self._windows[number] = outbox.window
        steady = SteadyModel(self._loaded, partial(self._recover, number))
        stop = list(message.get("stop", []))
        generation = steady.complete(list(ids), sampling, stop=stop)
        try:
            async for delta in generation:
                await outbox.put(delta)
                if delta.finish_reason is not None:
                    outbox.finish(delta)
        finally:
            del self._windows[number]
            await generation.aclose()

    async def _recover(self, number: int, without_gpu: bool) -> None:
        """Load the model again on a new device, once for all generations that were running."""
        if self._recovery is None:
            assert self._reload is not None
            self._model = None
            self._recovery = asyncio.ensure_future(self._reload(number, without_gpu))
        try:
            self._model = await asyncio.shield(self._recovery)
        finally:
            self._recovery = None

    async def _selftest(self, message: Message, number: int) -> None:
        """Run kernel cases on a device of their own."""
        from ..webgpu.device import Device
        from ..webgpu.selftest import run_cases

        device = await Device.open()
        cases, begun = message.get("cases"), time.perf_counter()
        if not isinstance(cases, list):
            raise InvalidRequestError("cases must be a list.", field="cases")
        everything = bool(message.get("everything"))
        done = 0
        async for result in run_cases(device, cases, everything=everything):
            done += 1
            self._send(
                type="progress",
                id=number,
                phase="selftest",
                done=done,
                total=len(cases),
                seconds=round(time.perf_counter() - begun, 3),
                result=asdict(result),
            )
        value = {"device": device.name, "capabilities": asdict(device.capabilities)}
        self._send(type="result", id=number, value=value)

    async def _unload(self, number: int) -> None:
        others = [task for key, task in self._tasks.items() if key != number]
        for task in others:
            task.cancel()
        keeping = [] if self._keeping is None else [self._keeping]
        await asyncio.gather(*others, *keeping, return_exceptions=True)
        model, self._model, self._reload = self._model, None, None
        if model is not None:
            await model.close()
        self._send(type="result", id=number, value={})


class _Outbox:
    """Gathers deltas for a frame, and waits when the page does not keep up."""

    def __init__(self, loop: WorkerLoop, number: int) -> None:
        self.number = number
        self.window = asyncio.Semaphore(protocol.DELTA_WINDOW)
        self._loop = loop
        self._text = ""
        self._tokens: list[protocol.TokenReport] = []
        self._sent_at = -1.0

    async def put(self, delta: Delta) -> None:
        self._text += delta.text
        for token in delta.tokens:
            report: protocol.TokenReport = {"id": token.id}
            if token.logprob is not None:
                report["logprob"] = token.logprob
                report["top"] = list(token.top)
            self._tokens.append(report)
        now = time.perf_counter()
        if delta.finish_reason is None and now - self._sent_at < protocol.DELTA_SECONDS:
            return
        self._sent_at = now
        await self.window.acquire()
        self._loop._send(type="delta", id=self.number, text=self._text, tokens=self._tokens)
        self._text, self._tokens = "", []

    def finish(self, delta: Delta) -> None:
        usage = (delta.usage or Usage()).to_dict()
        reason = delta.finish_reason
        self._loop._send(type="done", id=self.number, finish_reason=reason, usage=usage)


def _options(fields: Message) -> LoadOptions:
    _known("options", fields, protocol.LoadOptions.__annotations__)
    return LoadOptions(**fields)


def _sampling(fields: Message) -> SamplingParams:
    _known("sampling", fields, protocol.Sampling.__annotations__)
    bias = fields.get("logit_bias", {})
    try:
        ids = {int(token): weight for token, weight in bias.items()}
    except (AttributeError, ValueError) as error:
        raise InvalidRequestError(
            "logit_bias must map token ids to numbers.", field="logit_bias"
        ) from error
    return SamplingParams(**{**fields, "logit_bias": ids})


def _known(name: str, fields: Message, known: dict[str, Any]) -> None:
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"{name} must be an object.", field=name)
    for field in fields:
        if field not in known:
            raise InvalidRequestError(f"{name} has no field {field!r}.", field=field)


def _prompt(message: Message) -> Any:
    given = [key for key in ("messages", "prompt", "ids") if message.get(key) is not None]
    if len(given) != 1:
        raise InvalidRequestError(
            "Give exactly one of messages, prompt and ids.", field="messages", given=given
        )
    value = message[given[0]]
    if given[0] == "prompt":
        good = isinstance(value, str)
    elif given[0] == "ids":
        good = isinstance(value, list) and all(type(item) is int for item in value)
    else:
        good = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    if not good:
        raise InvalidRequestError(f"{given[0]} has the wrong type.", field=given[0])
    return value


def _inputs(message: Message) -> Any:
    given = [key for key in ("texts", "ids") if message.get(key) is not None]
    if len(given) != 1:
        raise InvalidRequestError("Give exactly one of texts and ids.", field="texts", given=given)
    field = given[0]
    value = message[field]
    good = isinstance(value, list) and all(
        isinstance(item, str)
        if field == "texts"
        else isinstance(item, list) and all(type(token) is int for token in item)
        for item in value
    )
    if not good:
        raise InvalidRequestError(f"{field} has the wrong type.", field=field)
    return value


def start(
    post: Callable[[str], None],
    open_source: Callable[[int], Awaitable[Any]],
    storage: Any = None,
    install: api_requests.Install = api_requests.nothing,
) -> Any:
    """Return the function that takes requests; called by the JavaScript half.

    ``open_source`` gives, for the id of a load, an object with a JavaScript ByteSource and the
    AbortSignal of that load; ``storage`` keeps tuning records (``web/src/tuning_records.ts``);
    ``install`` fetches the modules of the OpenAI API and of quantizing.
    """
    from ..webgpu import bridge

    async def open_bytes(number: int) -> ByteSource:
        return await bridge.open_source(open_source(number))

    ReadyQueue(asyncio.get_running_loop()).install()
    kept = None if storage is None else tuning_requests.PageStorage(storage)
    return WorkerLoop(post, open_bytes, storage=kept, install=install).receive


VERSION = __version__
