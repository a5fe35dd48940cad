"""``/v1/completions``: plain prompts in, their continuations out."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator

from ... import __version__
from ..chat import ChatModel, Delta
from .chat_completions import finite
from .constraints import Grammars
from .generations import Costs, merged, start
from .request import CompletionRequest
from .shapes import FinishReason, TextChoice, TextCompletion, TextLogprobs


class Completions:
    """Completes prompts with one model; choice ``p * n + i`` is answer i to prompt p."""

    def __init__(self, model: ChatModel, name: str, grammars: Grammars) -> None:
        self._model = model
        self._name = name
        self._grammars = grammars

    async def complete(self, request: CompletionRequest) -> TextCompletion:
        """Return the whole completions."""
        run = _Run(self._model, self._grammars, request)
        choices: dict[int, TextChoice] = {}
        async for piece in run.pieces():
            whole = choices.setdefault(piece["index"], piece)
            if whole is piece:
                continue
            whole["text"] += piece["text"]
            whole["finish_reason"] = piece["finish_reason"]
            if whole["logprobs"] is not None and piece["logprobs"] is not None:
                _extend(whole["logprobs"], piece["logprobs"])
        made = self._envelope(_new_id(), [choices[i] for i in sorted(choices)])
        made["usage"] = run.costs.total(run.prompt_tokens)
        return made

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[TextCompletion, None]:
        """Yield the completions in pieces."""
        run = _Run(self._model, self._grammars, request)
        name = _new_id()
        pieces = run.pieces()
        try:
            async for piece in pieces:
                yield self._envelope(name, [piece])
        finally:
            await pieces.aclose()
        if request.options.include_usage:
            last = self._envelope(name, [])
            last["usage"] = run.costs.total(run.prompt_tokens)
            yield last

    def _envelope(self, name: str, choices: list[TextChoice]) -> TextCompletion:
        return {
            "id": name,
            "object": "text_completion",
            "created": int(time.time()),
            "model": self._name,
            "system_fingerprint": f"tilewright-{__version__}",
            "choices": choices,
        }


def _new_id() -> str:
    return f"cmpl-{secrets.token_hex(12)}"


def _extend(whole: TextLogprobs, piece: TextLogprobs) -> None:
    whole["tokens"] += piece["tokens"]
    whole["token_logprobs"] += piece["token_logprobs"]
    whole["top_logprobs"] += piece["top_logprobs"]
    whole["text_offset"] += piece["text_offset"]


class _Run:
    """One request at work."""

    def __init__(self, model: ChatModel, grammars: Grammars, request: CompletionRequest) -> None:
        self._model = model
        self._request = request
        self.costs = Costs()
        options = request.options
        compiled = grammars.gbnf(options.grammar) if options.grammar is not None else None
        prompts = [p if isinstance(p, list) else model.prompt_ids(p) for p in request.prompts]
        self.prompt_tokens = sum(map(len, prompts))
        self._sources = [
            source for ids in prompts for source in start(model, ids, options, compiled)
        ]
        self._lengths = [0] * len(self._sources)

    async def pieces(self) -> AsyncGenerator[TextChoice, None]:
        """Yield what becomes certain of each choice."""
        begun: set[int] = set()
        deltas = merged(self._sources)
        try:
            async for number, delta in deltas:
                text = delta.text
                if number not in begun:
                    begun.add(number)
                    text = self._echo(number) + text
                logprobs = self._logprobs(number, delta)
                reason: FinishReason | None = None
                if delta.finish_reason is not None:
                    self.costs.add(delta.usage)
                    reason = "length" if delta.finish_reason == "length" else "stop"
                if text or logprobs or reason:
                    yield {
                        "index": number,
                        "text": text,
                        "logprobs": logprobs,
                        "finish_reason": reason,
                    }
        finally:
            await deltas.aclose()

    def _echo(self, number: int) -> str:
        if not self._request.echo:
            return ""
        prompt = self._request.prompts[number // self._request.options.count]
        return prompt if isinstance(prompt, str) else self._model.tokenizer.decode(prompt)

    def _logprobs(self, number: int, delta: Delta) -> TextLogprobs | None:
        if self._request.options.sampling.logprobs is None:
            return None
        tokenizer = self._model.tokenizer
        made: TextLogprobs = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token in delta.tokens:
            if token.id in tokenizer.end_ids:
                continue
            text = tokenizer.token_text(token.id)
            made["tokens"].append(text)
            made["token_logprobs"].append(finite(token.logprob))
            made["top_logprobs"].append(
                {tokenizer.token_text(other): finite(value) for other, value in token.top}
            )
            made["text_offset"].append(self._lengths[number])
            self._lengths[number] += len(text)
        return made
