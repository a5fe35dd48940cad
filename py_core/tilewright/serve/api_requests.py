"""The worker's requests to the OpenAI API: ``api``, answered by one ``reply`` or by ``events``.

The modules of the API are fetched when they are first used; knows the protocol, no field of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ..errors import SourceError
from . import protocol
from .chat import ChatModel
from .steady import SteadyModel
from .streams import close

if TYPE_CHECKING:
    from .openai.service import OpenAIService

Install = Callable[[], Awaitable[Any]]
Send = Callable[..., None]


async def nothing() -> None:
    """Install nothing: natively everything is there."""


class ApiRequests:
    """Answers the API's requests about the model that is loaded.

    Args:
        model: the loaded model, whatever happens to its device.
        send: sends a message to the page.
        install: makes the modules that a page fetches late importable.

    """

    def __init__(self, model: SteadyModel, send: Send, install: Install) -> None:
        self._model = model
        self._send = send
        self._install = install
        self._names: tuple[str, ...] = ()
        self._service: OpenAIService | None = None

    def loaded(self, message: Mapping[str, Any]) -> None:
        """Take note of what was loaded: requests may name it as the page did."""
        named = (message.get("reference"), message.get("url"))
        self._names = tuple(name for name in named if isinstance(name, str))
        self._service = None

    async def answer(
        self, message: Mapping[str, Any], windows: dict[int, asyncio.Semaphore]
    ) -> None:
        """Answer one request; ``windows`` are those that the page's acknowledgements widen."""
        number = message["id"]
        await self.installed()
        from .openai.service import OpenAIService

        if self._service is None:
            model = cast("ChatModel", self._model)
            self._service = OpenAIService(model, recognised=self._names)
        method, path = str(message.get("method")), str(message.get("path"))
        reply = await self._service.handle(method, path, message.get("body") or "")
        if reply.events is not None:
            windows[number] = asyncio.Semaphore(protocol.DELTA_WINDOW)
            try:
                await self._forward(reply.events, windows[number], number)
            finally:
                del windows[number]
        self._send(type="reply", id=number, status=reply.status, body=reply.body)

    async def installed(self) -> None:
        """Make what a page fetches late importable. Raises SourceError where it cannot come."""
        try:
            await self._install()
        except Exception as error:
            raise SourceError(
                f"Modules of the runtime could not be fetched ({error}): check that the runtime "
                "folder is complete, and try again."
            ) from error

    async def _forward(
        self, events: AsyncIterator[Any], window: asyncio.Semaphore, number: int
    ) -> None:
        """Send the events of a stream, a frame's worth at a time, as the page takes them."""
        held: list[Any] = []
        sent_at = -1.0
        try:
            async for event in events:
                held.append(event)
                now = time.perf_counter()
                if now - sent_at < protocol.DELTA_SECONDS:
                    continue
                sent_at = now
                await window.acquire()
                self._send(type="events", id=number, events=held)
                held = []
        except asyncio.CancelledError:
            held = []  # nobody waits for them
            raise
        finally:
            await close(events)
            if held:
                await window.acquire()
                self._send(type="events", id=number, events=held)
