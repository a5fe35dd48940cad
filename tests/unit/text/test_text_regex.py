"""Stand-ins change nothing: classes hold what Unicode says, matches lie where ``re`` finds them."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.text.pretokenize import Splitter, splitter_for
from tilewright.text.regex import RegexSet
from tilewright.text.split_patterns import STAGES
from tilewright.text.unicode_data import CATEGORY_NAMES, WHITESPACE, category


def spans(pattern: str, text: str) -> list[tuple[int, int]]:
    regex = RegexSet([pattern])
    return [m.span() for m in regex.patterns[0].finditer(regex.translate(text))]


def test_categories_are_those_of_unicode() -> None:
    """Assigned characters keep their category, but for a handful per version of Unicode."""
    changed = [
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) not in ("Cn", category(code)) and category(code) != "Cn"
    ]
    assert len(changed) < 20
    assert set(CATEGORY_NAMES) == {category(code) for code in range(sys.maxunicode + 1)}


def test_white_space_is_pythons_but_for_the_separators() -> None:
    assert {ord(c) for c in map(chr, range(sys.maxunicode + 1)) if c.isspace()} - WHITESPACE == {
        0x1C, 0x1D, 0x1E, 0x1F,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["L", "Lu", "N", "Nd", "P", "S", "M", "Z", "C", "Cn"])
def test_property_classes(name: str) -> None:
    text = "".join(map(chr, [*range(0x3000), *range(0x1D400, 0x1D800), 0x10FFFF, 0xD800]))
    found = {text[a] for a, _ in spans(rf"\p{{{name}}}", text)}
    assert found == {c for c in text if category(ord(c)).startswith(name)}
    others = {text[a] for a, _ in spans(rf"[^\p{{{name}}}]", text)}
    assert others == set(text) - found


ALPHABET = "aZ09 \n'_-é\u0301日ſ٣\u3000"


@given(st.text(ALPHABET, max_size=40))
@settings(max_examples=60, deadline=None)
def test_matches_equal_those_of_re(text: str) -> None:
    for pattern in (r"\s+(?!\S)|\s+", "[a-z日-本]+|[^a-z]", r"(?:é|\n)*?9{1,2}", "(?<=a)Z|^a|0$"):
        assert spans(pattern, text) == [
            m.span() for m in re.finditer(pattern, text, re.MULTILINE)
        ], pattern


def test_classes_with_intersections_and_case() -> None:
    assert spans(r"[\p{L}&&[^a-z日]]", "aAé日") == [(1, 2), (2, 3)]
    assert spans("(?i:'s|k)", "'S 's 'ſ K k") == [(0, 2), (3, 5), (6, 8), (9, 10), (11, 12)]
    assert spans(r"\b", "ab cd") == [(0, 0), (2, 2), (3, 3), (5, 5)]
    assert spans(r"\p{Han}+", "漢字かな") == [(0, 2)]


@given(st.text(max_size=60))
@settings(max_examples=20, deadline=None)
def test_pieces_join_to_the_text(text: str) -> None:
    for name in STAGES:
        pieces = splitter_for(name).split(text)
        assert "".join(pieces) == text
        assert all(pieces)


@pytest.mark.parametrize("stages", STAGES.values())
def test_long_runs_take_bounded_time(stages: tuple[str, ...]) -> None:
    """A minute here is a hang; the patterns take milliseconds."""
    splitter = Splitter(stages)
    for run in ("a", "A", "1", " ", "\n", "!", "é", "日", " a", "\u0301", " \n", "'"):
        text = run * 20_000
        assert "".join(splitter.split(text)) == text
