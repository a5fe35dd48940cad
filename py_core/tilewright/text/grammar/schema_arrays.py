"""Arrays of a JSON Schema: fixed leading items, the rest, and how many.

Knows nothing of the items but their expressions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import json_text
from .expression import UNBOUNDED, Grammar, Node
from .schema_document import Schema, refused
from .schema_merge import as_key

if TYPE_CHECKING:
    from .schema import SchemaCompiler

_MAX_UNIQUE = 8


def array(compiler: SchemaCompiler, schema: Schema, path: str) -> Node:
    """Return the arrays that satisfy ``schema``."""
    grammar = compiler.grammar
    low, high = schema.get("minItems", 0), schema.get("maxItems", UNBOUNDED)
    leading = schema.get("prefixItems", [])
    rest = schema.get("items", not leading)
    if isinstance(rest, list):  # as drafts before 2020-12 wrote prefixItems
        leading, rest = rest, schema.get("additionalItems", False)
    if schema.get("uniqueItems") and high > 1:
        return _unique(compiler, leading, rest, low, high, path)
    comma = grammar.literal(json_text.COMMA)
    first = [compiler.compile(item, f"{path}/prefixItems/{i}") for i, item in enumerate(leading)]
    count = len(first)
    if rest is False:
        high = min(high, count)
    body = grammar.empty
    if high > count:
        item = compiler.compile(rest, f"{path}/items")
        least, most = max(0, low - count), high if high == UNBOUNDED else high - count
        if count == 0:
            body = grammar.separated(item, comma, least, most)
        else:
            body = grammar.repeat(grammar.sequence([comma, item]), least, most)
    elif low > high:
        return grammar.fail
    for index in range(min(count, high) - 1, -1, -1):
        lead = comma if index else grammar.empty
        body = grammar.sequence([lead, first[index], body])
        if low <= index:
            body = grammar.optional(body)
    return grammar.sequence([grammar.literal("["), body, grammar.literal("]")])


def _unique(
    compiler: SchemaCompiler, leading: list[Any], rest: Any, low: int, high: int, path: str
) -> Node:
    """Return arrays without equal items, where the items are few listed values.

    One rule per set of values that are left.
    """
    grammar = compiler.grammar
    found = compiler.merger.resolved(rest, path) if not leading and rest is not False else {}
    values = {as_key(value): value for value in found.get("enum", ())}
    if not values or len(values) > _MAX_UNIQUE or set(found) - {"enum", "type"}:
        raise refused(
            path, f"uniqueItems is supported for items with an enum of at most {_MAX_UNIQUE} values"
        )
    parts = [
        compiler.compile({**found, "enum": [value]}, f"{path}/items") for value in values.values()
    ]
    name = f"unique {path} {as_key(found)} {low} {high}"
    comma = grammar.literal(json_text.COMMA)
    for used in range(1 << len(parts)):
        taken = used.bit_count()
        ways = [grammar.empty] if taken >= low else []
        for index, part in enumerate(parts if taken < high else ()):
            if not used >> index & 1:
                lead = comma if taken else grammar.empty
                following = grammar.rule(f"{name} {used | 1 << index}")
                ways.append(grammar.sequence([lead, part, following]))
        grammar.rules[f"{name} {used}"] = grammar.choice(ways)
    return _in_brackets(grammar, grammar.rule(f"{name} 0"))


def _in_brackets(grammar: Grammar, body: Node) -> Node:
    return grammar.sequence([grammar.literal("["), body, grammar.literal("]")])
