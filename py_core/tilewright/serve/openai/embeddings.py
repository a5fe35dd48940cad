"""``/v1/embeddings``: the vectors of texts, of unit length."""

from __future__ import annotations

import base64
import math
import struct

from ...errors import InvalidRequestError
from ..chat import ChatModel
from .request import EmbeddingRequest
from .shapes import Embeddings

MAX_INPUTS = 2048


async def embeddings(model: ChatModel, name: str, request: EmbeddingRequest) -> Embeddings:
    """Return one vector per input. Raises InvalidRequestError, ContextLengthError."""
    if len(request.inputs) > MAX_INPUTS:
        raise InvalidRequestError(f"At most {MAX_INPUTS} inputs at once.", field="input")
    ids = [
        item if isinstance(item, list) else model.tokenizer.encode(item, add_special=True)
        for item in request.inputs
    ]
    if not all(ids):
        raise InvalidRequestError("An input is empty.", field="input")
    vectors = await model.engine.embed(ids)
    width = len(vectors[0])
    if request.dimensions is not None and request.dimensions > width:
        raise InvalidRequestError(
            f"The model's vectors have {width} dimensions.", field="dimensions"
        )
    used = sum(map(len, ids))
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": i,
                "embedding": _encoded(_unit(vector[: request.dimensions]), request.base64),
            }
            for i, vector in enumerate(vectors)
        ],
        "model": name,
        "usage": {"prompt_tokens": used, "completion_tokens": 0, "total_tokens": used},
    }


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]


def _encoded(vector: list[float], as_base64: bool) -> list[float] | str:
    if not as_base64:
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
