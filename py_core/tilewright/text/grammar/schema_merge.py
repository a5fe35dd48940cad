"""Two schemas that must both hold, as one schema; and whether two can never both hold.

Works on keywords only; makes no grammar for values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .analysis import checked
from .automaton import Automaton
from .code_points import utf8
from .expression import Grammar
from .regex import Pattern, build
from .schema_document import TYPES, Document, Schema, checked_keywords, refused

_MAX_MERGES = 20_000
_MAX_PRODUCT = 256
_LARGER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def types_of(schema: Schema) -> list[str]:
    """Return the types that a schema's ``type`` allows, in its order."""
    given = schema.get("type", list(TYPES))
    names = [given] if isinstance(given, str) else list(given)
    return [n for n in dict.fromkeys(names) if not (n == "integer" and "number" in names)]


def as_key(value: Any) -> str:
    """Return a text that is equal for equal JSON values (1 and 1.0 are equal, true is not 1)."""

    def plain(item: Any) -> Any:
        if isinstance(item, float) and item.is_integer():
            return int(item)
        if isinstance(item, Mapping):
            return {str(key): plain(inner) for key, inner in item.items()}
        return [plain(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(plain(value), sort_keys=True)


class Merger:
    """Merges schemas of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._merges = 0

    def resolved(self, schema: Any, path: str, depth: int = 0) -> Schema:
        """Return the schema with ``$ref``, ``const`` and ``allOf`` worked in."""
        self._merges += 1
        if depth > 32 or self._merges > _MAX_MERGES:
            raise refused(path, "its references and allOf lead in a circle, or are too many")
        found = dict(checked_keywords(schema, path))
        parts: list[Any] = found.pop("allOf", [])
        if "$ref" in found:
            parts = [self._document.resolve(found.pop("$ref"), path), *parts]
        if "const" in found:
            parts = [*parts, {"enum": [found.pop("const")]}]
        for part in parts:
            found = dict(self._both(found, self.resolved(part, path, depth + 1), path, depth))
        return found

    def both(self, first: Any, second: Any, path: str, depth: int = 0) -> Any:
        """Return a schema for what satisfies both."""
        if first is True or first == {} or first == second:
            return second
        if second is True or second == {}:
            return first
        if first is False or second is False:
            return False
        a, b = self.resolved(first, path, depth + 1), self.resolved(second, path, depth + 1)
        return self._both(a, b, path, depth)

    def _both(self, a: Schema, b: Schema, path: str, depth: int) -> Schema:
        result: dict[str, Any] = {**a, **b}
        for key in a.keys() & b.keys():
            result[key] = self._keyword(key, a[key], b[key], path, depth)
        if "type" in result and not result["type"]:
            return {"enum": []}
        parts = ("properties", "patternProperties", "additionalProperties")
        if any(key in a for key in parts) and any(key in b for key in parts):
            self._properties(result, a, b, path, depth)
        return result

    def _keyword(self, key: str, x: Any, y: Any, path: str, depth: int) -> Any:
        if x == y and type(x) is type(y):
            return x
        if key in _LARGER:
            return max(x, y)
        if key in _SMALLER:
            return min(x, y)
        match key:
            case "type":
                return _common_types(types_of({"type": x}), types_of({"type": y}))
            case "required":
                return list(dict.fromkeys([*x, *y]))
            case "enum":
                known = {as_key(value) for value in y}
                return [value for value in x if as_key(value) in known]
            case "uniqueItems":
                return x or y
            case "multipleOf" if x == int(x) and y == int(y):
                return math.lcm(int(x), int(y))
            case "anyOf" | "oneOf":
                if len(x) * len(y) > _MAX_PRODUCT:
                    raise refused(path, f"the combinations of {key} are too many")
                return [self.both(p, q, path, depth + 1) for p in x for q in y]
            case "properties" | "patternProperties" | "additionalProperties":
                return x  # all three are worked out together
            case "items" | "propertyNames" | "additionalItems":
                return self.both(x, y, path, depth + 1)
        raise refused(path, f"two different values of {key!r} cannot be combined")

    def _properties(
        self, result: dict[str, Any], a: Schema, b: Schema, path: str, depth: int
    ) -> None:
        names = dict.fromkeys([*a.get("properties", {}), *b.get("properties", {})])
        if names:
            result["properties"] = {
                name: self.both(
                    self.property(a, name, path), self.property(b, name, path), path, depth + 1
                )
                for name in names
            }
        if "patternProperties" in a or "patternProperties" in b:
            p, q = a.get("patternProperties", {}), b.get("patternProperties", {})
            result["patternProperties"] = {
                key: self.both(p.get(key, True), q.get(key, True), path, depth + 1)
                for key in dict.fromkeys([*p, *q])
            }
        if "additionalProperties" in a or "additionalProperties" in b:
            result["additionalProperties"] = self.both(
                a.get("additionalProperties", True),
                b.get("additionalProperties", True),
                path,
                depth + 1,
            )

    def property(self, schema: Schema, name: str, path: str) -> Any:
        """Return the schema of one property's value."""
        found: Any = None
        if name in schema.get("properties", {}):
            found = schema["properties"][name]
        for pattern, inner in schema.get("patternProperties", {}).items():
            if matches(pattern, name):
                found = inner if found is None else self.both(found, inner, path)
        return schema.get("additionalProperties", True) if found is None else found

    def disjoint(self, first: Any, second: Any, path: str, depth: int = 0) -> bool:
        """Return whether it is certain that no value satisfies both."""
        if depth > 8:
            return False
        a, b = self.resolved(first, path, depth), self.resolved(second, path, depth)
        for x, y in ((a, b), (b, a)):
            for key in ("anyOf", "oneOf"):
                if key in x:
                    return all(self.disjoint(part, y, path, depth + 1) for part in x[key])
        if "enum" in a and "enum" in b:
            return not {as_key(v) for v in a["enum"]} & {as_key(v) for v in b["enum"]}
        if not _common_types(_real_types(a), _real_types(b)):
            return True
        if _real_types(a) == _real_types(b) == ["object"]:
            required = set(a.get("required", ())) & set(b.get("required", ()))
            return any(
                self.disjoint(
                    self.property(a, name, path), self.property(b, name, path), path, depth + 1
                )
                for name in required
            ) or any(
                self.property(x, name, path) is False
                for x, y in ((a, b), (b, a))
                for name in y.get("required", ())
            )
        return False


@lru_cache(256)
def _recogniser(pattern: str) -> Automaton:
    grammar = Grammar()
    regex = Pattern().search(pattern)
    grammar.root = build(grammar, regex, lambda ranges: utf8(grammar, ranges))
    return Automaton(grammar, checked(grammar, "pattern"))


def matches(pattern: str, name: str) -> bool:
    """Return whether a ``patternProperties`` key matches a name; takes linear time."""
    recogniser = _recogniser(pattern)
    state = recogniser.run(name.encode("utf-8", "surrogatepass"))
    return state is not None and state.accepting


def _real_types(schema: Schema) -> list[str]:
    if "enum" not in schema or "type" in schema:
        return types_of(schema)
    return list(dict.fromkeys(type_name(value) for value in schema["enum"]))


def type_name(value: Any) -> str:
    """Return the JSON type of a value (``integer`` for whole numbers)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if float(value).is_integer() else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _common_types(a: list[str], b: list[str]) -> list[str]:
    common = [name for name in a if name in b]
    if (
        "integer" not in common
        and {"integer", "number"} <= {*a, *b}
        and (("integer" in a and "number" in b) or ("number" in a and "integer" in b))
    ):
        common.append("integer")
    return common
