"""Ids equal llama.cpp's: the reference vocabularies, every pre-tokenizer, flags, tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.text.conftest import VOCABULARIES
from tests.unit.text.text_variants import (
    FLAGS,
    JSON_VARIANTS,
    PREFIX,
    tokenizer_json,
    with_flags,
    with_pre_tokenizer,
)

from tilewright.text.split_patterns import PRE_TOKENIZERS
from tilewright.text.tokenizer import Tokenizer

Load = Callable[[str], Any]
LOSSLESS = ("gpt-2", "llama-bpe", "qwen2", "starcoder")
MIN_STRINGS = 658
REFERENCES = Path(__file__).with_name("references.json")


@pytest.fixture(scope="module")
def references() -> dict[str, Any]:
    return dict(json.loads(REFERENCES.read_text()))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_strings_have_llama_cpps_ids(
    name: str, oracle: Path, tokenizer: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    path = oracle / "tokenizers" / f"ggml-vocab-{name}.strings.jsonl"
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    encode = tokenizer(name).encode
    wrong = [
        (case["text"], case["parse_special"])
        for case in cases
        if encode(case["text"], parse_special=case["parse_special"]) != case["ids"]
        or encode(case["text"].encode(), parse_special=case["parse_special"]) != case["ids"]
    ]
    assert wrong == []
    assert len(cases) >= MIN_STRINGS
    with capsys.disabled():
        print(f"\n{name}: {len(cases)} strings compared", end="")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_llama_cpps_own_vectors(name: str, oracle: Path, tokenizer: Load) -> None:
    stem = oracle / "tokenizers" / f"ggml-vocab-{name}.gguf"
    texts = stem.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = stem.with_suffix(".gguf.out").read_text().split("\n")
    answers = [[int(token) for token in line.split()] for line in lines]
    got = [tokenizer(name).encode(text) for text in texts]
    assert got == answers[: len(got)]
    assert len(got) >= 40


@pytest.mark.parametrize("name", LOSSLESS)
def test_decoding_gives_the_text_back(name: str, oracle: Path, tokenizer: Load) -> None:
    path = oracle / "tokenizers" / f"ggml-vocab-{name}.strings.jsonl"
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for case in cases:
        assert tokenizer(name).decode(case["ids"]) == case["text"]


@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
def test_decoding_gives_sentencepiece_text_back(name: str, oracle: Path, tokenizer: Load) -> None:
    """Lossless but for U+2581, which is the model's own sign for a space."""
    path = oracle / "tokenizers" / f"ggml-vocab-{name}.strings.jsonl"
    compared = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        if "▁" not in case["text"] and not case["parse_special"]:
            assert tokenizer(name).decode(case["ids"]) == case["text"]
            compared += 1
    assert compared > 300


def test_every_pre_tokenizer_has_llama_cpps_ids(
    metadata: Load, references: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    base = metadata("gpt-2")
    made = {n: Tokenizer.from_gguf(with_pre_tokenizer(base, n)) for n in PRE_TOKENIZERS}
    compared = 0
    for text, group in zip(references["texts"], references["pre_tokenizers"], strict=True):
        for ids, names in group.items():
            expected = [int(token) for token in ids.split()]
            for name in names:
                assert made[name].encode(text, parse_special=True) == expected, (name, text)
                compared += 1
    assert compared == len(PRE_TOKENIZERS) * len(references["texts"])
    with capsys.disabled():
        print(f"\n{len(PRE_TOKENIZERS)} pre-tokenizers, {compared} answers compared", end="")


@pytest.mark.parametrize("name", FLAGS)
def test_flags_and_models_have_llama_cpps_ids(
    name: str, metadata: Load, references: dict[str, Any]
) -> None:
    vocabulary, model, flags = FLAGS[name]
    tokenizer = Tokenizer.from_gguf(with_flags(metadata(vocabulary), model, flags))
    for text, ids in zip(references["texts"], references["flags"][name], strict=True):
        assert tokenizer.encode(text, add_special=True, parse_special=True) == ids, text


@pytest.mark.parametrize("name", JSON_VARIANTS)
def test_tokenizer_json_has_hugging_faces_ids(
    name: str, metadata: Load, references: dict[str, Any]
) -> None:
    vocabulary, parts = JSON_VARIANTS[name]
    tokenizer = Tokenizer.from_tokenizer_json(tokenizer_json(metadata(vocabulary), parts))
    for text, ids in zip(references["texts"], references["tokenizer_json"][name], strict=True):
        assert tokenizer.encode(text, parse_special=True) == ids, text


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("llama-bpe", ["<|end_of_text|>", "<|eot_id|>"]),
        ("qwen2", ["</s>", "<|endoftext|>", "<|im_end|>"]),
        ("phi-3", ["</s>", "<|end|>", "<|endoftext|>"]),
    ],
)
def test_ends_of_generation(name: str, ends: list[str], tokenizer: Load) -> None:
    made = tokenizer(name)
    assert made.end_ids == {made.token_id(end) for end in ends}


def test_beginning_and_end_tokens(tokenizer: Load) -> None:
    llama, bert = tokenizer("llama-bpe"), tokenizer("bert-bge")
    assert llama.encode("a", add_special=True)[0] == llama.bos_id == 128_000
    ids = bert.encode("hello", add_special=True)
    assert (ids[0], ids[-1]) == (bert.bos_id, bert.sep_id) == (101, 102)
    assert bert.encode("") == []


def test_without_a_pre_tokenizer_the_default_is_used(metadata: Load) -> None:
    base = {k: v for k, v in metadata("gpt-2").items() if k != PREFIX + "pre"}
    named = Tokenizer.from_gguf(with_pre_tokenizer(base, "default"))
    assert Tokenizer.from_gguf(base).encode("a=12345") == named.encode("a=12345")
