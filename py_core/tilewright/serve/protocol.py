"""The messages between a page and the worker that runs the model: the one description of them.

``web/src/protocol.ts`` is generated from this module (``build/generate.py``). All messages are
JSON, except that a ``load`` may carry a ``File``, which stays on the JavaScript side. Requests
carry an ``id`` that the answers repeat; ids are positive and chosen by the page. Knows nothing of
models.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

DELTA_WINDOW = 32
"""Most ``delta`` or ``events`` messages of a request that may be unacknowledged: then it waits."""
DELTA_SECONDS = 0.016
"""Deltas are gathered for about this long before they are sent: one frame of a 60 Hz screen."""


class LoadOptions(TypedDict, total=False):
    """How to load; what is left out is chosen for the model and the device."""

    context_length: int
    kv: Literal["f32", "f16", "q8_0"]
    max_sequences: int
    memory_budget: int
    """Bytes of device memory; layers beyond it are read for every step, or the model is refused."""
    quantize: Literal["Q8_0", "Q4_0", "Q4_K"]
    """Format into which F32, F16 and BF16 matrices are encoded while they are read."""
    backend: Literal["webgpu", "wasm"]
    threads: int
    arithmetic: Literal["f32", "int8", "f16"]
    """Of products on the GPU: activations may be rounded (Q4_0, Q4_K, Q8_0 weights)."""


class Sampling(TypedDict, total=False):
    """How to choose tokens; the fields of ``engine.sampling.SamplingParams``."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: dict[str, float]
    seed: int
    logprobs: int
    max_tokens: int
    ignore_eos: bool
    adapter: str
    """Name of a LoRA adapter that was loaded with ``adapter``."""


class Load(TypedDict):
    """Load a model from a URL or from the ``File`` sent with the message."""

    type: Literal["load"]
    id: int
    url: NotRequired[str]
    reference: NotRequired[str]
    """How the page names the model; requests to the API may name it so, too."""
    headers: NotRequired[dict[str, str]]
    options: NotRequired[LoadOptions]
    records: NotRequired[str]
    """Tuning records that the site ships: a JSON document as ``records`` answers it."""


class Choice(TypedDict):
    """Another file of the same model that could be loaded instead."""

    name: str
    bytes: int


class Inspect(TypedDict):
    """Ask what a model is and whether it fits; only its header is read."""

    type: Literal["inspect"]
    id: int
    url: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    options: NotRequired[LoadOptions]
    choices: NotRequired[list[Choice]]


class Generate(TypedDict):
    """Complete messages, a plain prompt, or token ids: exactly one of the three."""

    type: Literal["generate"]
    id: int
    messages: NotRequired[list[dict[str, Any]]]
    prompt: NotRequired[str]
    ids: NotRequired[list[int]]
    sampling: NotRequired[Sampling]
    stop: NotRequired[list[str]]
    tools: NotRequired[list[dict[str, Any]]]
    variables: NotRequired[dict[str, Any]]


class Api(TypedDict):
    """Answer a request to the OpenAI API: ``events`` where it streams, then one ``reply``."""

    type: Literal["api"]
    id: int
    method: str
    path: str
    body: NotRequired[str]
    """JSON."""


class Embed(TypedDict):
    """Turn texts, or lists of token ids, into vectors: exactly one of the two."""

    type: Literal["embed"]
    id: int
    texts: NotRequired[list[str]]
    ids: NotRequired[list[list[int]]]


class Adapter(TypedDict):
    """Load a LoRA adapter beside the model, under ``name``; or forget it (``remove``).

    A GGUF adapter, or PEFT's adapter_model.safetensors with adapter_config.json beside it.
    """

    type: Literal["adapter"]
    id: int
    name: str
    url: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    remove: NotRequired[bool]


class Ack(TypedDict):
    """The page has taken one ``delta`` or ``events`` of a request."""

    type: Literal["ack"]
    id: int


class Abort(TypedDict):
    """Stop a request that is under way; it ends with the error ``cancelled``."""

    type: Literal["abort"]
    id: int


class Unload(TypedDict):
    """Stop everything and free the model's memory."""

    type: Literal["unload"]
    id: int


class Stats(TypedDict):
    """Ask for the counters of the engine."""

    type: Literal["stats"]
    id: int


