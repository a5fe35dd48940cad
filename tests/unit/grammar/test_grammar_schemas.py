"""JSON Schemas: everything that the masks allow validates, and what cannot be met is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest
from tests.unit.grammar.random_schemas import Maker, sample

from tilewright.errors import InvalidRequestError
from tilewright.text.grammar.constraint import CompiledGrammar
from tilewright.text.grammar.schema import compile_schema
from tilewright.text.grammar.vocabulary import TokenVocabulary

SCHEMAS = 500


def compiled(schema: Any, vocabulary: TokenVocabulary) -> CompiledGrammar:
    def encode(text: str) -> list[int]:
        return vocabulary.longest_tokens(text.encode())

    return CompiledGrammar(compile_schema(schema), vocabulary, encode, "schema")


def accepts(schema: Any, text: str, vocabulary: TokenVocabulary) -> bool:
    end = compiled(schema, vocabulary).automaton.run(text.encode())
    return end is not None and end.accepting


def test_random_schemas_are_always_met(small_vocabulary: TokenVocabulary) -> None:
    refused: dict[int, str] = {}
    for seed in range(SCHEMAS):
        schema = Maker(seed).document()
        jsonschema.Draft202012Validator.check_schema(schema)
        try:
            grammar = compiled(schema, small_vocabulary)
        except InvalidRequestError as error:
            refused[seed] = error.message
            continue
        validator = jsonschema.Draft202012Validator(schema)
        for number in range(1 + seed % 2):
            text, ended = sample(grammar, small_vocabulary, 7 * seed + number, 400)
            assert ended, (seed, text)
            validator.validate(json.loads(text))
    assert len(refused) < SCHEMAS // 50
    assert all(reason.startswith("Nothing can satisfy") for reason in refused.values()), refused


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "minimum": 7, "maximum": 132}, ["7", "99", "100", "132"],
         ["6", "133", "07", "1.0", "1000"]),
        ({"type": "integer", "exclusiveMaximum": -5}, ["-6", "-1000"], ["-5", "5", "-0"]),
        ({"type": "number", "minimum": 0.5, "exclusiveMaximum": 2}, ["0.5", "0.75", "1", "1.99"],
         ["0.49", "2", "2.0", "0", "-1"]),
        ({"type": "number", "exclusiveMinimum": -1.25, "maximum": -1.2},
         ["-1.2", "-1.24", "-1.249"],
         ["-1.25", "-1.250", "-1.19", "-1.3", "1.2"]),
        ({"type": "integer", "multipleOf": 7}, ["0", "7", "-14", "700"], ["1", "8", "-15"]),
        ({"type": "string", "minLength": 2, "maxLength": 3},
         ['"ab"', '"a\\n"', '"日本語"', '"\\u00e9x"'],
         ['"a"', '"abcd"', '"a\n"']),
        ({"type": "string", "pattern": "^a+$", "maxLength": 3}, ['"a"', '"aaa"'], ['""', '"aaaa"']),
        ({"type": "string", "format": "date"}, ['"2024-02-28"', '"1999-12-31"'],
         ['"2023-02-30"', '"2023-13-01"', '"2023-04-31"']),
        ({"type": "object", "properties": {"a": {"const": 1}, "b": {"type": "null"}},
          "required": ["b"]}, ['{"a": 1, "b": null}', '{"b": null}'], ['{"a": 1}', "{}"]),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": {
          "type": "integer"}}, ['{"a": null, "b": 1}', '{"ab": 1}', "{}"],
          ['{"a": 1}', '{"b": null}']),
        ({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 1},
         ["[1]", "[2, 1]"], ["[]", "[1, 1]"]),
        ({"enum": [1, "a", 2.5], "type": ["integer", "string"]}, ["1", '"a"'], ["2.5"]),
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
          {"properties": {"a": {"minimum": 3, "maximum": 4}}}]}, ['{"a": 3}'], ['{"a": 5}', "{}"]),
    ],
)  # fmt: skip
def test_constructs(
    schema: Any, good: list[str], bad: list[str], small_vocabulary: TokenVocabulary
) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    for text in good:
        validator.validate(json.loads(text))
        assert accepts(schema, text, small_vocabulary), text
    for text in bad:
        assert not accepts(schema, text, small_vocabulary), text


def nested(levels: int) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE: dict[str, tuple[Any, str]] = {
    "huge": ({"enum": ["x" * 1000] * 300}, "longer"),
    "deep": (nested(200), "deep"),
    "very deep": (nested(5000), "deep"),
    "itself": ({"$ref": "#"}, "circle|Nothing"),
    "never ends": (
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "Nothing can satisfy",
    ),
    "contradiction": ({"type": "integer", "minimum": 3, "maximum": 2}, "Nothing can satisfy"),
    "no type": ({"allOf": [{"type": "string"}, {"type": "null"}]}, "Nothing can satisfy"),
    "false": (False, "Nothing can satisfy"),
    "overlap": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    "not": ({"not": {"type": "string"}}, "'not'"),
    "unknown": ({"type": "string", "maxLenght": 3}, "maxLenght"),
    "format": ({"type": "string", "format": "color"}, "color"),
    "look-ahead": ({"type": "string", "pattern": "^(?=a)"}, "look-around"),
    "back reference": ({"type": "string", "pattern": "(a)\\1"}, "not supported"),
    "remote": ({"$ref": "https://example.org/schema"}, "does not lie in this schema"),
    "dangling": ({"$ref": "#/$defs/none"}, "leads nowhere"),
    "long minimum": ({"type": "string", "minLength": 10**9}, "longer than"),
    "many items": ({"type": "array", "items": {"type": "null"}, "minItems": 10**8}, "longer than"),
    "exponential": (
        {"allOf": [{"anyOf": [{"minimum": i}, {"maximum": i}]} for i in range(30)]},
        "too many",
    ),
    "cyclic allOf": (
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}},
         "$ref": "#/$defs/a"},
        "circle",
    ),
    "wrong type": ({"type": "text"}, "wrong type"),
    "list": ([], "must be an object"),
    "not JSON": ({"const": float("nan")}, "plain JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_with_a_reason(
    name: str, small_vocabulary: TokenVocabulary
) -> None:
    schema, reason = HOSTILE[name]
    start = time.process_time()
    with pytest.raises(InvalidRequestError, match=reason):
        compiled(schema, small_vocabulary)
    assert time.process_time() - start < 5


def test_ambiguous_patterns_take_linear_time(small_vocabulary: TokenVocabulary) -> None:
    schema = {"type": "string", "pattern": "^(a|a|aa)*(a*)*b$"}
    grammar = compiled(schema, small_vocabulary)
    start = time.process_time()
    assert grammar.automaton.run(b'"' + b"a" * 20_000) is not None
    assert time.process_time() - start < 5


def test_long_enums_are_met(small_vocabulary: TokenVocabulary) -> None:
    values = [f"value {i}" for i in range(9000)]
    grammar = compiled({"enum": values}, small_vocabulary)
    for seed in range(20):
        text, ended = sample(grammar, small_vocabulary, seed, 60)
        assert ended
        assert json.loads(text) in values


def test_chains_of_references_cost_no_stack(small_vocabulary: TokenVocabulary) -> None:
    definitions = {
        f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{(i + 1) % 700}"}}
        for i in range(700)
    }
    schema = {"$defs": definitions, "$ref": "#/$defs/d0"}
    grammar = compiled(schema, small_vocabulary)
    assert grammar.automaton.run(b"[" * 2000) is not None


def test_wide_objects_are_quick(small_vocabulary: TokenVocabulary) -> None:
    names = {f"p{i}": {"type": "integer"} for i in range(1500)}
    start = time.process_time()
    grammar = compiled({"type": "object", "properties": names}, small_vocabulary)
    text, ended = sample(grammar, small_vocabulary, 3, 100)
    assert ended
    assert set(json.loads(text)) <= names.keys()
    assert time.process_time() - start < 8
