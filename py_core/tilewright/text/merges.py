"""Builds tokens by merging neighbours in order of rank: byte-pair encoding and SentencePiece's BPE.

Knows symbols and ranks; does not know how text was cut, nor what bytes the symbols spell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

_NO_RANK = 1 << 40
_SHORT = 48
"""Up to this many symbols the quadratic form is faster, because its inner loops run in C."""


def merge(symbols: list[str], ranks: Mapping[str, int], joint: str) -> list[str]:
    """Merge the pair of lowest rank, the leftmost of equals, until no pair has a rank.

    Args:
        symbols: text units, usually characters; may be changed.
        ranks: rank of a pair under the key ``left + joint + right``.
        joint: " " where ranks are given per pair (BPE merges), "" where per merged token.

    Returns:
        The merged texts, in order.

    """
    if len(symbols) <= _SHORT:
        return merge_short(symbols, ranks, joint)
    return merge_long(symbols, ranks, joint)


def merge_short(symbols: list[str], ranks: Mapping[str, int], joint: str) -> list[str]:
    """Do what ``merge`` says by looking at every pair for each merge; changes ``symbols``."""
    rank = ranks.get
    pairs = [rank(a + joint + b, _NO_RANK) for a, b in pairwise(symbols)]
    while pairs:
        best = min(pairs)
        if best == _NO_RANK:
            break
        at = pairs.index(best)
        merged = symbols[at] + symbols[at + 1]
        symbols[at] = merged
        del symbols[at + 1], pairs[at]
        if at:
            pairs[at - 1] = rank(symbols[at - 1] + joint + merged, _NO_RANK)
        if at < len(pairs):
            pairs[at] = rank(merged + joint + symbols[at + 1], _NO_RANK)
    return symbols


def merge_long(symbols: list[str], ranks: Mapping[str, int], joint: str) -> list[str]:
    """Do what ``merge`` says with a heap, in O(n log n); changes ``symbols``."""
    rank = ranks.get
    count = len(symbols)
    following = list(range(1, count + 1))
    preceding = list(range(-1, count - 1))
    # The rank under which the pair that starts at each symbol was pushed last; an entry of the
    # heap with another rank is out of date.
    current = [rank(a + joint + b, -1) for a, b in pairwise(symbols)] + [-1]
    # One integer per entry: comparing integers is several times faster than comparing tuples.
    heap = [r * count + at for at, r in enumerate(current) if r >= 0]
    heapify(heap)
    while heap:
        best, at = divmod(heappop(heap), count)
        if current[at] != best:
            continue
        right = following[at]
        merged = symbols[at] + symbols[right]
        symbols[at] = merged
        symbols[right] = ""
        current[right] = -1
        after = following[right]
        following[at] = after
        if after < count:
            preceding[after] = at
            current[at] = r = rank(merged + joint + symbols[after], -1)
            if r >= 0:
                heappush(heap, r * count + at)
        else:
            current[at] = -1
        before = preceding[at]
        if before >= 0:
            current[before] = r = rank(symbols[before] + joint + merged, -1)
            if r >= 0:
                heappush(heap, r * count + before)
    return [symbol for symbol in symbols if symbol]


def merge_naive(symbols: Iterable[str], ranks: Mapping[str, int], joint: str) -> list[str]:
    """Do what ``merge`` says, in the most obvious way; the reference for tests."""
    done = list(symbols)
    while True:
        found = [
            (ranks[key], at)
            for at in range(len(done) - 1)
            if (key := done[at] + joint + done[at + 1]) in ranks
        ]
        if not found:
            return done
        at = min(found)[1]
        done[at : at + 2] = [done[at] + done[at + 1]]
