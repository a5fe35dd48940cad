"""Random JSON Schemas, nested and with references, and a sampler that walks masks at random."""

from __future__ import annotations

import random
from typing import Any

from tilewright.text.grammar.constraint import CompiledGrammar
from tilewright.text.grammar.vocabulary import TokenVocabulary

NAMES = ("id", "name", "größe", "a b", 'q"uote', "next", "items", "x", "xy", "xyz")
PATTERNS = ("^[a-z]{2,5}$", "^[A-Z][0-9]+(-[0-9]+)?$", "foo|ba[rz]", "^\\d{3}-\\d{4}$", "^.{3,6}$",
            "^(?:ab|cd)*$", "[^x]$", "^\\w+\\s\\W$")  # fmt: skip
FORMATS = ("date", "time", "date-time", "uuid", "email", "ipv4", "uri", "hostname", "ipv6")


class Maker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.definitions = [f"d{i}" for i in range(self.random.randint(0, 3))]

    def document(self) -> dict[str, Any]:
        schema = self.schema(0)
        if isinstance(schema, bool):
            schema = {"type": "object"}
        return {**schema, "$defs": {name: self.definition() for name in self.definitions}}

    def definition(self) -> Any:
        """A schema that is no mere name of another, which validators follow without end."""
        return {"anyOf": [self.object(2), self.simple(2)]}

    def schema(self, depth: int) -> Any:
        r = self.random
        kinds = ["string", "string", "number", "integer", "enum", "const", "simple", "pattern"]
        if depth < 4:
            kinds += ["object"] * 5 + ["array"] * 3 + ["anyOf", "oneOf", "allOf", "map", "types"]
        if self.definitions and depth > 0:
            kinds += ["ref"] * 3
        if depth > 2:
            kinds += ["any"]
        return getattr(self, r.choice(kinds))(depth)

    def string(self, depth: int) -> Any:
        low = self.random.randint(0, 4)
        made: dict[str, Any] = {"type": "string"}
        if self.random.random() < 0.5:
            made["minLength"] = low
        if self.random.random() < 0.5:
            made["maxLength"] = low + self.random.randint(0, 6)
        return made

    def pattern(self, depth: int) -> Any:
        if self.random.random() < 0.5:
            return {"type": "string", "format": self.random.choice(FORMATS)}
        made: dict[str, Any] = {"type": "string", "pattern": self.random.choice(PATTERNS)}
        if self.random.random() < 0.3:
            made["maxLength"] = 8
        return made

    def integer(self, depth: int) -> Any:
        r = self.random
        made: dict[str, Any] = {"type": "integer"}
        low = r.randint(-1200, 1200)
        if r.random() < 0.6:
            made[r.choice(["minimum", "exclusiveMinimum"])] = low
        if r.random() < 0.6:
            made[r.choice(["maximum", "exclusiveMaximum"])] = low + r.choice([2, 9, 150, 10**6])
        if r.random() < 0.2:
            made = {"type": "integer", "multipleOf": r.choice([2, 3, 7, 10])}
        return made

    def number(self, depth: int) -> Any:
        r = self.random
        made: dict[str, Any] = {"type": "number"}
        low = round(r.uniform(-20, 20), r.randint(0, 3))
        if r.random() < 0.6:
            made[r.choice(["minimum", "exclusiveMinimum"])] = low
        if r.random() < 0.6:
            high = round(low + r.choice([0.1, 0.5, 1, 30.25]), 4)
            made[r.choice(["maximum", "exclusiveMaximum"])] = high
        return made

    def enum(self, depth: int) -> Any:
        values = ["a", "b\n", "ü", 1, 2.5, None, True, {"k": [1]}, []]
        return {"enum": self.random.sample(values, self.random.randint(1, 4))}

    def const(self, depth: int) -> Any:
        return {"const": self.random.choice(["x", 0, None, {"a": "b"}, 'sa"y'])}

    def simple(self, depth: int) -> Any:
        return {"type": self.random.choice(["boolean", "null", "integer", "string"])}

    def types(self, depth: int) -> Any:
        made = self.random.sample(["string", "null", "integer", "boolean", "number", "array"], 2)
        return {"type": made, "minimum": 3, "maxLength": 5, "maxItems": 2}

    def any(self, depth: int) -> Any:
        return self.random.choice([True, {}, {"type": "object"}, {"type": "array"}])

    def object(self, depth: int) -> Any:
        r = self.random
        names = r.sample(NAMES, r.randint(0, 4))
        made: dict[str, Any] = {
            "type": "object",
            "properties": {name: self.schema(depth + 1) for name in names},
        }
        if names and r.random() < 0.8:
            made["required"] = r.sample(names, r.randint(1, len(names)))
        if r.random() < 0.5:
            made["additionalProperties"] = r.choice([False, True, {"type": "integer"}])
        if r.random() < 0.2:
            made["minProperties"] = r.randint(0, len(names))
        if r.random() < 0.2:
            made["maxProperties"] = len(names) + r.randint(0, 2)
        return made

    def map(self, depth: int) -> Any:
        r = self.random
        made = {"type": "object", "additionalProperties": self.schema(depth + 1)}
        if r.random() < 0.3:
            made["propertyNames"] = {"pattern": "^[a-z]+$", "maxLength": 5}
        elif r.random() < 0.5:
            del made["additionalProperties"]
            made["patternProperties"] = {"^x-[a-z]+$": self.schema(depth + 1)}
        if r.random() < 0.5:
            made["maxProperties"] = 3
        return made

    def array(self, depth: int) -> Any:
        r = self.random
        low = r.randint(0, 2)
        made: dict[str, Any] = {"type": "array", "items": self.schema(depth + 1)}
        if r.random() < 0.3:
            made["prefixItems"] = [self.schema(depth + 1) for _ in range(r.randint(1, 2))]
        if r.random() < 0.6:
            made["minItems"] = low
        if r.random() < 0.6:
            made["maxItems"] = low + r.randint(0, 3)
        if r.random() < 0.1:
            made = {"type": "array", "items": {"enum": ["p", "q", "r"]}, "uniqueItems": True}
        return made

    def anyOf(self, depth: int) -> Any:
        return {"anyOf": [self.schema(depth + 1) for _ in range(self.random.randint(1, 3))]}

    def oneOf(self, depth: int) -> Any:
        return {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": kind}, "value": self.schema(depth + 1)},
                    "required": ["kind"],
                }
                for kind in ("a", "b")
            ]
        }

    def allOf(self, depth: int) -> Any:
        return {"allOf": [self.object(depth + 1), {"type": "object", "minProperties": 1}]}

    def ref(self, depth: int) -> Any:
        return {"$ref": f"#/$defs/{self.random.choice(self.definitions)}"}


def allowed_ids(mask: bytes) -> list[int]:
    return [
        8 * i + bit for i, byte in enumerate(mask) if byte for bit in range(8) if byte >> bit & 1
    ]


def sample(
    compiled: CompiledGrammar, vocabulary: TokenVocabulary, seed: int, max_tokens: int
) -> tuple[bytes, bool]:
    """Walk the masks at random as the engine would; return the text and whether it ended."""
    r = random.Random(seed)
    constraint = compiled.constraint(max_tokens=max_tokens, force=seed % 2 == 0)
    made: list[int] = []
    while len(made) < max_tokens:
        made += constraint.forced()
        if made and made[-1] in vocabulary.end_ids:
            break
        mask = constraint.mask()
        assert mask is not None
        allowed = allowed_ids(mask)
        assert allowed, "the masks led into a dead end"
        made.append(r.choice(allowed))
        constraint.accept(made[-1])
        if made[-1] in vocabulary.end_ids:
            break
    ended = bool(made) and made[-1] in vocabulary.end_ids
    assert len(made) <= max_tokens
    return b"".join(vocabulary.spelling(i) for i in made if i not in vocabulary.end_ids), ended
