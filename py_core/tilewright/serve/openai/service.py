"""The OpenAI endpoints over one loaded model, without a transport.

``OpenAIService.handle`` takes a method, a path and a body and gives a reply: one JSON value, or a
stream of them. The HTTP routes and the worker in the page serve the same object.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidRequestError, TilewrightError
from ..chat import ChatModel
from ..streams import close
from .chat_completions import ChatCompletions
from .completions import Completions
from .constraints import Grammars
from .embeddings import embeddings
from .errors import ModelNotFoundError, NotFoundError, error_body, status_of, unexpected
from .request import chat_request, completion_request, embedding_request
from .shapes import Model, Models


@dataclass(frozen=True)
class Reply:
    """What to send: ``body``, or the values of ``events`` as they come."""

    status: int
    body: Any = None
    events: AsyncIterator[Any] | None = None
    """Ends with an error body where generation fails midway; closing it stops the generation."""


class OpenAIService:
    """Answers requests with one model; any number at once.

    Args:
        model: stays the caller's, who closes it.
        name: how requests name it (default: its own name).
        recognised: further names.

    """

    def __init__(
        self, model: ChatModel, *, name: str | None = None, recognised: tuple[str, ...] = ()
    ) -> None:
        self.name = name or model.name
        self._names = {self.name, *recognised}
        self._created = int(time.time())
        self._model = model
        grammars = Grammars(model.tokenizer, model.runner.vocabulary)
        self._chat = ChatCompletions(model, self.name, grammars)
        self._completions = Completions(model, self.name, grammars)

    async def handle(self, method: str, path: str, body: bytes | str | Any = b"") -> Reply:
        """Answer one request; errors are replies, too.

        Args:
            method: GET or POST.
            path: such as ``/v1/chat/completions``.
            body: JSON as bytes or text, or the parsed value.

        Cancelling the call stops the generation.
        """
        try:
            return await self._answer(method, path.rstrip("/"), body)
        except TilewrightError as error:
            return Reply(status_of(error), error_body(error))
        except Exception as error:  # a defect of ours: the client must still hear of it
            return Reply(500, unexpected(error))

    async def _answer(self, method: str, path: str, body: Any) -> Reply:
        if method == "GET" and path == "/v1/models":
            models: Models = {"object": "list", "data": [self._described()]}
            return Reply(200, models)
        if method == "GET" and path.startswith("/v1/models/"):
            self._check_name(path.removeprefix("/v1/models/"))
            return Reply(200, self._described())
        if method != "POST" or path not in _POSTED:
            raise NotFoundError(f"There is no {method} {path} here; see /v1/models.")
        value = _parsed(body)
        if path == "/v1/chat/completions":
            chat = chat_request(value)
            self._check_name(chat.options.model)
            if chat.options.stream:
                return Reply(200, events=await _begun(self._chat.stream(chat)))
            return Reply(200, await self._chat.complete(chat))
        if path == "/v1/completions":
            completion = completion_request(value)
            self._check_name(completion.options.model)
            if completion.options.stream:
                return Reply(200, events=await _begun(self._completions.stream(completion)))
            return Reply(200, await self._completions.complete(completion))
        embedding = embedding_request(value)
        self._check_name(embedding.model)
        return Reply(200, await embeddings(self._model, self.name, embedding))

    def _described(self) -> Model:
        return {
            "id": self.name,
            "object": "model",
            "created": self._created,
            "owned_by": "tilewright",
        }

    def _check_name(self, name: str | None) -> None:
        if name is not None and name not in self._names:
            raise ModelNotFoundError(
                f"The model {name!r} is not loaded; loaded is {self.name!r}.", field="model"
            )


_POSTED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


def _parsed(body: Any) -> Any:
    if not isinstance(body, bytes | bytearray | str):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequestError("The request's body is not JSON.") from None


async def _begun(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Wait for the first event, so that a request that fails at once has the error's status."""
    first = await anext(events)

    async def rest() -> AsyncIterator[Any]:
        try:
            yield first
            async for event in events:
                yield event
        except TilewrightError as error:
            yield error_body(error)
        except Exception as error:
            yield unexpected(error)
        finally:
            await close(events)

    return rest()
