"""Cuts text into the pieces within which byte-pair merges happen.

Knows stages (regular expressions and two rules for digits); does not know vocabularies or names of
models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from tilewright.text.regex import RegexSet
from tilewright.text.split_patterns import DIGITS_FROM_LEFT, DIGITS_FROM_RIGHT, STAGES

Stage = Callable[[str], list[str]]


def _cut_by(pattern: re.Pattern[str]) -> Stage:
    """Return the stage that isolates matches: matches and what lies between them are pieces.

    An empty match (a bare look-ahead) cuts without taking anything.
    """
    split = re.compile(f"({pattern.pattern})", pattern.flags).split

    def cut(text: str) -> list[str]:
        return [piece for piece in split(text) if piece]

    return cut


def _cut_behind_digit_groups(digits: re.Pattern[str]) -> Stage:
    """Cut behind the first 1 to 3 digits of a run and behind every three after them.

    Text before a run stays with its first group: so does llama.cpp
    (src/unicode.cpp, unicode_regex_split_custom_afmoe), and ids must equal its ids.
    """

    def cut(text: str) -> list[str]:
        pieces: list[str] = []
        start = 0
        for run in digits.finditer(text):
            first = run.start() + ((run.end() - run.start() - 1) % 3 + 1)
            for end in range(first, run.end() + 1, 3):
                pieces.append(text[start:end])
                start = end
        if start < len(text):
            pieces.append(text[start:])
        return pieces

    return cut


def _cut_before_digit_groups(text: str) -> list[str]:
    """Cut before every third ASCII digit counted from the right of its run.

    This is the look-ahead for groups of three digits up to the run's end, in linear time.
    """
    pieces: list[str] = []
    start = 0
    for run in re.finditer("[0-9]+", text):
        for end in range(run.start() + (run.end() - run.start()) % 3, run.end(), 3):
            if end > start:
                pieces.append(text[start:end])
                start = end
    if start < len(text):
        pieces.append(text[start:])
    return pieces


class Splitter:
    """Runs stages one after the other, each on the pieces of the one before.

    Args:
        stages: regular expressions or the names of digit rules from ``split_patterns``.

    """

    def __init__(self, stages: Sequence[str]) -> None:
        rules = (DIGITS_FROM_LEFT, DIGITS_FROM_RIGHT)
        sources = [r"\p{N}+" if stage in rules else stage for stage in stages]
        self._regexes = RegexSet(sources, trusted=True)
        self._stages: list[Stage] = []
        for stage, pattern in zip(stages, self._regexes.patterns, strict=True):
            if stage == DIGITS_FROM_LEFT:
                self._stages.append(_cut_behind_digit_groups(pattern))
            elif stage == DIGITS_FROM_RIGHT:
                self._stages.append(_cut_before_digit_groups)
            else:
                self._stages.append(_cut_by(pattern))

    def split(self, text: str) -> list[str]:
        """Return the pieces of ``text`` in order; joined they are ``text`` again."""
        kinds = self._regexes.translate(text)
        pieces = [kinds] if kinds else []
        for stage in self._stages:
            pieces = stage(pieces[0]) if len(pieces) == 1 else [q for p in pieces for q in stage(p)]
        if kinds is text:
            return pieces
        cut: list[str] = []
        start = 0
        for piece in pieces:
            end = start + len(piece)
            cut.append(text[start:end])
            start = end
        return cut


@lru_cache(maxsize=16)
def splitter_for(stages: str) -> Splitter:
    """Return the splitter for a key of ``split_patterns.STAGES``."""
    return Splitter(STAGES[stages])
