"""Damaged and unknown vocabularies raise typed errors with a sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.text.text_variants import BYTE_LEVEL, PREFIX, tokenizer_json

from tilewright.errors import TilewrightError, TokenizerError, UnsupportedModelError
from tilewright.text.regex import RegexSet
from tilewright.text.tokenizer import Tokenizer

Load = Callable[[str], Any]


def test_no_tokenizer() -> None:
    with pytest.raises(TokenizerError, match="no tokenizer"):
        Tokenizer.from_gguf({"general.architecture": "llama"})


@pytest.mark.parametrize("model", ["rwkv", "plamo2", "hybriddna", "", 7])
def test_unknown_models(model: object) -> None:
    with pytest.raises(UnsupportedModelError, match="not known"):
        Tokenizer.from_gguf({PREFIX + "model": model, PREFIX + "tokens": ["a"]})


def test_no_merges(metadata: Load) -> None:
    base = {k: v for k, v in metadata("gpt-2").items() if k != PREFIX + "merges"}
    with pytest.raises(TokenizerError, match="no merges"):
        Tokenizer.from_gguf(base)
    # Kimi K2 has none by design, so each byte is a token.
    made = Tokenizer.from_gguf({**base, PREFIX + "pre": "kimi-k2"})
    assert made.decode(made.encode("hi there")) == "hi there"


def test_unknown_pre_tokenizer(metadata: Load) -> None:
    with pytest.raises(UnsupportedModelError, match="'martian'"):
        Tokenizer.from_gguf({**metadata("gpt-2"), PREFIX + "pre": "martian"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", []),
        ("tokens", "abc"),
        ("tokens", [1, 2]),
        ("tokens", None),
        ("token_type", [1]),
        ("token_type", ["x"] * 60_000),
        ("scores", [0.0]),
        ("scores", [float("nan")] * 60_000),
        ("merges", "a b"),
        ("merges", [1]),
    ],
)
def test_damaged_lists(key: str, value: object, metadata: Load) -> None:
    with pytest.raises(TokenizerError):
        Tokenizer.from_gguf({**metadata("gpt-2"), PREFIX + key: value})


@pytest.mark.parametrize("token_id", [-1, 50_257, 10**12])
def test_ids_out_of_range(token_id: int, tokenizer: Load) -> None:
    made = tokenizer("gpt-2")
    with pytest.raises(TokenizerError, match="outside"):
        made.decode([1, token_id])
    with pytest.raises(TokenizerError, match="outside"):
        made.stream_decoder().push(token_id)


def test_special_ids_out_of_range_are_ignored(metadata: Load) -> None:
    made = Tokenizer.from_gguf({**metadata("llama-spm"), PREFIX + "bos_token_id": 10**9})
    assert made.bos_id == 1


def test_character_maps(metadata: Load) -> None:
    base = {**metadata("llama-spm"), PREFIX + "model": "t5", PREFIX + "unknown_token_id": 0}
    choose = random.Random(4)
    for _ in range(25):
        blob = [choose.randrange(256) for _ in range(choose.choice([1, 5, 40, 400]))]
        blob[:4] = [choose.choice([4, 8, 32, 200]), 0, 0, 0]
        try:
            Tokenizer.from_gguf({**base, PREFIX + "precompiled_charsmap": blob}).encode("aé ß" * 9)
        except TokenizerError:
            continue


def test_damaged_tokenizer_json(metadata: Load) -> None:
    spec = tokenizer_json(metadata("gpt-2"), {"pre_tokenizer": BYTE_LEVEL})
    spec["model"]["merges"] = spec["model"]["merges"][:3]
    vocabulary = spec["model"]["vocab"]
    spec["model"]["vocab"] = dict(list(vocabulary.items())[:20])
    choose = random.Random(2)
    text = json.dumps(spec)
    refused = 0
    for _ in range(300):
        at = choose.randrange(len(text))
        try:
            changed = json.loads(text[:at] + choose.choice('{}[]",:0-') + text[at + 1 :])
        except ValueError:
            continue
        try:
            Tokenizer.from_tokenizer_json(changed).encode("Hello wörld 123")
        except TilewrightError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "spec", [{}, {"model": None}, {"model": {}}, {"model": {"type": "Magic", "vocab": {"a": 0}}}]
)
def test_not_a_tokenizer_json(spec: dict[str, Any]) -> None:
    with pytest.raises(TilewrightError):
        Tokenizer.from_tokenizer_json(spec)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "[",
        "[a",
        r"\p{Klingon}",
        r"\p{",
        "*",
        "(?<",
        "[b-a]",
        r"\q",
        "x" * 20_000,
        "(" * 5000 + ")" * 5000,
        r"\u12",
        "(?z)a",
        "[[:foo:]]",
        "(a+)+b",
        "(?:(a|b*)c?){2,}",
    ],
)
def test_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"\.$"):
        RegexSet([pattern])
