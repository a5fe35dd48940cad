"""``/v1/chat/completions``: messages in, answers out, whole or as a stream of chunks."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence

from ... import __version__
from ...engine.sequence import TokenOutput
from ...errors import InvalidRequestError, TemplateError
from ...text.tokenizer import Tokenizer
from ..chat import ChatModel, Delta
from .answer import END_THINK, THINK, Answer, opens_reasoning
from .constraints import Grammars
from .generations import Costs, merged, start
from .request import ChatRequest
from .shapes import Choice, Completion, FinishReason, Logprobs, Message, TokenLogprob
from .tools import Dialect, dialect_of


class ChatCompletions:
    """Answers chat requests with one model."""

    def __init__(self, model: ChatModel, name: str, grammars: Grammars) -> None:
        self._model = model
        self._name = name
        self._grammars = grammars

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole answer."""
        run = _Run(self._model, self._grammars, request)
        count = request.options.count
        messages: list[Message] = [{"role": "assistant", "content": None} for _ in range(count)]
        logprobs: list[list[TokenLogprob]] = [[] for _ in range(count)]
        reasons: list[FinishReason | None] = [None] * count
        async for number, piece, tokens, reason in run.pieces():
            _append(messages[number], piece)
            logprobs[number] += tokens
            reasons[number] = reason or reasons[number]
        choices: list[Choice] = []
        for i, message in enumerate(messages):
            for call in message.get("tool_calls", []):
                call.pop("index", None)
            if message["content"] is None and "tool_calls" not in message:
                message["content"] = ""
            choices.append(
                {
                    "index": i,
                    "message": {**message, "refusal": None},
                    "logprobs": run.logprobs(logprobs[i]),
                    "finish_reason": reasons[i],
                }
            )
        made = self._envelope("chat.completion", _new_id(), choices)
        made["usage"] = run.costs.total(run.prompt_tokens)
        return made

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Completion, None]:
        """Yield the answer in chunks."""
        run = _Run(self._model, self._grammars, request)
        name = _new_id()
        usage = request.options.include_usage

        def chunk(choices: list[Choice]) -> Completion:
            made = self._envelope("chat.completion.chunk", name, choices)
            if usage:
                made["usage"] = None
            return made

        begun: set[int] = set()
        pieces = run.pieces()
        try:
            async for number, piece, tokens, reason in pieces:
                delta: Message = piece
                if number not in begun:
                    begun.add(number)
                    delta = {"role": "assistant", "content": "", **piece}
                if delta or tokens:
                    yield chunk([_choice(number, delta, run.logprobs(tokens), None)])
                if reason is not None:
                    yield chunk([_choice(number, {}, None, reason)])
        finally:
            await pieces.aclose()
        if usage:
            last = chunk([])
            last["usage"] = run.costs.total(run.prompt_tokens)
            yield last

    def _envelope(self, kind: str, name: str, choices: list[Choice]) -> Completion:
        return {
            "id": name,
            "object": kind,
            "created": int(time.time()),
            "model": self._name,
            "system_fingerprint": f"tilewright-{__version__}",
            "choices": choices,
        }


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def _choice(
    number: int, delta: Message, logprobs: Logprobs | None, reason: FinishReason | None
) -> Choice:
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _append(message: Message, piece: Message) -> None:
    """Add a piece of a stream to a whole message."""
    if piece.get("content"):
        message["content"] = (message["content"] or "") + (piece["content"] or "")
    if "reasoning_content" in piece:
        before = message.get("reasoning_content", "")
        message["reasoning_content"] = before + piece["reasoning_content"]
    if "tool_calls" in piece:
        message["tool_calls"] = [*message.get("tool_calls", []), *piece["tool_calls"]]


class _Run:
    """One request at work."""

    def __init__(self, model: ChatModel, grammars: Grammars, request: ChatRequest) -> None:
        self._model = model
        self._request = request
        self.costs = Costs()
        template = model.template
        if template is None:
            raise TemplateError(
                "This model has no chat template: use /v1/completions, or a model tuned for chat."
            )
        dialect = dialect_of(template.source)
        if request.tools and request.choice != "none" and dialect is None:
            raise InvalidRequestError(
                "This model's chat template has no tools that we can read: leave tools out.",
                field="tools",
            )
        messages = request.messages
        if "developer" not in template.source:
            messages = [
                {**m, "role": "system"} if m["role"] == "developer" else m for m in messages
            ]
        prompt = template.render_prompt(
            messages, tools=request.tool_definitions, **request.variables
        )
        ids = model.tokenizer.encode_prompt(prompt)
        self.prompt_tokens = len(ids)
        opened = opens_reasoning(prompt.text)
        reasons = THINK in template.source and END_THINK in template.source
        # Where the prompt has closed the reasoning already, the model does not open it again.
        closed = prompt.text.rstrip().endswith(END_THINK)
        compiled = grammars.chat(request, dialect, reasons=reasons and not closed, opened=opened)
        used: Dialect | None = dialect if request.tool_definitions else None
        self._answers = [
            Answer(used, reasons=reasons, opened=opened, parallel=request.parallel)
            for _ in range(request.options.count)
        ]
        self._sources = start(model, ids, request.options, compiled)

    async def pieces(
        self,
    ) -> AsyncGenerator[tuple[int, Message, list[TokenLogprob], FinishReason | None], None]:
        """Yield what becomes certain of each choice, its tokens, and at its end the reason."""
        deltas = merged(self._sources)
        try:
            async for number, delta in deltas:
                answer = self._answers[number]
                piece = answer.push(delta.text)
                tokens = self._tokens(delta)
                if delta.finish_reason is None:
                    if piece or tokens:
                        yield number, piece, tokens, None
                    continue
                self.costs.add(delta.usage)
                last = answer.finish()
                if "content" in piece and "content" in last:
                    last["content"] = (piece["content"] or "") + (last["content"] or "")
                if "reasoning_content" in piece and "reasoning_content" in last:
                    both = piece["reasoning_content"] + last["reasoning_content"]
                    last["reasoning_content"] = both
                reason: FinishReason = "length" if delta.finish_reason == "length" else "stop"
                if answer.called and reason == "stop":
                    reason = "tool_calls"
                yield number, {**piece, **last}, tokens, reason
        finally:
            await deltas.aclose()

    def _tokens(self, delta: Delta) -> list[TokenLogprob]:
        if not self._request.logprobs:
            return []
        tokenizer = self._model.tokenizer
        ends = tokenizer.end_ids
        return [token_logprob(tokenizer, t) for t in delta.tokens if t.id not in ends]

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> Logprobs | None:
        """Return the log-probabilities, where they were asked for."""
        return {"content": list(tokens)} if self._request.logprobs else None


def token_logprob(tokenizer: Tokenizer, token: TokenOutput) -> TokenLogprob:
    """Return one token's log-probabilities (those that are not finite become -9999)."""
    return {
        "token": tokenizer.token_text(token.id),
        "logprob": finite(token.logprob),
        "bytes": list(tokenizer.token_bytes(token.id)),
        "top_logprobs": [
            {
                "token": tokenizer.token_text(other),
                "logprob": finite(value),
                "bytes": list(tokenizer.token_bytes(other)),
            }
            for other, value in token.top
        ],
    }


def finite(value: float | None) -> float:
    """Return a log-probability that JSON can hold."""
    return value if value is not None and value > -9999.0 else -9999.0
