"""Every request field of the OpenAI API, marked supported, ignored or refused: the one table.

Validation and documentation are both made from it. Knows the shape of values, not their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import InvalidRequestError

Status = Literal["supported", "ignored", "refused"]


@dataclass(frozen=True)
class Type:
    """A kind of value: how it is called, and whether a value is one."""

    name: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


TEXT = Type("string", lambda v: isinstance(v, str))
FLAG = Type("boolean", lambda v: isinstance(v, bool))
WHOLE = Type("integer", lambda v: isinstance(v, int) and not isinstance(v, bool))
NUMBER = Type("number", _is_number)
OBJECT = Type("object", lambda v: isinstance(v, Mapping))
LIST = Type("array", lambda v: isinstance(v, list))
TEXTS = Type(
    "string or array of strings",
    lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(x, str) for x in v)),
)
TEXT_OR_OBJECT = Type("string or object", lambda v: isinstance(v, str | Mapping))
INPUT = Type("string, array of strings, or token ids", lambda v: isinstance(v, str | list))
ANYTHING = Type("anything", lambda v: True)


@dataclass(frozen=True)
class Field:
    """One field of a request."""

    name: str
    type: Type
    status: Status = "supported"
    note: str = ""


_SAMPLING = (
    Field("model", TEXT, note="must name the loaded model"),
    Field("stream", FLAG),
    Field("stream_options", OBJECT, note="`include_usage`"),
    Field("n", WHOLE, note="1 to 16; the prompt is computed once"),
    Field("max_tokens", WHOLE),
    Field("temperature", NUMBER),
    Field("top_p", NUMBER),
    Field("top_k", WHOLE, note="not OpenAI's; 0: all"),
    Field("min_p", NUMBER, note="not OpenAI's"),
    Field("repetition_penalty", NUMBER, note="not OpenAI's; 1: off"),
    Field("frequency_penalty", NUMBER),
    Field("presence_penalty", NUMBER),
    Field("logit_bias", OBJECT, note="token ids to numbers"),
    Field("seed", WHOLE, note="same seed, same answer on the same device"),
    Field("stop", TEXTS, note="at most 16 texts"),
    Field("grammar", TEXT, note="not OpenAI's; GBNF as llama.cpp writes it"),
    Field("adapter", TEXT, note="not OpenAI's; name of a LoRA adapter loaded beside the model"),
    Field("ignore_eos", FLAG, note="not OpenAI's; for measurements"),
    Field("user", TEXT, "ignored"),
)
CHAT = (
    Field("messages", LIST, note="system, developer, user, assistant, tool; text parts only"),
    *_SAMPLING,
    Field("max_completion_tokens", WHOLE, note="the newer name of `max_tokens`"),
    Field("logprobs", FLAG, note="the model's own, before penalties and temperature"),
    Field("top_logprobs", WHOLE, note="0 to 20"),
    Field("response_format", OBJECT, note="`text`, `json_object`, `json_schema`"),
    Field(
        "tools",
        LIST,
        note="functions, where the template has tools; `strict`: a call always fits its schema",
    ),
    Field("tool_choice", TEXT_OR_OBJECT, note="`auto`, `none`, `required`, or one by name"),
    Field("parallel_tool_calls", FLAG),
    Field("reasoning_effort", TEXT, note="`none` switches reasoning off where the template can"),
    Field("chat_template_kwargs", OBJECT, note="not OpenAI's; variables for the template"),
    Field("metadata", OBJECT, "ignored"),
    Field("store", FLAG, "ignored", "nothing is stored"),
    Field("service_tier", TEXT, "ignored"),
    Field("prediction", OBJECT, "ignored"),
    Field("prompt_cache_key", TEXT, "ignored", "prefixes are always shared"),
    Field("prompt_cache_retention", TEXT, "ignored"),
    Field("safety_identifier", TEXT, "ignored"),
    Field("verbosity", TEXT, "ignored"),
    Field("modalities", LIST, "refused", "text only"),
    Field("audio", OBJECT, "refused", "text only"),
    Field("functions", LIST, "refused", "use `tools`"),
    Field("function_call", TEXT_OR_OBJECT, "refused", "use `tool_choice`"),
    Field("web_search_options", OBJECT, "refused", "there is no search"),
)
COMPLETION = (
    Field("prompt", INPUT, note="one or several"),
    *_SAMPLING,
    Field("logprobs", WHOLE, note="0 to 20"),
    Field("echo", FLAG, note="not together with `logprobs`"),
    Field("best_of", WHOLE, "refused", "use `n`"),
    Field("suffix", TEXT, "refused", "models have no common way to fill in"),
)
EMBEDDING = (
    Field("model", TEXT, note="must name the loaded model"),
    Field("input", INPUT, note="one or several; each at most the model's context"),
    Field("encoding_format", TEXT, note="`float` or `base64`"),
    Field("dimensions", WHOLE, note="the first ones, normalised again"),
    Field("user", TEXT, "ignored"),
)
ENDPOINTS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": EMBEDDING,
}


def checked(fields: tuple[Field, ...], body: Any) -> dict[str, Any]:
    """Return the fields of a request that are set and count.

    Raises InvalidRequestError, naming the field, for unknown, refused and ill-typed ones. null is
    the same as a field left out.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequestError("The request must be a JSON object.")
    known = {field.name: field for field in fields}
    kept: dict[str, Any] = {}
    for name, value in body.items():
        field = known.get(name)
        if field is None:
            raise InvalidRequestError(f"The field {name!r} is not known here.", field=str(name))
        if value is None:
            continue
        if field.status == "refused":
            raise InvalidRequestError(
                f"The field {name!r} is not supported: {field.note}.", field=name
            )
        if not field.type.fits(value):
            raise InvalidRequestError(f"The field {name!r} must be {field.type.name}.", field=name)
        if field.status == "supported":
            kept[name] = value
    return kept


def only(known: tuple[str, ...], value: Any, path: str) -> Mapping[str, Any]:
    """Return an object inside a request. Raises InvalidRequestError for unknown keys."""
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{path} must be an object.", field=path)
    for name in value:
        if name not in known:
            raise InvalidRequestError(
                f"The field {path}.{name} is not known here.", field=f"{path}.{name}"
            )
    return value


def markdown() -> str:
    """Return the table of all fields for the documentation."""
    lines = []
    for path, fields in ENDPOINTS.items():
        lines += [f"### `{path}`", "", "| field | type | | |", "|---|---|---|---|"]
        for field in fields:
            lines.append(f"| `{field.name}` | {field.type.name} | {field.status} | {field.note} |")
        lines.append("")
    return "\n".join(lines)
