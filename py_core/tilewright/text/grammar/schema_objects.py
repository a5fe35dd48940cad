"""Objects of a JSON Schema: which members may come, in which order, and how many.

Knows nothing of the members' values but their expressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import json_text
from .expression import UNBOUNDED, Grammar, Node
from .schema_document import Schema, refused
from .schema_merge import matches

if TYPE_CHECKING:
    from .schema import SchemaCompiler

_MAX_COUNTED = 20_000


@dataclass(frozen=True)
class Member:
    """A declared property."""

    name: str
    pair: Node
    required: bool


def members(
    compiler: SchemaCompiler, schema: Schema, path: str
) -> tuple[list[Member], Node | None]:
    """Return the declared members and the expression for one further member (None: none)."""
    required = list(dict.fromkeys(schema.get("required", ())))
    declared = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    names = [*declared, *(name for name in required if name not in declared)]
    made = []
    for name in names:
        inner = compiler.merger.property(schema, name, path)
        if inner is False and name not in required:
            continue
        made.append(compiler.member(name, inner, path, required=name in required))
    if patterns:
        if len(patterns) > 1:
            raise refused(path, "patternProperties with several patterns may overlap")
        pattern, inner = next(iter(patterns.items()))
        if any(matches(pattern, name) for name in names):
            return made, None
        return made, json_text.pair(
            compiler.grammar,
            compiler.pattern_key(pattern),
            compiler.compile(inner, f"{path}/patternProperties"),
        )
    # Without a word about them, further members come only where none are declared.
    further = schema.get("additionalProperties", not declared)
    if further is False:
        return made, None
    if "propertyNames" in schema:
        if names:
            raise refused(path, "propertyNames beside declared properties is not supported")
        key = compiler.key(schema["propertyNames"], path)
    elif names:
        key = json_text.key_other_than(compiler.grammar, names)
    else:
        key = json_text.string(compiler.grammar)
    inner = compiler.compile(further, f"{path}/additionalProperties")
    return made, json_text.pair(compiler.grammar, key, inner)


def object_of(
    grammar: Grammar, declared: list[Member], others: Node | None, low: int, high: int, path: str
) -> Node:
    """Return an object with the required and any of the optional members, in order.

    The number of members so far is counted as far as ``low`` and ``high`` need it.
    """
    needed = sum(member.required for member in declared)
    if low > len(declared) and (others is None or low > len(declared) + 1):
        if others is None:
            return grammar.fail
        raise refused(path, "minProperties beyond the declared properties is not supported")
    low = 0 if low <= needed else low
    high = UNBOUNDED if others is None and high >= len(declared) else high
    top = max(1, low, high + 1 if high != UNBOUNDED else 0)
    if high != UNBOUNDED and top * (len(declared) + 1) > _MAX_COUNTED:
        raise refused(path, "so many properties cannot be counted for minProperties, maxProperties")
    comma = grammar.literal(json_text.COMMA)
    tails = [_further(grammar, others, comma, count, low, high) for count in range(top + 1)]
    for member in reversed(declared):
        before = []
        for count in range(top + 1):
            after = tails[min(count + 1, top)]
            lead = comma if count else grammar.empty
            taken = grammar.sequence([lead, member.pair, after])
            before.append(taken if member.required else grammar.choice([taken, tails[count]]))
        tails = before
    return grammar.sequence([grammar.literal("{"), tails[0], grammar.literal("}")])


def _further(
    grammar: Grammar, others: Node | None, comma: Node, count: int, low: int, high: int
) -> Node:
    """Return what may follow the declared members, of which ``count`` came."""
    if count > high:
        return grammar.fail
    if others is None:
        return grammar.empty if count >= low else grammar.fail
    least = max(0, low - count)
    if least > 1:  # two further keys might be equal, and then count once
        return grammar.fail
    most = UNBOUNDED if high == UNBOUNDED else high - count
    if count == 0:
        return grammar.separated(others, comma, least, most)
    return grammar.repeat(grammar.sequence([comma, others]), least, most)
