"""What a dialect of tool calls is: where calls begin, how they are read, and their grammar."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....text.grammar import json_text
from ....text.grammar.code_points import without
from ....text.grammar.expression import Grammar, Node
from ....text.grammar.schema import SchemaCompiler

Marker = Callable[[Grammar, str], Node]
"""Makes the expression for a text that may be a control token of the model."""


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of the arguments; None: no arguments."""
    strict: bool = False
    """Whether a call's arguments are held to the schema where the model may choose to call."""


@dataclass(frozen=True)
class Call:
    """A call that the model made; the arguments as JSON text."""

    name: str
    arguments: str


class Dialect(ABC):
    """One way of writing calls."""

    begin: str
    """Text with which calls begin; what stands before it is the answer's own text."""
    at_start: tuple[str, ...] = ()
    """Texts with which an answer may begin that is nothing but calls."""

    @abstractmethod
    def parse(self, text: str) -> list[Call] | None:
        """Return the calls in ``text``, which starts where calls begin; None: there are none."""

    @abstractmethod
    def grammar(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return the calls of these tools: one, or at least one where ``many``."""

    def free_or_calls(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return any text with calls at its end, or with none."""
        calls = self.grammar(grammar, tools, marker, many=many)
        return grammar.sequence([without(grammar, self.begin), grammar.optional(calls)])


_SAY_NOTHING = frozenset(("type", "properties", "required", "title", "description"))
"""Keywords beside which a schema without properties means: there are no arguments."""


def arguments_of(grammar: Grammar, tool: Tool) -> Node:
    """Return the grammar of a tool's arguments; without properties there are none."""
    schema = dict(tool.parameters or {})
    schema.setdefault("type", "object")
    declared = "properties" in schema or not tool.parameters
    if declared and not schema.get("properties") and schema.keys() <= _SAY_NOTHING:
        schema["additionalProperties"] = False
    return SchemaCompiler(grammar, schema).compile(schema, "")


def call_object(grammar: Grammar, tool: Tool, arguments_key: str) -> Node:
    """Return ``{"name": ..., arguments_key: {...}}`` for one tool."""
    head = f'{{"name": {json.dumps(tool.name)}, "{arguments_key}": '
    return grammar.sequence(
        [grammar.literal(head), arguments_of(grammar, tool), grammar.literal("}")]
    )


def call_of(value: Any) -> Call | None:
    """Return the call that a JSON object describes."""
    if not isinstance(value, Mapping):
        return None
    inner = value.get("function", value)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        return None
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):
        return Call(inner["name"], arguments)
    if not isinstance(arguments, Mapping):
        return None
    return Call(inner["name"], json.dumps(arguments, ensure_ascii=False))


def read_values(text: str, separator: str) -> list[Any] | None:
    """Return the JSON values of ``text``, which are separated by ``separator`` or white space."""
    decoder, at = json.JSONDecoder(), 0
    values: list[Any] = []
    while True:
        while at < len(text) and (text[at].isspace() or text[at] == separator):
            at += 1
        if at >= len(text):
            return values
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        values.append(value)


def all_calls(values: Sequence[Any] | None) -> list[Call] | None:
    """Return the calls that all the values describe; None where one does not, or there is none."""
    calls = [call_of(value) for value in values or ()]
    found = [call for call in calls if call is not None]
    return found if found and len(found) == len(calls) else None


def listed(grammar: Grammar, item: Node, *, many: bool) -> Node:
    """Return items between commas."""
    comma = grammar.literal(json_text.COMMA)
    return grammar.separated(item, comma, 1) if many else item
