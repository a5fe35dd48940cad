"""A byte-level BPE tokenizer made for copying: training, encoding, decoding.

It is an ordinary GPT-2 style vocabulary (any GGUF reader can use it with pre = "gpt-2"), trained
in an unusual order. Word pieces are learned on words *without* their leading space, digits are
never merged, and only then the commonest "space + word" tokens are added.  So a name the model
has never seen is cut into the same pieces in a sentence (" Brantel" = space, Bran, tel) and
inside a call ("Brantel" = Bran, tel), and copying is copying.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
CONTROL = frozenset(SPECIALS[:3])
"""Only these are control tokens; the two tool-call marks are text that is always one token."""

PRETOKEN = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
"""GPT-2's split written for Python's re (\\p{L} as [^\\W\\d_]; \\p{N} as \\d: the corpus has no
other numerals).
"""


@cache
def byte_letters() -> tuple[str, ...]:
    """GPT-2's byte -> printable letter table, dtype str[256]."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + len(letters) - len(printable))
    return tuple(letters[byte] for byte in range(256))


def _to_letters(text: str) -> str:
    table = byte_letters()
    return "".join(table[byte] for byte in text.encode("utf-8"))


SPACE = _to_letters(" ")


def train(
    texts: Iterable[str],
    size: int = 2048,
    spaced: int = 500,
    never_spaced: Collection[str] = (),
) -> list[tuple[str, str]]:
    """Learn merges from texts.

    ``size`` counts all tokens (256 bytes, merges, specials); ``spaced`` of the merges are "space
    + word", none of them with a word of ``never_spaced``.
    """
    counts: Counter[str] = Counter()
    spaced_counts: Counter[str] = Counter()
    for text in texts:
        for piece in PRETOKEN.findall(text):
            bare = piece[1:] if len(piece) > 1 and piece[0] == " " else piece
            counts[_to_letters(bare)] += 1
            if bare is not piece and len(piece) > 1 and piece[0] == " ":
                spaced_counts[_to_letters(bare)] += 1
    words = {word: list(word) for word in counts if len(word) > 1}
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for word, parts in words.items():
        for pair in pairwise(parts):
            pairs[pair] += counts[word]
            where[pair].add(word)
    merges: list[tuple[str, str]] = []
    wanted = size - 256 - len(SPECIALS) - spaced
    while len(merges) < wanted and pairs:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        if any(letter.isdigit() for letter in best[0] + best[1]):
            del pairs[best]
            continue
        merges.append(best)
        for word in where.pop(best):
            old = words[word]
            for pair in pairwise(old):
                pairs[pair] -= counts[word]
            words[word] = new = _merge(old, best)
            for pair in pairwise(new):
                pairs[pair] += counts[word]
                where[pair].add(word)
        pairs.pop(best, None)
    whole = [
        (count, word)
        for word, count in spaced_counts.items()
        if not any(c.isdigit() for c in word)
        and (len(word) == 1 or len(words[word]) == 1)
        and word not in never_spaced
    ]
    whole.sort(key=lambda entry: (-entry[0], entry[1]))
    merges += [(SPACE, word) for _, word in whole[: size - 256 - len(SPECIALS) - len(merges)]]
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    index = 0
    while index < len(parts):
        if index + 1 < len(parts) and (parts[index], parts[index + 1]) == pair:
            merged.append(pair[0] + pair[1])
            index += 2
        else:
            merged.append(parts[index])
            index += 1
    return merged


class Tokenizer:
    """str <-> ids for a list of merges; specials only where the caller says so."""

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        self.merges = [(left, right) for left, right in merges]
        self.tokens = [*byte_letters(), *(left + right for left, right in self.merges), *SPECIALS]
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._bytes = {letter: byte for byte, letter in enumerate(byte_letters())}
        self._cache: dict[str, list[int]] = {}
        self._special = re.compile("(" + "|".join(re.escape(token) for token in SPECIALS) + ")")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what :meth:`save` wrote."""
        return cls(
            [
                tuple(pair.split(" "))
                for pair in json.loads(path.read_text(encoding="utf-8"))["merges"]
            ]
        )

    def save(self, path: Path) -> None:
        """Write the merges as JSON, one string "left right" each, as GGUF stores them."""
        path.write_text(
            json.dumps(
                {"merges": [f"{a} {b}" for a, b in self.merges]}, ensure_ascii=False, indent=0
            )
            + "\n",
            encoding="utf-8",
        )

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text; with ``special`` the special tokens' names in it become those tokens."""
        ids: list[int] = []
        if special:
            for part in self._special.split(text):
                ids += [self.ids[part]] if part in SPECIALS else self.encode(part)
            return ids
        for piece in PRETOKEN.findall(text):
            found = self._cache.get(piece)
            if found is None:
                if len(self._cache) > 200_000:
                    self._cache.clear()
                found = self._cache[piece] = self._bpe(_to_letters(piece))
            ids += found
        return ids

    def _bpe(self, letters: str) -> list[int]:
        parts = list(letters)
        while len(parts) > 1:
            ranked = [(self._ranks.get(pair, 1 << 30), pair) for pair in pairwise(parts)]
            rank, pair = min(ranked)
            if rank == 1 << 30:
                break
            parts = _merge(parts, pair)
        return [self.ids[part] for part in parts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special tokens by their names; broken UTF-8 becomes U+FFFD."""
        out = bytearray()
        for index in ids:
            token = self.tokens[index]
            out += (
                token.encode()
                if token in SPECIALS
                else bytes(self._bytes[letter] for letter in token)
            )
        return out.decode("utf-8", "replace")
