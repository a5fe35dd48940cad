"""``Engine``: a model in this process, asked with the OpenAI names.

The same on a desktop and in Pyodide (PyScript, JupyterLite, marimo): requests have the fields of
the HTTP API, answers its shapes, with attributes. ``blocking.py`` is the same without ``await``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, overload

from ..errors import InvalidRequestError, TilewrightError
from ..formats.source import ByteSource
from ..webgpu.kernels.linear import Arithmetic
from ..webgpu.memory import OnProgress
from .chat import ChatModel, LoadOptions
from .openai.service import OpenAIService
from .streams import close


class Fields(dict[str, Any]):
    """A JSON object whose fields are attributes, too: ``chunk.choices[0].delta.content``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no field {name!r}; there are {list(self)}.") from None


def with_attributes(value: Any) -> Any:
    """Return a JSON value whose objects are ``Fields``."""
    if isinstance(value, Mapping):
        return Fields({name: with_attributes(item) for name, item in value.items()})
    if isinstance(value, list):
        return [with_attributes(item) for item in value]
    return value


class FailedRequestError(TilewrightError):
    """A request failed for a reason that has no class of its own."""

    code = "internal"


def _error(body: Mapping[str, Any]) -> TilewrightError:
    """Return the exception that an error body stands for."""
    detail = body["error"]
    facts = {} if detail["param"] is None else {"field": detail["param"]}
    for found in _subclasses(TilewrightError):
        if found.code == detail["code"]:
            return found(detail["message"], **facts)
    return FailedRequestError(detail["message"], **facts)


def _subclasses(kind: type[TilewrightError]) -> Iterator[type[TilewrightError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


class Engine:
    """A loaded model. Requests may run side by side; they share decode steps.

    ``async with await Engine.load("model.gguf") as engine:`` frees the device's memory at the end.
    """

    def __init__(self, model: ChatModel) -> None:
        self.model = model
        self._service = OpenAIService(model)
        self.chat = Chat(self._service)
        self.completions = Completions(self._service)
        self.embeddings = Embeddings(self._service)
        self.models = Models(self._service)

    @classmethod
    async def load(
        cls,
        model: str | os.PathLike[str] | ByteSource,
        *,
        context_length: int | None = None,
        max_sequences: int = 4,
        backend: Literal["webgpu", "wasm"] | None = None,
        memory_budget: int | None = None,
        arithmetic: Arithmetic = "f32",
        on_progress: OnProgress | None = None,
    ) -> Engine:
        """Load a model file: a path, ``hf:org/repo/file.gguf``, or in a browser an address.

        Args:
            model: what to load.
            context_length: positions per sequence; None: the model's own, at most 4096.
            max_sequences: sequences that decode in one batch.
            backend: where the arithmetic runs; None: as ``TILEWRIGHT_BACKEND`` says.
            memory_budget: bytes of device memory; layers beyond it are read for every step.
            arithmetic: ``f32``; on the GPU also ``int8`` or ``f16``: activations are rounded.
            on_progress: called with a ``Progress`` as the weights come.

        Raises FormatError, UnsupportedModelError, SourceError, OutOfMemoryError,
        DeviceUnavailableError, InvalidRequestError.
        """
        options = LoadOptions(
            context_length=context_length,
            max_sequences=max_sequences,
            backend=backend,
            memory_budget=memory_budget,
            arithmetic=arithmetic,
        )
        source = model
        if isinstance(model, str) and not os.path.exists(model):
            if sys.platform == "emscripten":
                source = await _fetched(model)
            elif model.startswith("hf:"):
                from .hub.pull import on_this_machine

                source = await on_this_machine(model, on_progress)
        return cls(await ChatModel.load(source, options=options, on_progress=on_progress))

    @property
    def name(self) -> str:
        """The model's name, which requests may repeat as ``model``."""
        return self._service.name

    async def close(self) -> None:
        """Free the device's memory."""
        await self.model.close()

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _fetched(address: str) -> ByteSource:
    """Open an address through the JavaScript that ``in_pyodide.js`` has installed."""
    try:
        import tilewright_host  # type: ignore[import-not-found]
    except ImportError:
        raise InvalidRequestError(
            "This Pyodide has no Tilewright: import in_pyodide.js of the runtime folder and await "
            "its install(pyodide)."
        ) from None
    from ..webgpu import bridge

    return await bridge.open_source(tilewright_host.openSource(address))


class _Requests:
    """Sends requests to the service and raises its errors."""

    def __init__(self, service: OpenAIService) -> None:
        self._service = service

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        reply = await self._service.handle(method, path, dict(body or {}))
        if reply.status >= 400:
            raise _error(reply.body)
        if reply.events is not None:
            return _stream(reply.events)
        return with_attributes(reply.body)


async def _stream(events: AsyncIterator[Any]) -> AsyncIterator[Fields]:
    try:
        async for event in events:
            if "error" in event:
                raise _error(event)
            yield with_attributes(event)
    finally:
        await close(events)


class ChatCompletions(_Requests):
    """``engine.chat.completions``."""

    @overload
    async def create(self, *, stream: Literal[True], **fields: Any) -> AsyncIterator[Fields]: ...
    @overload
    async def create(self, *, stream: Literal[False] = False, **fields: Any) -> Fields: ...
    async def create(self, *, stream: bool = False, **fields: Any) -> Any:
        """Answer messages; the fields are those of ``POST /v1/chat/completions``.

        Closing a stream stops the generation. Raises TilewrightError.
        """
        return await self._send("POST", "/v1/chat/completions", {**fields, "stream": stream})


class Chat:
    """``engine.chat``: the completions of messages, and a short way to them."""

    def __init__(self, service: OpenAIService) -> None:
        self.completions = ChatCompletions(service)

    async def __call__(
        self, messages: str | Sequence[Mapping[str, Any]], **fields: Any
    ) -> AsyncIterator[Fields]:
        """Stream the chunks of an answer: ``async for chunk in engine.chat("Hello")``.

        Args:
            messages: of the conversation; a text stands for one message of the user.
            fields: as ``completions.create`` takes them.

        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        chunks = await self.completions.create(messages=list(messages), stream=True, **fields)
        async for chunk in chunks:
            yield chunk


class Completions(_Requests):
    """``engine.completions``: prompts without a chat template."""

    @overload
    async def create(self, *, stream: Literal[True], **fields: Any) -> AsyncIterator[Fields]: ...
    @overload
    async def create(self, *, stream: Literal[False] = False, **fields: Any) -> Fields: ...
    async def create(self, *, stream: bool = False, **fields: Any) -> Any:
        """Continue a prompt; the fields are those of ``POST /v1/completions``."""
        return await self._send("POST", "/v1/completions", {**fields, "stream": stream})


class Embeddings(_Requests):
    """``engine.embeddings``."""

    async def create(self, **fields: Any) -> Fields:
        """Return vectors; the fields are those of ``POST /v1/embeddings``."""
        found: Fields = await self._send("POST", "/v1/embeddings", fields)
        return found


class Models(_Requests):
    """``engine.models``."""

    async def list(self) -> Fields:
        """Return the one loaded model in OpenAI's shape."""
        found: Fields = await self._send("GET", "/v1/models")
        return found
