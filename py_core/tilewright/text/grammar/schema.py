"""JSON Schema to a grammar whose every text is valid JSON that satisfies the schema.

The grammar may be narrower than the schema, never wider: one spelling of white space (``", "`` and
``": "``), properties in the schema's order, no further properties unless they are asked for, number
and string lengths bounded. What cannot be guaranteed is refused with a reason.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from ...errors import InvalidRequestError
from . import json_text, numbers
from .analysis import NEVER, Lengths
from .automaton import Automaton
from .code_points import ANY
from .expression import UNBOUNDED, Grammar, Node
from .formats import FORMATS
from .regex import Pattern, build
from .regex_limits import Limiter
from .schema_arrays import array
from .schema_document import OF_TYPE, Document, Schema, refused
from .schema_merge import Merger, type_name, types_of
from .schema_objects import Member, members, object_of

MAX_SCHEMAS = 5000
_INTEGER_FORMATS = {"int32": 31, "int64": 53}
"""Bits of magnitude; a JSON number is read as a double, which holds 53."""


def compile_schema(schema: Any, grammar: Grammar | None = None) -> Grammar:
    """Return a grammar whose root is the schema.

    Raises InvalidRequestError for keywords that are not supported, schemas that are too large or
    nested too deeply, and contradictions that are seen at once (the others: when the grammar is
    checked).
    """
    made = grammar or Grammar()
    made.root = SchemaCompiler(made, schema).compile(schema, "")
    return made


def any_json_object(grammar: Grammar) -> Node:
    """Return any JSON object, on one line or indented (``response_format`` json_object)."""
    return json_text.any_object(grammar, numbers.any_number(grammar), loose=True)


class SchemaCompiler:
    """Compiles the schemas of one document; each becomes a rule."""

    def __init__(self, grammar: Grammar, root: Any) -> None:
        self.grammar = grammar
        self.document = Document(root)
        self.merger = Merger(self.document)
        self._rules: dict[str, str] = {}
        self._pending: list[tuple[str, Any, str]] = []
        self._making = False
        self._prefix = f"schema {len(grammar.rules)}."

    def compile(self, schema: Any, path: str) -> Node:
        """Return the expression for a schema; equal schemas share one rule."""
        if schema is True or schema == {}:
            return json_text.any_value(self.grammar, numbers.any_number(self.grammar))
        key = json.dumps(schema)
        name = self._rules.get(key)
        if name is None:
            if len(self._rules) >= MAX_SCHEMAS:
                raise refused(path, f"it has more than {MAX_SCHEMAS} different parts")
            name = self._rules[key] = f"{self._prefix}{len(self._rules)} {path[-60:]}"
            self._pending.append((name, schema, path))
            if not self._making:
                self._make_rules()
        return self.grammar.rule(name)

    def _make_rules(self) -> None:
        """Make the rules that are called; one after another, so that depth costs no stack."""
        self._making = True
        try:
            while self._pending:
                name, schema, path = self._pending.pop()
                self.grammar.rules[name] = self._body(schema, path)
        finally:
            self._making = False

    def _body(self, schema: Any, path: str) -> Node:
        found = self.merger.resolved(schema, path)
        for key in ("anyOf", "oneOf"):
            if key in found:
                return self._alternatives(found, key, path)
        if "enum" in found:
            return self._enum(found, path)
        return self.grammar.choice([self._of_type(name, found, path) for name in types_of(found)])

    def _alternatives(self, schema: Schema, key: str, path: str) -> Node:
        rest = {name: value for name, value in schema.items() if name != key}
        parts = schema[key]
        if key == "oneOf":
            for i, part in enumerate(parts):
                for j in range(i):
                    if not self.merger.disjoint(part, parts[j], path):
                        raise refused(
                            path,
                            f"alternatives {j} and {i} of oneOf may both match: use anyOf, or give "
                            "them a required property with different constants",
                        )
        return self.grammar.choice(
            [
                self.compile(self.merger.both(rest, part, path), f"{path}/{key}/{i}")
                for i, part in enumerate(parts)
            ]
        )

    def _enum(self, schema: Schema, path: str) -> Node:
        """Return the listed values that satisfy the other keywords."""
        rest = {name: value for name, value in schema.items() if name != "enum"}
        values = schema["enum"]
        if rest:
            names = types_of(rest)
            values = [v for v in values if type_name(v) in names or _is_number(v, names)]
        if set(rest) - {"type"} and values:
            checks = Grammar()
            compiler = SchemaCompiler(checks, self.document.root)
            checks.root = compiler.compile(rest, path)
            if Lengths(checks).of(checks.root) >= NEVER:
                return self.grammar.fail
            recogniser = Automaton(checks, Lengths(checks))
            ends = [(value, recogniser.run(json_text.spelled(value))) for value in values]
            values = [value for value, end in ends if end is not None and end.accepting]
        return self.grammar.any_literal([json_text.spelled(value) for value in values])

    def _of_type(self, name: str, schema: Schema, path: str) -> Node:
        grammar = self.grammar
        match name:
            case "null":
                return grammar.literal("null")
            case "boolean":
                return grammar.any_of(["true", "false"])
            case "string":
                return self._string(schema, path)
            case "integer" | "number":
                return self._number(name, schema, path)
            case "array":
                return array(self, schema, path)
            case _:
                return self._object(schema, path)

    def _object(self, schema: Schema, path: str) -> Node:
        grammar = self.grammar
        if not any(key in schema for key in OF_TYPE["object"]):
            return json_text.any_object(grammar, numbers.any_number(grammar))
        declared, others = members(self, schema, path)
        low, high = schema.get("minProperties", 0), schema.get("maxProperties", UNBOUNDED)
        return object_of(grammar, declared, others, low, high, path)

    def member(self, name: str, schema: Any, path: str, *, required: bool) -> Member:
        """Return one declared property."""
        key = json_text.value(self.grammar, name)
        inner = self.compile(schema, f"{path}/properties/{name}")
        return Member(name, json_text.pair(self.grammar, key, inner), required)

    def key(self, schema: Any, path: str) -> Node:
        """Return the keys that satisfy ``propertyNames``."""
        found = self.merger.both({"type": "string"}, schema, path)
        return self.compile(found, f"{path}/propertyNames")

    def pattern_key(self, pattern: str) -> Node:
        """Return the keys that match a pattern."""
        regex = Pattern().search(pattern)
        return json_text.quoted(self.grammar, build(self.grammar, regex, self._character))

    def _character(self, ranges: list[tuple[int, int]]) -> Node:
        if ranges == ANY:
            return json_text.any_character(self.grammar)
        return json_text.character(self.grammar, ranges)

    def _string(self, schema: Schema, path: str) -> Node:
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        texts = [schema["pattern"]] if "pattern" in schema else []
        if "format" in schema and schema["format"] not in _INTEGER_FORMATS:
            if schema["format"] not in FORMATS:
                raise refused(
                    path,
                    f"the format {schema['format']!r} is not supported (supported are "
                    f"{', '.join(sorted(FORMATS))})",
                )
            texts.append(f"^{FORMATS[schema['format']]}$")
        if not texts:
            return json_text.string(self.grammar, low, high)
        if len(texts) > 1:
            raise refused(path, "pattern and format cannot be combined")
        regex = Pattern().search(texts[0])
        if low or high is not None:
            regex = Limiter().limit(regex, low, UNBOUNDED if high is None else high)
        return json_text.quoted(self.grammar, build(self.grammar, regex, self._character))

    def _number(self, name: str, schema: Schema, path: str) -> Node:
        bounds = _bounds(schema)
        divisor = schema.get("multipleOf")
        magnitude = _INTEGER_FORMATS.get(schema.get("format", ""))
        if magnitude and name == "integer":
            most = Decimal(2**magnitude - 1)
            bounds = numbers.Bounds(
                -most if bounds.low is None else bounds.low,
                most if bounds.high is None else bounds.high,
                bounds.above_low,
                bounds.below_high,
            )
        try:
            if divisor is not None and (divisor <= 0 or divisor != int(divisor)):
                raise refused(path, "multipleOf must be a positive integer")
            if name == "integer" or divisor is not None:
                return numbers.integers(self.grammar, bounds, divisor and int(divisor))
            return numbers.decimals(self.grammar, bounds)
        except InvalidRequestError as error:
            raise refused(path, error.message.removesuffix(".")) from None


def _is_number(value: Any, names: list[str]) -> bool:
    return "number" in names and isinstance(value, int | float) and not isinstance(value, bool)


def _bounds(schema: Schema) -> numbers.Bounds:
    """Return the tighter of the inclusive and exclusive limits on each side."""

    def exact(key: str) -> Decimal | None:
        return Decimal(str(schema[key])) if key in schema else None

    low, above = exact("minimum"), exact("exclusiveMinimum")
    high, below = exact("maximum"), exact("exclusiveMaximum")
    is_above = above is not None and (low is None or above >= low)
    is_below = below is not None and (high is None or below <= high)
    return numbers.Bounds(
        above if is_above else low, below if is_below else high, is_above, is_below
    )
