"""The dialect of Hermes, Qwen and many others: JSON objects between ``<tool_call>`` tags."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ....text.grammar.expression import Grammar, Node
from .dialect import Call, Dialect, Marker, Tool, all_calls, call_object


class Hermes(Dialect):
    r"""``<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>``, once per call."""

    begin = "<tool_call>"

    def parse(self, text: str) -> list[Call] | None:
        """Return the calls; the last closing tag may be missing."""
        values = []
        for part in text.split(self.begin)[1:]:
            body, _, _ = part.partition("</tool_call>")
            try:
                values.append(json.loads(body))
            except (ValueError, RecursionError):
                return None
        return all_calls(values)

    def grammar(
        self, grammar: Grammar, tools: Sequence[Tool], marker: Marker, *, many: bool
    ) -> Node:
        """Return one or more tagged objects."""
        line = grammar.literal("\n")
        body = grammar.choice([call_object(grammar, tool, "arguments") for tool in tools])
        call = grammar.sequence(
            [marker(grammar, self.begin), line, body, line, marker(grammar, "</tool_call>")]
        )
        return grammar.separated(call, line, 1) if many else call
