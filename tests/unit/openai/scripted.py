"""A model without a GPU: a byte vocabulary, real templates, and an engine that follows a script."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

from tests.unit.grammar.random_schemas import allowed_ids

from tilewright.engine.sampling import SamplingParams
from tilewright.engine.sequence import TokenOutput
from tilewright.serve.chat import Delta as ChatDelta
from tilewright.serve.chat import StopStrings, Usage, load_template
from tilewright.serve.openai.service import OpenAIService
from tilewright.text.byte_level import BYTE_TO_CHAR
from tilewright.text.tokenizer import Tokenizer

SPECIALS = ("<|im_start|>", "<|im_end|>", "[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>")
"""The first four are control tokens, the others text that is found whole."""
TEMPLATE = """{%- if tools %}<|im_start|>system
<tool_call>{{ tools | tojson }}<|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tokenizer() -> Tokenizer:
    tokens = [*SPECIALS, *(BYTE_TO_CHAR.get(b, chr(b)) for b in range(256))]
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3] * 4 + [4] * 2 + [1] * 256,
            "tokenizer.ggml.merges": [],
            "tokenizer.ggml.eos_token_id": 1,
        }
    )


class ScriptedModel:
    """Stands in for ChatModel: says what it is told to, or walks a constraint at random.

    One that is ``willing`` says what it is told to as far as a constraint allows.
    """

    def __init__(
        self, script: str = "Hello.", template: str = TEMPLATE, *, willing: bool = False
    ) -> None:
        self.name = "scripted"
        self.script = script
        self.willing = willing
        self.tokenizer = tokenizer()
        self.file = SimpleNamespace(metadata={"tokenizer.chat_template": template})
        self.template = load_template(self.file, self.tokenizer)  # type: ignore[arg-type]
        self.runner = SimpleNamespace(vocabulary=self.tokenizer.vocabulary_size)
        self.engine = SimpleNamespace(
            vocabulary=self.tokenizer.vocabulary_size, context_length=4096, embed=self._embed
        )
        self.prompts: list[str] = []
        self.samplings: list[SamplingParams] = []
        self.running = 0

    def prompt_ids(self, prompt: str) -> list[int]:
        return self.tokenizer.encode(prompt)

    def stats(self) -> dict[str, Any]:
        return {"running": self.running, "blocks": {"used": 1}}

    async def _embed(self, ids: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[3.0, 4.0, float(len(item))] for item in ids]

    async def complete(
        self,
        ids: list[int],
        sampling: SamplingParams,
        *,
        stop: Sequence[str] = (),
        constraint: Any = None,
    ) -> AsyncIterator[ChatDelta]:
        self.prompts.append(self.tokenizer.decode(ids))
        self.samplings.append(sampling)
        stops, decoder, made = StopStrings(stop), self.tokenizer.stream_decoder(), 0
        self.running += 1
        try:
            for token in self._tokens(sampling, constraint):
                await asyncio.sleep(0)
                made += 1
                end = token in self.tokenizer.end_ids
                text, met = stops.push("" if end else decoder.push(token))
                reason = "stop" if end or met else None
                if reason is None and made == sampling.max_tokens:
                    reason = "length"
                if reason and not met:
                    text += stops.flush()
                usage = Usage(len(ids), made, 2, 0.5, 1.0) if reason else None
                logprob = None if sampling.logprobs is None else -0.25
                top = tuple((token + i, -0.25 - i) for i in range(sampling.logprobs or 0))
                output = TokenOutput(token, logprob, top, reason)  # type: ignore[arg-type]
                yield ChatDelta(text, (output,), reason, usage)
                if reason:
                    return
        finally:
            self.running -= 1

    def _tokens(self, sampling: SamplingParams, constraint: Any) -> Any:
        wanted = [*self.tokenizer.encode(self.script, parse_special=True), 1]
        if constraint is None:
            yield from wanted
            return
        r = random.Random(sampling.seed)
        said = 0
        while True:
            for token in constraint.forced():
                yield token
                said += 1
            allowed = allowed_ids(constraint.mask())
            token = r.choice(allowed)
            if self.willing and said < len(wanted) and wanted[said] in allowed:
                token = wanted[said]
            said += 1
            yield token
            constraint.accept(token)


def service(model: ScriptedModel) -> OpenAIService:
    return OpenAIService(model)  # type: ignore[arg-type]


async def chat(model_: ScriptedModel, /, **fields: Any) -> Any:
    """Send a chat request; return the body, or the list of a stream's events."""
    body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    reply = await service(model_).handle("POST", "/v1/chat/completions", body)
    if reply.events is not None:
        return [event async for event in reply.events]
    return reply.body
