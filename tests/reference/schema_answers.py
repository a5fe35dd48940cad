"""Random JSON Schemas asked of a random-weight model through the API, and what came of each.

The model is small, its weights are random, its tokenizer and chat template are those of the bundled
model: it wants nothing in particular, so that whatever the masks allow is said sooner or later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from tests.bench.random_models import SHAPES, make
from tests.unit.grammar.random_schemas import Maker

from tilewright.formats.open import open_model
from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.serve.openai.service import OpenAIService

BUNDLED = Path(__file__).resolve().parents[2] / "web/public/models/tilewright-tiny.gguf"
MAX_TOKENS = 300
TOGETHER = 4
SHAPE = replace(
    SHAPES["S"], layers=2, width=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=0
)


@dataclass(frozen=True)
class Outcome:
    """What became of one schema."""

    seed: int
    status: int
    text: str = ""
    reason: str = ""
    """Why it was refused."""
    tokens: int = 0
    fault: str = ""
    """What is wrong with the answer, if anything is."""


async def random_model(path: Path) -> Path:
    """Write the model."""
    file = await open_model(str(BUNDLED))
    words = {k: v for k, v in file.metadata.items() if k.startswith("tokenizer.")}
    file.close()
    shape = replace(SHAPE, vocabulary=len(words["tokenizer.ggml.tokens"]))
    make(path, shape, "Q8_0", "Q8_0", words)
    return path


async def open_service(path: Path) -> tuple[ChatModel, OpenAIService]:
    """Load the model on the CPU path; close it in the end."""
    options = LoadOptions(context_length=512, max_sequences=TOGETHER, backend="wasm", threads=1)
    model = await ChatModel.load(str(path), options=options)
    return model, OpenAIService(model)


async def asked(service: OpenAIService, schema: Any, seed: int) -> Outcome:
    """Ask for one answer under a schema, and check it."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    body = {
        "messages": [{"role": "user", "content": f"Number {seed}, please."}],
        "response_format": form,
        "max_tokens": MAX_TOKENS,
        "temperature": 1.5,
        "seed": seed,
    }
    reply = await service.handle("POST", "/v1/chat/completions", body)
    if reply.status != 200:
        return Outcome(seed, reply.status, reason=reply.body["error"]["message"])
    choice = reply.body["choices"][0]
    text, tokens = choice["message"]["content"], reply.body["usage"]["completion_tokens"]
    fault = ""
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        fault = f"{type(error).__name__}: {error}"[:300]
    if choice["finish_reason"] != "stop":
        fault = fault or f"it ended by {choice['finish_reason']}"
    return Outcome(seed, 200, text, tokens=tokens, fault=fault)


async def outcomes(service: OpenAIService, seeds: Iterable[int]) -> AsyncIterator[Outcome]:
    """Yield the outcome of each seed's schema; some are asked at once, so that they share steps."""
    left = list(seeds)
    while left:
        some, left = left[:TOGETHER], left[TOGETHER:]
        work = [asked(service, Maker(seed).document(), seed) for seed in some]
        for outcome in await asyncio.gather(*work):
            yield outcome


def varied(texts: Iterable[str]) -> float:
    """Return the share of texts that are not the same as another."""
    known = list(texts)
    return len(np.unique(known)) / max(1, len(known))
