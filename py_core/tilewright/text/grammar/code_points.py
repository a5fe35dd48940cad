"""Sets of Unicode code points as ranges, and their UTF-8 form as expressions over bytes.

Knows nothing of regular expressions or JSON.
"""

from __future__ import annotations

from collections.abc import Iterable

from .expression import Grammar, Node

Ranges = list[tuple[int, int]]
"""Sorted, disjoint, inclusive."""

ANY: Ranges = [(0, 0xD7FF), (0xE000, 0x10FFFF)]
"""Every character that UTF-8 can hold (surrogates are none)."""
_LENGTH_STARTS = ((0x80, 1), (0x800, 2), (0x10000, 3), (0x110000, 4))


def normalise(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the ranges sorted and joined."""
    joined: Ranges = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined


def subtract(ranges: Iterable[tuple[int, int]], minus: Iterable[tuple[int, int]]) -> Ranges:
    """Return what of ``ranges`` is not in ``minus``."""
    left = normalise(ranges)
    for low, high in normalise(minus):
        kept: Ranges = []
        for a, b in left:
            if a < low:
                kept.append((a, min(b, low - 1)))
            if b > high:
                kept.append((max(a, high + 1), b))
        left = [(a, b) for a, b in kept if a <= b]
    return left


def intersect(ranges: Iterable[tuple[int, int]], other: Iterable[tuple[int, int]]) -> Ranges:
    """Return what is in both."""
    return subtract(ranges, subtract([(0, 0x10FFFF)], other))


def bits(low: int, high: int) -> int:
    """Return the byte set low .. high."""
    return (1 << (high + 1)) - (1 << low)


def utf8(grammar: Grammar, ranges: Iterable[tuple[int, int]]) -> Node:
    """Return an expression for one character out of ``ranges``."""
    parts: list[Node] = []
    for low, high in intersect(ranges, ANY):
        start = 0
        for limit, length in _LENGTH_STARTS:
            a, b = max(low, start), min(high, limit - 1)
            if a <= b:
                parts += _split(grammar, chr(a).encode(), chr(b).encode(), length)
            start = limit
    return grammar.choice(parts)


def _split(grammar: Grammar, low: bytes, high: bytes, length: int) -> list[Node]:
    """Return byte sequences for the characters low .. high, all of ``length`` bytes."""
    if length == 1:
        return [grammar.byte_set(bits(low[0], high[0]))]
    rest = length - 1
    smallest, largest = b"\x80" * rest, b"\xbf" * rest

    def under(first: int, last: int, a: bytes, b: bytes) -> list[Node]:
        head = grammar.byte_set(bits(first, last))
        return [grammar.sequence([head, grammar.choice(_split(grammar, a, b, rest))])]

    if low[0] == high[0]:
        return under(low[0], low[0], low[1:], high[1:])
    parts: list[Node] = []
    first, last = low[0], high[0]
    if low[1:] != smallest:
        parts += under(first, first, low[1:], largest)
        first += 1
    if high[1:] != largest:
        parts += under(last, last, smallest, high[1:])
        last -= 1
    if first <= last:
        parts += under(first, last, smallest, largest)
    return parts


def until(grammar: Grammar, stop: str) -> Node:
    """Return any text that ends with the first occurrence of ``stop`` (included)."""
    return _search(grammar, stop, found=True)


def without(grammar: Grammar, stop: str) -> Node:
    """Return any text that does not hold ``stop``."""
    return _search(grammar, stop, found=False)


def _search(grammar: Grammar, stop: str, *, found: bool) -> Node:
    """Return the text up to and with ``stop``, or any text that has none.

    One rule per matched prefix of ``stop``: the automaton of Knuth, Morris and Pratt.
    """
    names = [f"{'until' if found else 'without'} {stop!r} {i}" for i in range(len(stop))]
    for i, name in enumerate(names if names[0] not in grammar.rules else ()):
        choices: list[Node] = [] if found else [grammar.empty]
        for character in sorted(set(stop)):
            text = stop[:i] + character
            matched = next(n for n in range(len(text), -1, -1) if text.endswith(stop[:n]))
            if matched < len(stop):
                then = grammar.rule(names[matched])
                choices.append(grammar.sequence([grammar.literal(character), then]))
            elif found:
                choices.append(grammar.literal(character))
        others = subtract(ANY, [(ord(c), ord(c)) for c in stop])
        back = grammar.sequence([utf8(grammar, others), grammar.rule(names[0])])
        grammar.rules[name] = grammar.choice([*choices, back])
    return grammar.rule(names[0])
