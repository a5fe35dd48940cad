"""A JSON Schema as given: what keywords mean here, limits on its size, and its references.

Knows which keywords exist; does not make grammars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ...errors import InvalidRequestError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 150
"""Levels of JSON."""
ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "$comment", "$schema", "$id"),
        *("deprecated", "readOnly", "writeOnly", "$defs", "definitions", "contentMediaType"),
        *("contentEncoding", "strict"),
    }
)
"""Read, and without influence on what is generated."""
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
OF_TYPE = {
    "object": (
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties"),
    ),
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
GENERAL = ("$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf")
SUPPORTED = frozenset({*GENERAL, *(word for words in OF_TYPE.values() for word in words)})
Schema = Mapping[str, Any]


def refused(path: str, reason: str) -> InvalidRequestError:
    """Return the error for a schema that is not supported."""
    where = f" (at {path[-120:]})" if path else ""
    return InvalidRequestError(f"The schema is refused{where}: {reason}.", field="schema")


class Document:
    """A whole schema. Raises InvalidRequestError where it is too large or no schema."""

    def __init__(self, schema: Any) -> None:
        try:
            size = len(json.dumps(schema, allow_nan=False))
        except (ValueError, TypeError, RecursionError):
            raise refused("", "it is not plain JSON, or nested far too deeply") from None
        if size > MAX_BYTES:
            raise refused("", f"it is longer than {MAX_BYTES} bytes")
        self.root = schema
        _check_depth(schema)

    def resolve(self, reference: Any, path: str) -> Any:
        """Return the schema that a local ``$ref`` names."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise refused(path, f"$ref {reference!r} does not lie in this schema (#/$defs/...)")
        found = self.root
        for part in unquote(reference[1:]).split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise refused(path, f"$ref {reference!r} leads nowhere")
        if reference != "#" and not reference.startswith("#/"):
            raise refused(path, f"$ref {reference!r}: anchors are not supported, use #/$defs/...")
        return found


def _check_depth(schema: Any) -> None:
    pending: list[tuple[Any, int]] = [(schema, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise refused("", f"it is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, Mapping):
            pending += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            pending += [(item, depth + 1) for item in value]


def checked_keywords(schema: Any, path: str) -> Schema:
    """Return a schema object without annotations; true and false become objects.

    Raises InvalidRequestError for keywords that are unknown or not supported, and wrong types.
    """
    if schema is True:
        return {}
    if schema is False:
        return {"enum": []}
    if not isinstance(schema, Mapping):
        raise refused(path, "a schema must be an object, true or false")
    kept = {
        key: value
        for key, value in schema.items()
        if key not in ANNOTATIONS and not str(key).startswith("x-")
    }
    for key, value in kept.items():
        if key not in SUPPORTED:
            raise refused(path, f"the keyword {key!r} is not supported")
        if not _fits(key, value):
            raise refused(path, f"{key!r} has a value of the wrong type")
    return kept


def _fits(key: str, value: Any) -> bool:
    match key:
        case "type":
            names = value if isinstance(value, list) else [value]
            return bool(names) and all(isinstance(n, str) and n in TYPES for n in names)
        case "properties" | "patternProperties":
            return isinstance(value, Mapping)
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "enum":
            return isinstance(value, list)
        case "anyOf" | "oneOf" | "allOf" | "prefixItems":
            return isinstance(value, list) and bool(value)
        case "pattern" | "format":
            return isinstance(value, str)
        case "uniqueItems":
            return isinstance(value, bool)
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf":
            good = isinstance(value, int | float) and not isinstance(value, bool)
            return good and abs(value) < 1e30
        case _ if key.startswith(("min", "max")):
            return type(value) is int and 0 <= value < 1 << 40
        case _:
            return True
