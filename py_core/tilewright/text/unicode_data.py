"""General categories of all code points, pinned to Unicode 15.1; knows nothing of tokenizers.

Tokenizers split text by Unicode category, so two runtimes with different ``unicodedata`` would
give different ids. The pinned version is that of llama.cpp's tables. ``categories.bin`` holds the
runs of equal category from U+0000 on: one byte ``length << 5 | category`` for lengths 1 to 7,
otherwise ``category`` followed by the length as little-endian base-128 digits. Categories are
numbered in the alphabetical order of their names. ``tests/unit/text/make_categories.py`` wrote it.
"""

from __future__ import annotations

import pkgutil
import unicodedata
from bisect import bisect_right
from functools import cache

_NAMES = "Cc Cf Cn Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs"
CATEGORY_NAMES = tuple(_NAMES.split(" "))
"""Two-letter general categories; the index is the number used in ``categories.bin``."""

WHITESPACE = frozenset(
    [
        *range(0x09, 0x0E),
        0x20,
        0x85,
        0xA0,
        0x1680,
        *range(0x2000, 0x200B),
        0x2028,
        0x2029,
        0x202F,
        0x205F,
        0x3000,
    ]
)
"""The White_Space property (PropList.txt, unchanged since Unicode 6.3)."""


@cache
def category_runs() -> tuple[list[int], list[int]]:
    """Return the first code point and the category number of each run, in ascending order."""
    table = pkgutil.get_data(__package__, "categories.bin")
    assert table is not None, "categories.bin is part of the package"
    starts: list[int] = []
    categories: list[int] = []
    position = start = 0
    while position < len(table):
        byte = table[position]
        position += 1
        length = byte >> 5
        shift = 0
        while length == 0 or shift:
            digit = table[position]
            position += 1
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
        starts.append(start)
        categories.append(byte & 31)
        start += length
    return starts, categories


def category_number(code: int) -> int:
    """Return the index into CATEGORY_NAMES of code point ``code``."""
    starts, categories = category_runs()
    return categories[bisect_right(starts, code) - 1]


def category(code: int) -> str:
    """Return the two-letter general category of code point ``code``."""
    return CATEGORY_NAMES[category_number(code)]


def simple_lower(char: str) -> str:
    """Return the one-character lower case of ``char`` (U+0130 has a longer full mapping)."""
    lower = char.lower()
    return lower if len(lower) == 1 else lower[0]


def canonical_base(char: str) -> str:
    """Return the first character of the canonical decomposition of ``char``."""
    return unicodedata.normalize("NFD", char)[0]
