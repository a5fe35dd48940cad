"""Masks against the plain definition, forced runs, closing in time, and a real vocabulary."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import pytest
from tests.unit.grammar.conftest import CONTROL, END
from tests.unit.grammar.random_schemas import Maker, allowed_ids, sample

from tilewright.errors import InvalidRequestError
from tilewright.formats.open import open_model
from tilewright.text.grammar.constraint import CompiledGrammar
from tilewright.text.grammar.gbnf import compile_gbnf
from tilewright.text.grammar.schema import compile_schema
from tilewright.text.grammar.vocabulary import TokenVocabulary, vocabulary_of
from tilewright.text.tokenizer import Tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 5},
        "kind": {"enum": ["a", "bb", "ccc"]},
        "next": {"$ref": "#"},
    },
    "required": ["name", "age", "kind"],
}


def grammar_of(text: str, vocabulary: TokenVocabulary) -> CompiledGrammar:
    return CompiledGrammar(
        compile_gbnf(text), vocabulary, lambda t: vocabulary.longest_tokens(t.encode())
    )


GRAMMARS = (
    'root ::= [^"]*',
    "root ::= .{0,40}",
    "root ::= .{3,5}",
    'root ::= ([^"\\\\\\x00-\\x1f] | "\\\\" ["n])* "\\""',
    "root ::= [a-z]+ [0-9]{2}",
    "root ::= [^a-m]{1,2} [日-本]*",
    'root ::= "the " [a-z ]* "ab"',
)


@pytest.mark.parametrize("text", GRAMMARS)
def test_masks_equal_their_definition(text: str, small_vocabulary: TokenVocabulary) -> None:
    compiled = grammar_of(text, small_vocabulary)
    automaton = compiled.automaton
    for beginning in ("", "a", "ab", "the ", "é", "日", "zzzz", "0"):
        state = automaton.run(beginning.encode())
        if state is None:
            continue
        wanted = [
            token
            for token in range(small_vocabulary.size)
            if token not in (END, CONTROL)
            and 0xFF not in small_vocabulary.spelling(token)
            and automaton.run(small_vocabulary.spelling(token), state) is not None
        ]
        if state.accepting:
            wanted.append(END)
        assert allowed_ids(compiled.masks.mask(state)) == sorted(wanted), beginning


def test_masks_of_schemas_equal_their_definition(small_vocabulary: TokenVocabulary) -> None:
    for seed in range(12):
        compiled = CompiledGrammar(
            compile_schema(Maker(seed).document()), small_vocabulary, lambda text: []
        )
        text, _ = sample(compiled, small_vocabulary, seed, 60)
        for cut in range(0, len(text), 7):
            state = compiled.automaton.run(text[:cut])
            assert state is not None
            found = allowed_ids(compiled.masks.mask(state))
            for token in range(2, small_vocabulary.size):
                spelling = small_vocabulary.spelling(token)
                fits = compiled.automaton.run(spelling, state) is not None
                assert (token in found) == fits, (seed, cut, spelling)


def test_control_tokens_are_named_only(small_vocabulary: TokenVocabulary) -> None:
    compiled = CompiledGrammar(
        compile_gbnf('root ::= <[1]> "ab"'), small_vocabulary, lambda text: []
    )
    assert allowed_ids(compiled.masks.mask(compiled.automaton.start)) == [CONTROL]
    free = grammar_of("root ::= .*", small_vocabulary)
    assert CONTROL not in allowed_ids(free.masks.mask(free.automaton.start))


def test_forced_runs_are_skipped_ahead(small_vocabulary: TokenVocabulary) -> None:
    compiled = grammar_of('root ::= "the foo of the foo" [a-z] "ab"', small_vocabulary)
    constraint = compiled.constraint()
    ids = constraint.forced()
    text = b"".join(map(small_vocabulary.spelling, ids))
    assert b"the foo of the foo".startswith(text)
    assert len(text) > 12
    assert len(ids) < len(text)
    for byte in b"the foo of the fooz"[len(text) :]:
        constraint.accept(byte + 2)
    assert list(constraint.forced()) == [*small_vocabulary.longest_tokens(b"ab"), END]


def test_a_forced_run_ends_before_what_may_be_one_token_with_the_rest() -> None:
    pieces = ['{"a', '":', " ", "{", "}", " {}}", ' {"', "b", '"', "\n"]
    ids = {piece: 1 + number for number, piece in enumerate(pieces)}
    vocabulary = TokenVocabulary([b"</s>", *(p.encode() for p in pieces)], end_ids={0})

    def forced(text: str) -> list[int]:
        return list(grammar_of(text, vocabulary).constraint().forced())

    head = [ids['{"a'], ids['":']]
    # the run is '{"a": {': its last two bytes may belong to " {}}" or to ' {"'
    assert forced('root ::= "{\\"a\\": {" ("}" | "\\"b\\"}") "}"') == head
    # no token goes on here as the grammar does, so that all of it is settled
    assert forced('root ::= "{\\"a\\": {" "b" [b]') == [
        *head,
        ids[" "],
        ids["{"],
        ids["b"],
        ids["b"],
        0,
    ]
    assert forced('root ::= "{\\"a\\": {" ("b" | "\\n")') == [*head, ids[" "], ids["{"]]
    assert forced('root ::= "{\\"a\\": {" "}}"') == [*head, ids[" {}}"], 0]


def test_an_answer_is_closed_before_its_tokens_run_out(small_vocabulary: TokenVocabulary) -> None:
    compiled = CompiledGrammar(
        compile_schema({"type": "object"}), small_vocabulary,
        lambda text: small_vocabulary.longest_tokens(text.encode()),
    )  # fmt: skip
    for seed in range(40):
        text, ended = sample(compiled, small_vocabulary, seed, 40)
        assert ended
        json.loads(text)


def test_a_forbidden_id_is_refused(small_vocabulary: TokenVocabulary) -> None:
    constraint = grammar_of('root ::= "a"', small_vocabulary).constraint()
    with pytest.raises(InvalidRequestError, match="does not allow"):
        constraint.accept(2 + ord("b"))


async def test_masks_over_a_real_vocabulary_are_quick(oracle: Path) -> None:
    file = await open_model(str(oracle / "tokenizers" / "ggml-vocab-llama-bpe.gguf"))
    tokenizer = Tokenizer.from_gguf(file.metadata)
    file.close()
    vocabulary = vocabulary_of(
        tokenizer.token_bytes,
        tokenizer.vocabulary_size,
        control=tokenizer.special_ids,
        end_ids=tokenizer.end_ids,
    )
    start = time.process_time()
    compiled = CompiledGrammar(compile_schema(PERSON), vocabulary, tokenizer.encode)
    assert time.process_time() - start < 0.1
    vocabulary.divide(399)
    cold, warm = [], []
    beginnings = [
        "",
        '{"',
        '{"name": "',
        '{"name": "ab',
        '{"name": "a\\',
        '{"name": "ab", "age": 1',
    ]
    for beginning in beginnings:
        state = compiled.automaton.run(beginning.encode())
        assert state is not None
        for times in (cold, warm):
            start = time.process_time()
            mask = compiled.masks.mask(state)
            times.append(time.process_time() - start)
        assert len(mask) == (vocabulary.size + 31) // 32 * 4
    assert statistics.median(cold) < 0.02
    assert statistics.median(warm) < 0.0003
    name = tokenizer.encode('A whole sentence, with a "quote')
    state = compiled.automaton.run(b'{"name": "')
    assert state is not None
    assert set(name[:6]) <= set(allowed_ids(compiled.masks.mask(state)))
    forced = compiled.constraint().forced()
    assert tokenizer.decode(forced).startswith('{"name')
