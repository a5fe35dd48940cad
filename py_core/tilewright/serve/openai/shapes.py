"""The shapes of answers: what ``openai`` clients of any language read.

``x_tilewright`` holds what OpenAI has no name for. Types only.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

FinishReason = Literal["stop", "length", "tool_calls"]


class Function(TypedDict):
    """A called function; the arguments are a JSON text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """One call of a tool; ``index`` only in streams."""

    id: str
    type: Literal["function"]
    function: Function
    index: NotRequired[int]


class TopLogprob(TypedDict):
    """One token with its log-probability; null where it was forced by a grammar."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer and its most likely alternatives."""

    top_logprobs: list[TopLogprob]


class Logprobs(TypedDict):
    """Log-probabilities of an answer."""

    content: list[TokenLogprob]


class Message(TypedDict):
    """An answer, or in a stream the next piece of it."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str | None]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    refusal: NotRequired[None]


class Choice(TypedDict):
    """One of ``n`` answers; ``delta`` in streams, ``message`` otherwise."""

    index: int
    message: NotRequired[Message]
    delta: NotRequired[Message]
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class Timings(TypedDict):
    """Where the time went, in seconds."""

    time_to_first_token_s: float
    completion_s: float
    tokens_per_second: float


class PromptDetails(TypedDict):
    """How many prompt tokens were found in the cache."""

    cached_tokens: int


class Usage(TypedDict):
    """What a request cost; all choices together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[PromptDetails]
    x_tilewright: NotRequired[Timings]


class Completion(TypedDict):
    """An answer, or one event of a stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: NotRequired[Usage | None]


class TextLogprobs(TypedDict):
    """Log-probabilities in the older form of ``/v1/completions``."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    """One completion of a prompt."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(TypedDict):
    """Completions, or one event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: NotRequired[Usage | None]


class Embedding(TypedDict):
    """A vector; in base64 as little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    """The vectors of all inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(TypedDict):
    """A model that can be named."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(TypedDict):
    """All models."""

    object: Literal["list"]
    data: list[Model]
