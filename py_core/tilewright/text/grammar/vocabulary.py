"""A model's tokens, sorted and grouped so that a grammar's masks are found quickly.

Where a grammar stands in free text, tokens of only such characters are allowed as a whole, and of
the others only what follows their free beginning matters, which is the same for many of them. The
rest is walked as a trie that is built where it is visited. Knows bytes of tokens, not how a
tokenizer makes them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from .code_points import bits

MARK = 0xFF
"""Byte that no text contains; a control token is spelled MARK, its id in decimal, MARK."""


class CharacterClass(NamedTuple):
    """Characters that most grammars treat alike."""

    name: str
    forms: tuple[tuple[int, ...], ...]
    """Byte sets of the UTF-8 forms: one tuple per form, one set per byte."""


_CONTINUATION = bits(0x80, 0xBF)
_SYMBOLS = bits(0x21, 0x2F) | bits(0x3A, 0x40) | bits(0x5B, 0x60) | bits(0x7B, 0x7F)
CLASSES = (
    CharacterClass("lower", ((bits(0x61, 0x7A),),)),
    CharacterClass("upper", ((bits(0x41, 0x5A),),)),
    CharacterClass("digit", ((bits(0x30, 0x39),),)),
    CharacterClass("space", ((1 << 0x20,),)),
    CharacterClass("quote", ((1 << 0x22,),)),
    CharacterClass("backslash", ((1 << 0x5C,),)),
    CharacterClass("control", ((bits(0x00, 0x1F),),)),
    CharacterClass("symbol", ((_SYMBOLS & ~(1 << 0x22 | 1 << 0x5C),),)),
    CharacterClass(
        "beyond ASCII",
        (
            (bits(0xC2, 0xDF), _CONTINUATION),
            (1 << 0xE0, bits(0xA0, 0xBF), _CONTINUATION),
            (bits(0xE1, 0xEC) | bits(0xEE, 0xEF), _CONTINUATION, _CONTINUATION),
            (1 << 0xED, bits(0x80, 0x9F), _CONTINUATION),
            (1 << 0xF0, bits(0x90, 0xBF), _CONTINUATION, _CONTINUATION),
            (bits(0xF1, 0xF3), _CONTINUATION, _CONTINUATION, _CONTINUATION),
            (1 << 0xF4, bits(0x80, 0x8F), _CONTINUATION, _CONTINUATION),
        ),
    ),
)
BEYOND_ASCII = 1 << (len(CLASSES) - 1)
PARTIAL = 1 << len(CLASSES)
"""Class bit of tokens that are no whole characters, and of control tokens."""
CHAIN = 32
"""Characters that are counted one by one; tokens with more in a row are walked."""

_TABLE = bytes(
    next(
        (i for i, kind in enumerate(CLASSES[:-1]) if kind.forms[0][0] >> byte & 1),
        len(CLASSES) - 1,
    )
    for byte in range(256)
)


class TrieNode:
    """Sorted tokens ``low .. high - 1``, which agree in their first ``depth`` bytes."""

    __slots__ = ("children", "depth", "ends", "high", "low")

    def __init__(self, low: int, high: int, depth: int) -> None:
        self.low = low
        self.high = high
        self.depth = depth
        self.children: list[tuple[int, TrieNode]] | None = None
        self.ends = low
        """Tokens ``low .. ends - 1`` are exactly ``depth`` bytes long."""


class Group:
    """Spellings (or ends of spellings) with their ids, as a trie."""

    def __init__(self, tokens: list[tuple[bytes, int]]) -> None:
        tokens.sort()
        self.spellings = [spelling for spelling, _ in tokens]
        self.ids = [token for _, token in tokens]
        self.root = TrieNode(0, len(tokens), 0)

    def expand(self, node: TrieNode) -> list[tuple[int, TrieNode]]:
        """Return the children of a node, by their next byte."""
        if node.children is None:
            spellings, depth = self.spellings, node.depth
            at = node.low
            while at < node.high and len(spellings[at]) == depth:
                at += 1
            node.ends = at
            node.children = []
            while at < node.high:
                byte = spellings[at][depth]
                prefix = spellings[at][:depth]
                end = node.high
                if spellings[end - 1][depth] != byte:
                    after = prefix + bytes([byte + 1])
                    end = bisect_left(spellings, after, at + 1, node.high)
                node.children.append((byte, TrieNode(at, end, depth + 1)))
                at = end
        return node.children

    def child(self, node: TrieNode, byte: int) -> TrieNode | None:
        """Return the child of a node under one byte."""
        return next((child for key, child in self.expand(node) if key == byte), None)


class Division(NamedTuple):
    """The tokens as free text of certain classes sees them, by characters that are free."""

    whole: list[bytes]
    """Mask of the tokens that are free text of at most that many characters."""
    whole_any: bytes
    """Mask of all tokens that are free text."""
    ends: list[Group]
    """What follows that many free characters at the beginning of the other tokens."""
    ends_any: Group
    """What follows the free characters at the beginning, however many."""
    long: Group
    """Tokens with more than CHAIN free characters at the beginning."""


class TokenVocabulary:
    """The tokens of one model, for any number of grammars.

    Args:
        spellings: bytes of each id.
        control: ids that are no text; a grammar can only name them (``spelling_of``).
        end_ids: ids that end an answer.
        size: ids that the model's logits have (at least the number of tokens).

    """

    def __init__(
        self,
        spellings: Iterable[bytes],
        *,
        control: Collection[int] = (),
        end_ids: Collection[int] = (),
        size: int | None = None,
    ) -> None:
        ends = frozenset(end_ids)
        gathered: dict[int, list[tuple[bytes, int]]] = {}
        everything: list[tuple[bytes, int]] = []
        self._spellings = list(spellings)
        for token, text in enumerate(self._spellings):
            if token in control and token not in ends:
                text = self._spellings[token] = self.spelling_of(token)
                key = PARTIAL
            elif not text or MARK in text or token in ends:
                continue
            else:
                key = _classes(text)
            everything.append((text, token))
            gathered.setdefault(key, []).append((text, token))
        self.size = max(size or 0, len(self._spellings))
        self.mask_bytes = (self.size + 31) // 32 * 4
        self.end_ids = sorted(ends)
        self.everything = Group(everything)
        self._gathered = gathered
        self._divisions: dict[int, Division] = {}

    @staticmethod
    def spelling_of(token: int) -> bytes:
        """Return the bytes that stand for a control token in a grammar."""
        return bytes([MARK]) + str(token).encode() + bytes([MARK])

    def spelling(self, token: int) -> bytes:
        """Return the bytes of an id as grammars see them; b"" outside the vocabulary."""
        return self._spellings[token] if 0 <= token < len(self._spellings) else b""

    def longest_tokens(self, data: bytes) -> list[int]:
        """Return ids that spell ``data``, each as long as can be; [] where there are none."""
        group = self.everything
        ids: list[int] = []
        while data:
            node, best = group.root, -1
            size = 0
            while True:
                byte = data[node.depth] if node.depth < len(data) else -1
                following = group.child(node, byte)
                if node.ends > node.low:
                    best, size = group.ids[node.low], node.depth
                if following is None:
                    break
                node = following
            if best < 0:
                return []
            ids.append(best)
            data = data[size:]
        return ids

    def divide(self, classes: int) -> Division:
        """Return the tokens divided by how many characters of ``classes`` they begin with."""
        found = self._divisions.get(classes)
        if found is None:
            found = self._divisions[classes] = self._divide(classes)
        return found

    def _divide(self, classes: int) -> Division:
        free_text = re.compile(b"(?:" + _pattern(classes) + b")*", re.DOTALL)
        free: list[list[int]] = [[] for _ in range(CHAIN + 2)]
        ends: list[list[tuple[bytes, int]]] = [[] for _ in range(CHAIN + 1)]
        long: list[tuple[bytes, int]] = []
        for kinds, tokens in self._gathered.items():
            if not kinds & ~classes:
                for text, token in tokens:
                    length = len(text) if text.isascii() else len(text.decode())
                    free[min(length, CHAIN + 1)].append(token)
                    if length > CHAIN:
                        long.append((text, token))
                continue
            for text, token in tokens:
                match = free_text.match(text)
                size = match.end() if match else 0
                length = len(text[:size].decode())
                if length > CHAIN:
                    long.append((text, token))
                else:
                    ends[length].append((text[size:], token))
        whole = bytearray(self.mask_bytes)
        masks = []
        for ids in free:
            for token in ids:
                whole[token >> 3] |= 1 << (token & 7)
            masks.append(bytes(whole))
        free_ids = {token for ids in free for token in ids}
        anywhere = [pair for some in ends for pair in some]
        for text, token in long:
            if token not in free_ids:
                match = free_text.match(text)
                anywhere.append((text[match.end() if match else 0 :], token))
        return Division(
            masks[:-1], masks[-1], [Group(some) for some in ends], Group(anywhere), Group(long)
        )


def first_bytes(classes: int) -> int:
    """Return the set of bytes that characters of ``classes`` begin with."""
    found = 0
    for index, kind in enumerate(CLASSES):
        for form in kind.forms if classes >> index & 1 else ():
            found |= form[0]
    return found


def _pattern(classes: int) -> bytes:
    """Return a regular expression over bytes for one character of ``classes``."""
    forms = [
        b"".join(_byte_class(byte_set) for byte_set in form)
        for index, kind in enumerate(CLASSES)
        if classes >> index & 1
        for form in kind.forms
    ]
    return b"|".join(forms)


def _byte_class(byte_set: int) -> bytes:
    members = [b"\\x%02x" % byte for byte in range(256) if byte_set >> byte & 1]
    return b"[" + b"".join(members) + b"]"


def _classes(text: bytes) -> int:
    """Return the class bits of a token."""
    classes = 0
    for index in set(text.translate(_TABLE)):
        classes |= 1 << index
    if classes >> (len(CLASSES) - 1):
        try:
            text.decode()
        except UnicodeDecodeError:
            return PARTIAL
    return classes


def vocabulary_of(
    token_bytes: Callable[[int], bytes],
    count: int,
    *,
    control: Collection[int] = (),
    end_ids: Collection[int] = (),
    size: int | None = None,
) -> TokenVocabulary:
    """Build from a function that spells an id."""
    spellings = (token_bytes(token) for token in range(count))
    return TokenVocabulary(spellings, control=control, end_ids=end_ids, size=size)
