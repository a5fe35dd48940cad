"""The dialects of Mistral: after ``[TOOL_CALLS]`` a list, or names each with ``[ARGS]``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ....text.grammar.expression import Grammar, Node
from .dialect import (
    Call,
    Dialect,
    Marker,
    Tool,
    all_calls,
    arguments_of,
    call_object,
    listed,
    read_values,
)

_BEGIN, _ARGUMENTS = "[TOOL_CALLS]", "[ARGS]"


class Mistral(Dialect):
    """``[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]``."""

    begin = _BEGIN

    def parse(self, text: str) -> list[Call] | None:
        """Return the calls."""
        values = read_values(text.removeprefix(_BEGIN), ",")
        if values and len(values) == 1 and isinstance(values[0], list):
            values = values[0]
        return all_calls(values)

    def grammar(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return a list of objects."""
        call = grammar.choice([call_object(grammar, tool, "arguments") for tool in tools])
        return grammar.sequence(
            [
                marker(grammar, _BEGIN),
                grammar.literal("["),
                listed(grammar, call, many=many),
                grammar.literal("]"),
            ]
        )


class MistralNamed(Dialect):
    """``[TOOL_CALLS]name[ARGS]{...}``, once per call."""

    begin = _BEGIN

    def parse(self, text: str) -> list[Call] | None:
        """Return the calls."""
        calls = []
        for part in text.split(_BEGIN)[1:]:
            name, found, arguments = part.partition(_ARGUMENTS)
            try:
                value = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
            if not found or not name.strip() or not isinstance(value, dict):
                return None
            # Some models put an id between the name and the arguments.
            name = name.partition("[CALL_ID]")[0].strip()
            calls.append(Call(name, json.dumps(value, ensure_ascii=False)))
        return calls or None

    def grammar(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return names with arguments."""
        call = grammar.choice(
            [
                grammar.sequence(
                    [
                        marker(grammar, _BEGIN),
                        grammar.literal(tool.name),
                        marker(grammar, _ARGUMENTS),
                        arguments_of(grammar, tool),
                    ]
                )
                for tool in tools
            ]
        )
        return grammar.repeat(call, 1) if many else call