class SelfTest(TypedDict):
    """Run kernel cases on the GPU: each result comes in a ``progress``, then the device's facts."""

    type: Literal["selftest"]
    id: int
    cases: list[dict[str, Any]]
    everything: NotRequired[bool]


class Tune(TypedDict):
    """Time kernels while nothing is generated. An ``abort`` keeps what was found until then."""

    type: Literal["tune"]
    id: int
    budget: NotRequired[float]
    share: NotRequired[float]


class TuningRecords(TypedDict):
    """Take over records, where some are given; the answer holds all that are known."""

    type: Literal["records"]
    id: int
    records: NotRequired[str]


class Ready(TypedDict):
    """Python runs; sent once."""

    type: Literal["ready"]
    seconds: float
    version: str


class ProgressReport(TypedDict):
    """How far a load, selftest or tune is, or the load within a generation that lost its device."""

    type: Literal["progress"]
    id: int
    phase: str
    done: int
    total: int
    seconds: float
    tuned: NotRequired[int]
    """Kernels that were tuned while weights came: of a load."""
    result: NotRequired[dict[str, Any]]


class ModelInfo(TypedDict):
    """What was loaded."""

    name: str
    architecture: str
    context_length: int
    vocabulary: int
    has_chat_template: bool
    bytes: int
    stored: NotRequired[bool]
    """Whether the bytes are on this device for the next visit; false where there was no room."""
    formats: NotRequired[list[str]]
    device: str
    backend: NotRequired[str]
    """``webgpu`` or ``wasm``."""


class FitReport(TypedDict):
    """What a model needs of the device, in bytes."""

    context_length: int
    kv: str
    cache_tokens: int
    weights: int
    cache: int
    activations: int
    staging: int
    total: int
    """At the peak."""
    budget: int | None
    fits: bool
    largest_context: int
    """The longest context that would fit; 0: none."""
    largest_weights: int
    """Bytes of weights that would fit with this context; 0 without a budget."""
    largest_choice: str | None
    message: str | None
    """What to do, where it does not fit."""
    streamed_layers: int
    """Layers that a load with this budget would read for every step; 0: none, or no number fits."""
    streamed_bytes: int
    """Of the file, for every step; of experts, at most for one token."""
    expert_rooms: int
    """Where only experts of those layers are read, when they are chosen: how many are kept."""


class Inspection(TypedDict):
    """The value of the ``result`` of an ``inspect``."""

    name: str
    architecture: str
    layers: int
    vocabulary: int
    parameters: int
    bytes: int
    formats: list[str]
    trained_context: int
    has_chat_template: bool
    fit: FitReport


class Loaded(TypedDict):
    """A ``load`` is done."""

    type: Literal["loaded"]
    id: int
    model: ModelInfo


class TokenReport(TypedDict):
    """One token of a delta."""

    id: int
    logprob: NotRequired[float]
    top: NotRequired[list[tuple[int, float]]]


class DeltaReport(TypedDict):
    """A piece of an answer; acknowledge it with ``ack``."""

    type: Literal["delta"]
    id: int
    text: str
    tokens: list[TokenReport]


class UsageReport(TypedDict):
    """What a completion cost."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    time_to_first_token_s: float
    completion_s: float
    tokens_per_second: float


class Done(TypedDict):
    """A ``generate`` is complete."""

    type: Literal["done"]
    id: int
    finish_reason: str
    usage: UsageReport


class Events(TypedDict):
    """Events of a stream of the API, in OpenAI's shape; acknowledge them with one ``ack``."""

    type: Literal["events"]
    id: int
    events: list[dict[str, Any]]


class Reply(TypedDict):
    """The end of an ``api`` request; ``body`` is null after ``events``."""

    type: Literal["reply"]
    id: int
    status: int
    body: Any


class Result(TypedDict):
    """The answer to every request that has none of its own; ``value`` depends on the request."""

    type: Literal["result"]
    id: int
    value: dict[str, Any]


class Failure(TypedDict):
    """A request failed; ``code`` is one of ``tilewright/errors.py``."""

    type: Literal["error"]
    id: int
    code: str
    message: str
    details: dict[str, Any]


Request = (
    Load
    | Inspect
    | Adapter
    | Generate
    | Api
    | Embed
    | Ack
    | Abort
    | Unload
    | Stats
    | SelfTest
    | Tune
    | TuningRecords
)
Response = Ready | ProgressReport | Loaded | DeltaReport | Done | Events | Reply | Result | Failure
