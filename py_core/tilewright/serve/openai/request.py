"""Requests checked and in our own terms: sampling, messages, tools, what constrains the answer.

Knows OpenAI's fields, not models.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...engine.sampling import SamplingParams
from ...errors import InvalidRequestError
from . import fields
from .tools import Tool

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content",
                   "refusal", "audio", "function_call", "annotations")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What all generating endpoints have in common."""

    model: str | None
    sampling: SamplingParams
    count: int = 1
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    grammar: str | None = None


@dataclass(frozen=True)
class ResponseFormat:
    """What the answer must look like."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    schema: Any = None


@dataclass(frozen=True)
class ChatRequest:
    """A request to ``/v1/chat/completions``."""

    options: Options
    messages: list[dict[str, Any]]
    format: ResponseFormat = field(default_factory=ResponseFormat)
    tools: tuple[Tool, ...] = ()
    tool_definitions: list[Mapping[str, Any]] | None = None
    """The tools as the template sees them."""
    choice: Literal["auto", "none", "required"] = "auto"
    parallel: bool = True
    logprobs: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompletionRequest:
    """A request to ``/v1/completions``."""

    options: Options
    prompts: list[str | list[int]]
    echo: bool = False


@dataclass(frozen=True)
class EmbeddingRequest:
    """A request to ``/v1/embeddings``."""

    model: str | None
    inputs: list[str | list[int]]
    base64: bool = False
    dimensions: int | None = None


def _wrong(name: str, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"The field {name!r} must be {wanted}.", field=name)


def _options(given: Mapping[str, Any], logprobs: int | None) -> Options:
    count = given.get("n", 1)
    if not 1 <= count <= MAX_CHOICES:
        raise _wrong("n", f"from 1 to {MAX_CHOICES}")
    stop = given.get("stop", ())
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS or not all(stops):
        raise _wrong("stop", f"at most {MAX_STOPS} texts, none of them empty")
    stream_options = fields.only(
        ("include_usage", "include_obfuscation"), given.get("stream_options", {}), "stream_options"
    )
    if stream_options and not given.get("stream"):
        raise _wrong("stream_options", "left out without stream")
    try:
        bias = {int(token): value for token, value in given.get("logit_bias", {}).items()}
    except ValueError:
        raise _wrong("logit_bias", "an object of token ids to numbers") from None
    known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty",
             "presence_penalty", "ignore_eos", "adapter")  # fmt: skip
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    sampling = SamplingParams(
        **{name: given[name] for name in known if name in given},
        logit_bias=bias,
        seed=given.get("seed", random.getrandbits(32)),
        logprobs=logprobs,
        max_tokens=limit,
    )
    return Options(
        model=given.get("model"),
        sampling=sampling,
        count=count,
        stop=stops,
        stream=given.get("stream", False),
        include_usage=bool(stream_options.get("include_usage")),
        grammar=given.get("grammar"),
    )


def chat_request(body: Any) -> ChatRequest:
    """Check a chat request. Raises InvalidRequestError, naming the field."""
    given = fields.checked(fields.CHAT, body)
    if "messages" not in given or not given["messages"]:
        raise _wrong("messages", "a list of at least one message")
    top = given.get("top_logprobs")
    if top is not None and not given.get("logprobs"):
        raise _wrong("top_logprobs", "left out without logprobs")
    logprobs = (top or 0) if given.get("logprobs") else None
    tools, definitions = _tools(given.get("tools", []))
    choice, tools = _tool_choice(given.get("tool_choice", "auto"), tools)
    format_ = _format(given.get("response_format", {"type": "text"}))
    options = _options(given, logprobs)
    constrained = [
        name
        for name, used in (
            ("grammar", options.grammar is not None),
            ("response_format", format_.kind != "text"),
            ("tool_choice", choice == "required"),
        )
        if used
    ]
    if len(constrained) > 1:
        raise InvalidRequestError(
            f"{' and '.join(constrained)} cannot be used together.", field=constrained[0]
        )
    return ChatRequest(
        options=options,
        messages=[_message(m, f"messages[{i}]") for i, m in enumerate(given["messages"])],
        format=format_,
        tools=tools,
        tool_definitions=definitions if tools and choice != "none" else None,
        choice=choice,
        parallel=given.get("parallel_tool_calls", True),
        logprobs=logprobs is not None,
        variables=_variables(given),
    )


def _variables(given: Mapping[str, Any]) -> dict[str, Any]:
    variables = dict(given.get("chat_template_kwargs", {}))
    taken = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "now"}
    if taken & variables.keys():
        raise _wrong("chat_template_kwargs", f"free of {', '.join(sorted(taken))}")
    effort = given.get("reasoning_effort")
    if effort is not None:
        variables.setdefault("reasoning_effort", effort)
        variables.setdefault("enable_thinking", effort != "none")
    return variables


def _message(message: Any, path: str) -> dict[str, Any]:
    given = fields.only(_MESSAGE_FIELDS, message, path)
    made = {name: value for name, value in given.items() if value is not None}
    role = made.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise _wrong(f"{path}.role", "system, developer, user, assistant or tool")
    for name in ("audio", "function_call"):
        if name in made:
            raise InvalidRequestError(f"{path}.{name} is not supported.", field=f"{path}.{name}")
    content = made.get("content")
    if isinstance(content, list):
        made["content"] = "".join(_part(part, f"{path}.content") for part in content)
    elif content is None and role == "assistant":
        made["content"] = ""
    elif not isinstance(content, str):
        raise _wrong(f"{path}.content", "a text or a list of text parts")
    if role == "tool" and not isinstance(made.get("tool_call_id"), str):
        raise _wrong(f"{path}.tool_call_id", "the id of the call that the tool answers")
    if "tool_calls" in made:
        if role != "assistant" or not isinstance(made["tool_calls"], list):
            raise _wrong(f"{path}.tool_calls", "a list, in a message of the assistant")
        made["tool_calls"] = [_past_call(call, f"{path}.tool_calls") for call in made["tool_calls"]]
    made.pop("refusal", None)
    made.pop("annotations", None)
    return made


def _part(part: Any, path: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        raise InvalidRequestError(f"{path} can hold text parts only.", field=path)
    text = part.get("text")
    if not isinstance(text, str):
        raise _wrong(f"{path}.text", "a string")
    return text


def _past_call(call: Any, path: str) -> dict[str, Any]:
    given = fields.only(("id", "type", "function", "index"), call, path)
    function = fields.only(("name", "arguments"), given.get("function"), f"{path}.function")
    name, arguments = function.get("name"), function.get("arguments", "{}")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise _wrong(f"{path}.function", "a name and arguments as JSON text")
    try:  # templates expect the object, as Hugging Face passes it
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = arguments
    call_id = str(given.get("id", ""))
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": value}}


def _tools(given: list[Any]) -> tuple[tuple[Tool, ...], list[Mapping[str, Any]]]:
    if len(given) > MAX_TOOLS:
        raise _wrong("tools", f"at most {MAX_TOOLS} tools")
    tools: list[Tool] = []
    definitions: list[Mapping[str, Any]] = []
    for i, item in enumerate(given):
        path = f"tools[{i}]"
        tool = fields.only(("type", "function"), item, path)
        if tool.get("type") != "function":
            raise _wrong(f"{path}.type", "'function'")
        function = fields.only(
            ("name", "description", "parameters", "strict"),
            tool.get("function"),
            f"{path}.function",
        )
        name, parameters = function.get("name"), function.get("parameters")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _wrong(f"{path}.function.name", "1 to 128 letters, digits, '_', '.' or '-'")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise _wrong(f"{path}.function.parameters", "a JSON Schema")
        strict = function.get("strict")
        if strict not in (None, True, False):
            raise _wrong(f"{path}.function.strict", "true or false")
        tools.append(Tool(name, parameters, bool(strict)))
        shown = {key: value for key, value in function.items() if key != "strict"}
        definitions.append({"type": "function", "function": shown})
    if len({tool.name for tool in tools}) < len(tools):
        raise _wrong("tools", "functions of different names")
    return tuple(tools), definitions


def _tool_choice(
    choice: Any, tools: tuple[Tool, ...]
) -> tuple[Literal["auto", "none", "required"], tuple[Tool, ...]]:
    """Return the choice, and the tools that may be called."""
    if isinstance(choice, Mapping):
        given = fields.only(("type", "function"), choice, "tool_choice")
        function = fields.only(("name",), given.get("function"), "tool_choice.function")
        named = tuple(tool for tool in tools if tool.name == function.get("name"))
        if not named:
            raise _wrong("tool_choice.function.name", "the name of one of the tools")
        return "required", named
    if choice == "auto":
        return "auto", tools
    if choice == "none":
        return "none", tools
    if choice == "required":
        if not tools:
            raise _wrong("tool_choice", "left out without tools")
        return "required", tools
    raise _wrong("tool_choice", "auto, none, required or one of the tools")


def _format(given: Any) -> ResponseFormat:
    known = fields.only(("type", "json_schema"), given, "response_format")
    match known.get("type"):
        case "text":
            return ResponseFormat()
        case "json_object":
            return ResponseFormat("json_object")
        case "json_schema":
            named = fields.only(
                ("name", "description", "schema", "strict"),
                known.get("json_schema"),
                "response_format.json_schema",
            )
            if "schema" not in named:
                raise _wrong("response_format.json_schema.schema", "a JSON Schema")
            return ResponseFormat("json_schema", named["schema"])
    raise _wrong("response_format.type", "text, json_object or json_schema")


def completion_request(body: Any) -> CompletionRequest:
    """Check a completion request. Raises InvalidRequestError, naming the field."""
    given = fields.checked(fields.COMPLETION, body)
    if given.get("echo") and "logprobs" in given:
        raise _wrong("echo", "left out together with logprobs")
    options = _options(given, given.get("logprobs"))
    return CompletionRequest(options, _inputs(given, "prompt"), given.get("echo", False))


def embedding_request(body: Any) -> EmbeddingRequest:
    """Check an embedding request. Raises InvalidRequestError, naming the field."""
    given = fields.checked(fields.EMBEDDING, body)
    encoding = given.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise _wrong("encoding_format", "float or base64")
    dimensions = given.get("dimensions")
    if dimensions is not None and dimensions < 1:
        raise _wrong("dimensions", "at least 1")
    return EmbeddingRequest(
        given.get("model"), _inputs(given, "input"), encoding == "base64", dimensions
    )


def _inputs(given: Mapping[str, Any], name: str) -> list[str | list[int]]:
    """Return one or several texts or lists of ids."""
    value = given.get(name)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(item) is int for item in value):
            return [value]
        if all(isinstance(item, str) for item in value):
            return value
        if all(isinstance(x, list) and x and all(type(i) is int for i in x) for x in value):
            return value
    raise _wrong(name, "a text, token ids, or a list of either")
