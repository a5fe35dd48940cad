"""The fast forms of merging equal the obvious one, and long words take bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.text.text_variants import PREFIX

from tilewright.text.merges import merge, merge_long, merge_naive, merge_short
from tilewright.text.tokenizer import Tokenizer
from tilewright.text.unigram import Lattice

LETTERS = "abc"


@given(
    st.lists(
        st.tuples(st.text(LETTERS, min_size=1, max_size=4), st.text(LETTERS, min_size=1)),
        max_size=40,
        unique=True,
    ),
    st.text(LETTERS, max_size=120),
)
@settings(max_examples=300, deadline=None)
def test_pairs(pairs: list[tuple[str, str]], text: str) -> None:
    ranks = {f"{a} {b}": rank for rank, (a, b) in enumerate(pairs)}
    expected = merge_naive(text, ranks, " ")
    assert merge_short(list(text), ranks, " ") == expected
    assert merge_long(list(text), ranks, " ") == expected
    assert merge(list(text), ranks, " ") == expected
    assert "".join(expected) == text


@given(
    st.dictionaries(st.text(LETTERS, min_size=2, max_size=5), st.integers(0, 5), max_size=40),
    st.text(LETTERS, max_size=120),
)
@settings(max_examples=300, deadline=None)
def test_scored_tokens_with_ties(ranks: dict[str, int], text: str) -> None:
    expected = merge_naive(text, ranks, "")
    assert merge_short(list(text), ranks, "") == expected
    assert merge_long(list(text), ranks, "") == expected


@given(
    st.dictionaries(st.text(LETTERS, min_size=1, max_size=4), st.integers(-9, -1), min_size=1),
    st.text(LETTERS + "d", max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_lattice_finds_the_best_of_all_cuts(scores: dict[str, int], text: str) -> None:
    ids = {piece: i for i, piece in enumerate(scores)}
    lattice = Lattice(ids, {i: float(scores[p]) for p, i in ids.items()}, -1, -50.0)
    pieces = lattice.cut(text)
    assert "".join(piece for _, piece in pieces) == text

    def best(rest: str) -> float:
        if not rest:
            return 0.0
        options = [
            scores.get(rest[:n], -50) + best(rest[n:])
            for n in range(1, min(4, len(rest)) + 1)
            if rest[:n] in scores or n == 1
        ]
        return max(options)

    assert sum(scores.get(p, -50) for _, p in pieces) == pytest.approx(best(text))


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "bert-bge"])
def test_long_words_take_bounded_time(name: str, tokenizer: Callable[[str], Any]) -> None:
    choose = random.Random(1)
    word = "".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=40_000))
    made = tokenizer(name)
    start = time.process_time()
    ids = made.encode(word)
    assert time.process_time() - start < 3  # quadratic merging takes more than a minute
    assert ids


def test_word_caches_do_not_change_ids(metadata: Callable[[str], Any]) -> None:
    base = metadata("llama-spm")
    made = Tokenizer.from_gguf(base)
    whole = made.encode("the cat sat on the mat", add_special=False)
    again = made.encode("the cat sat on the mat", add_special=False)
    fresh = Tokenizer.from_gguf({**base, PREFIX + "add_bos_token": False})
    assert whole == again == fresh.encode("the cat sat on the mat")
