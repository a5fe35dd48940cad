"""Number ranges against exact arithmetic, and patterns against Python's regular expressions."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import time
from decimal import Decimal
from typing import Any

import pytest

from tilewright.errors import InvalidRequestError
from tilewright.text.grammar.analysis import NEVER, Lengths, checked
from tilewright.text.grammar.automaton import Automaton
from tilewright.text.grammar.code_points import utf8
from tilewright.text.grammar.expression import Grammar
from tilewright.text.grammar.numbers import Bounds, decimals, integers
from tilewright.text.grammar.regex import Pattern, build
from tilewright.text.grammar.regex_limits import Limiter


def recogniser(grammar: Grammar) -> Any:
    if Lengths(grammar).of(grammar.root) >= NEVER:
        return lambda text: False
    automaton = Automaton(grammar, checked(grammar, "grammar"))

    def accepts(text: str) -> bool:
        end = automaton.run(text.encode())
        return end is not None and end.accepting

    return accepts


def within(value: Decimal, bounds: Bounds) -> bool:
    if bounds.low is not None and (
        value < bounds.low or (bounds.above_low and value == bounds.low)
    ):
        return False
    return bounds.high is None or not (
        value > bounds.high or (bounds.below_high and value == bounds.high)
    )


def test_integer_ranges_are_exact() -> None:
    r = random.Random(1)
    for _ in range(150):
        low = r.choice([None, r.randint(-130, 130), r.randint(-12, 12)])
        high = r.choice([None, (low or 0) + r.randint(-2, 250)])
        divisor = r.choice([None, None, 1, 3, 7]) if low is not None and high is not None else None
        bounds = Bounds(
            None if low is None else Decimal(low),
            None if high is None else Decimal(high),
            r.random() < 0.4,
            r.random() < 0.4,
        )
        grammar = Grammar()
        grammar.root = integers(grammar, bounds, divisor)
        accepts = recogniser(grammar)
        for value in range(-420, 420):
            wanted = within(Decimal(value), bounds) and value % (divisor or 1) == 0
            assert accepts(str(value)) == wanted, (bounds, divisor, value)
        assert not accepts("007")
        assert not accepts("-0")


def test_decimal_ranges_are_exact() -> None:
    r = random.Random(2)
    for _ in range(150):
        places = r.randint(0, 3)
        low = None if r.random() < 0.2 else Decimal(r.randint(-3000, 3000)).scaleb(-places)
        high = None
        if low is None or r.random() < 0.8:
            high = (low or Decimal(0)) + Decimal(r.randint(0, 4000)).scaleb(-r.randint(0, 3))
        bounds = Bounds(low, high, r.random() < 0.4, r.random() < 0.4)
        grammar = Grammar()
        grammar.root = decimals(grammar, bounds)
        accepts = recogniser(grammar)
        near = [bound for bound in (low, high) if bound is not None]
        for _ in range(150):
            shift = Decimal(r.randint(-25, 25)).scaleb(-r.randint(0, 4))
            value = r.choice(near) + r.choice([Decimal(0), shift])
            text = f"{value:f}"
            if text.startswith("-") and value == 0:
                continue
            assert accepts(text) == within(value, bounds), (bounds, text)


def random_pattern(r: random.Random, depth: int) -> str:
    kind = r.randint(0, 9 if depth else 4)
    if kind < 3:
        return r.choice(["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", "\\w", "\\."])
    if kind == 3:
        return r.choice(["a", "b"]) + r.choice(["*", "+", "?", "{2}", "{1,2}", "{1,}", "*?"])
    inner = random_pattern(r, max(0, depth - 1))
    if kind < 6:
        return inner + random_pattern(r, max(0, depth - 1))
    if kind == 6:
        return f"(?:{inner}|{random_pattern(r, depth - 1)})"
    return f"({inner})" + r.choice(["", "*", "?", "{0,2}", "+"])


def test_patterns_match_what_python_matches() -> None:
    r = random.Random(3)
    texts = ["".join(t) for n in range(5) for t in itertools.product("ab.", repeat=n)]
    for _ in range(120):
        pattern = "|".join(
            r.choice(["", "^"]) + random_pattern(r, 3) + r.choice(["", "$"])
            for _ in range(r.choice([1, 1, 2]))
        )
        compiled = re.compile(pattern)
        regex = Pattern().search(pattern)
        low, high = r.choice([(0, 2), (2, 3), (3, 9)])
        for limited in (False, True):
            grammar = Grammar()
            try:
                used = Limiter().limit(regex, low, high) if limited else regex
            except InvalidRequestError:
                continue
            grammar.root = build(grammar, used, lambda ranges, g=grammar: utf8(g, ranges))
            try:
                accepts = recogniser(grammar)
            except InvalidRequestError as error:
                if "may be empty" in error.message or "ambiguous" in error.message:
                    continue
                raise
            for text in texts:
                wanted = compiled.search(text) is not None
                if limited:
                    wanted = wanted and low <= len(text) <= high
                assert accepts(text) == wanted, (pattern, text, limited)


def test_lengths_of_patterns() -> None:
    limiter = Limiter()
    assert limiter.lengths(Pattern().search("^(ab|c)d{2,3}$")) == (3, 5)
    exact = limiter.limit(Pattern().search("^(?:ab)*c*$"), 7, 7)
    assert limiter.lengths(exact) == (7, 7)


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        ("^" + "(a?)" * 1000 + "$", True),
        ("^((a|bb)*|(c|dd)*)*$", False),
        ("^(a*b*){9}$", True),
        ("^(x|yy)*(xx|y)*z*(x|zz)*$", True),
    ],
)
def test_hostile_patterns_with_limits_end_soon(pattern: str, refused: bool) -> None:
    start = time.process_time()
    grammar = Grammar()
    with pytest.raises(InvalidRequestError) if refused else contextlib.nullcontext():
        regex = Limiter().limit(Pattern().search(pattern), 40, 400)
        grammar.root = build(grammar, regex, lambda ranges: utf8(grammar, ranges))
        accepts = recogniser(grammar)
        texts = ["a" * 41, "ab" * 21, "x" * 40 + "zz", "c" * 20 + "a" * 30, "a" * 39, ""]
        for text in texts:
            found = re.search(pattern, text) is not None and len(text) >= 40
            assert accepts(text) == found, text
    assert time.process_time() - start < 5
