"""The HTTP routes of the OpenAI API: bodies, server-sent events, disconnects, keys and limits.

Natively only (Starlette); what is answered is ``service.OpenAIService``'s.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ...errors import InvalidRequestError
from ..chat import ChatModel
from ..streams import close
from .errors import error_body
from .service import OpenAIService, Reply

MAX_BODY = 8 << 20
"""Bytes of a request."""


def openai_routes(
    service: OpenAIService, model: ChatModel, *, api_key: str | None = None
) -> list[Route]:
    """Return the routes: ``/v1/*``, ``/health`` and ``/metrics``.

    ``api_key``: where given, ``/v1/*`` wants it as a bearer token.
    """

    async def answer(request: Request) -> Response:
        if api_key is not None and not _authorised(request, api_key):
            return _refused(401, "The API key is missing or wrong.", "invalid_api_key")
        body = bytearray()
        if request.method == "POST":
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    return _refused(413, f"The body exceeds {MAX_BODY} bytes.", "body_too_large")
        reply = await _unless_gone(
            request, service.handle(request.method, request.url.path, bytes(body))
        )
        if reply.events is not None:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(
                _server_sent(reply.events), media_type="text/event-stream", headers=headers
            )
        return JSONResponse(reply.body, status_code=reply.status)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": service.name})

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(_prometheus(model.stats()), media_type="text/plain; version=0.0.4")

    return [
        Route("/v1/{path:path}", answer, methods=["GET", "POST"]),
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


def _authorised(request: Request, api_key: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), api_key.encode())


def _refused(status: int, message: str, code: str) -> Response:
    body = error_body(InvalidRequestError(message))
    body["error"]["code"] = code
    return JSONResponse(body, status_code=status)


async def _unless_gone(request: Request, work: Any) -> Reply:
    """Return what ``work`` gives; stop it where the client goes away first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return Reply(499, {})
        reply: Reply = working.result()
        return reply
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _server_sent(events: AsyncIterator[Any]) -> AsyncIterator[str]:
    """Yield the events as text; closing it (the client went away) stops the generation."""
    try:
        async for event in events:
            yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
        yield "data: [DONE]\n\n"
    finally:
        await close(events)


def _prometheus(stats: dict[str, Any], prefix: str = "tilewright") -> str:
    """Return the numbers of ``stats`` in Prometheus' text format."""
    lines = []
    for name, value in stats.items():
        if isinstance(value, dict):
            lines.append(_prometheus(value, f"{prefix}_{name}").rstrip("\n"))
        elif isinstance(value, int | float):
            lines.append(f"{prefix}_{name} {value}")
    return "\n".join(lines) + "\n"
