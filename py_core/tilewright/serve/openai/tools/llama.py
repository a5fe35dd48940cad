"""The dialect of Llama 3: the whole answer is a JSON object with ``parameters``."""

from __future__ import annotations

from collections.abc import Sequence

from ....text.grammar.code_points import ANY, subtract, utf8, without
from ....text.grammar.expression import Grammar, Node
from .dialect import Call, Dialect, Marker, Tool, all_calls, call_object, read_values

_TAG = "<|python_tag|>"


class Llama(Dialect):
    """``{"name": ..., "parameters": {...}}``, several separated by semicolons."""

    begin = _TAG
    at_start = ("{",)

    def parse(self, text: str) -> list[Call] | None:
        """Return the calls."""
        return all_calls(read_values(text.replace(_TAG, ""), ";"))

    def grammar(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return one or more objects."""
        call = grammar.choice([call_object(grammar, tool, "parameters") for tool in tools])
        return grammar.separated(call, grammar.literal("; "), 1) if many else call

    def free_or_calls(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return calls, or any text that does not begin as calls do."""
        calls = self.grammar(grammar, tools, marker, many=many)
        tagged = grammar.sequence([grammar.optional(marker(grammar, _TAG)), calls])
        white = [(ord(c), ord(c)) for c in " \t\r\n"]
        space = grammar.repeat(utf8(grammar, white), 0)
        first = utf8(grammar, subtract(ANY, [*white, *((ord(c), ord(c)) for c in "{<")]))
        text = grammar.sequence([space, first, without(grammar, _TAG)])
        return grammar.choice([tagged, text, space])
