"""The tokenizer models of GGUF files: a run of text without special tokens becomes ids.

Each class knows one model and a Vocabulary; none knows special tokens or metadata keys. Words
already met are kept in a bounded cache, which is what makes ordinary text fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import groupby, pairwise
from typing import Protocol

from tilewright.errors import TokenizerError
from tilewright.text.byte_level import has_stray_bytes, spell, utf8_units
from tilewright.text.merges import merge
from tilewright.text.pretokenize import Splitter
from tilewright.text.unicode_data import WHITESPACE, simple_lower
from tilewright.text.unigram import (
    SPACE_MARK,
    CharacterMap,
    Lattice,
    normalize_spaces,
    unknown_score,
)
from tilewright.text.vocabulary import (
    BYTE,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
)
from tilewright.text.wordpiece import WORD_MARK, WordSplitter, cut_word

_CACHED_WORDS = 50_000
_CACHED_LENGTH = 64


class Encoder(Protocol):
    """Turns text without special tokens into ids."""

    keeps_stray_bytes: bool
    """Bytes that are not UTF-8 reach the encoder as surrogate escapes, else as U+FFFD."""

    def encode(self, text: str, *, at_start: bool, first: bool = False) -> list[int]:
        """Encode; ``at_start``: it is first or follows a special token; ``first``: it is first."""
        ...


class WordCache:
    """Remembers the ids of short pieces.

    Args:
        encode_piece: works out the ids of a piece.

    """

    def __init__(self, encode_piece: Callable[[str], list[int]]) -> None:
        self._encode_piece = encode_piece
        self._known: dict[str, list[int]] = {}

    def encode(self, pieces: Iterable[str]) -> list[int]:
        """Return the ids of all pieces."""
        ids: list[int] = []
        known = self._known
        for piece in pieces:
            found = known.get(piece)
            if found is None:
                found = self._encode_piece(piece)
                if len(piece) <= _CACHED_LENGTH:
                    if len(known) >= _CACHED_WORDS:
                        known.clear()
                    known[piece] = found
            ids += found
        return ids


def word_pattern(joined: Iterable[str], mark: str = SPACE_MARK) -> re.Pattern[str]:
    """Return the pattern whose matches never merge with each other: words with their marks.

    Args:
        joined: last characters of what may merge with a mark behind it (other than marks).
        mark: the sign for a space.

    """
    inner = "".join(re.escape(char) for char in sorted(set(joined)))
    more = f"(?:(?<=[{inner}]){mark}+[^{mark}]*)*" if inner else ""
    return re.compile(f"{mark}*[^{mark}]+{more}|{mark}+")


class BytePairEncoder:
    """Byte-pair encoding: merges given pair by pair, in the order of their list.

    Args:
        vocabulary: token table.
        merges: "left right" in order of priority.
        splitter: cuts text into the pieces within which merges happen.
        byte_encoded: pieces are spelled byte by byte (GPT-2), else they are plain text.
        ignore_merges: a piece that is a token is that token.
        escape_spaces: U+0020 is U+2581 in the vocabulary.
        lowercase_words: None, or whether words are folded where white space is dropped
            (the "whitespace" model).

    """

    keeps_stray_bytes = False

    def __init__(
        self,
        vocabulary: Vocabulary,
        merges: list[str],
        splitter: Splitter,
        *,
        byte_encoded: bool = True,
        ignore_merges: bool = False,
        escape_spaces: bool = False,
        lowercase_words: bool | None = None,
    ) -> None:
        self._ids = vocabulary.ids
        # The first of repeated merges counts, so the list goes in from its end.
        self._ranks = dict(zip(reversed(merges), range(len(merges) - 1, -1, -1), strict=True))
        self._splitter = splitter
        self._byte_encoded = byte_encoded
        self._ignore_merges = ignore_merges
        self._escape_spaces = escape_spaces
        self._lowercase_words = lowercase_words
        self._cache = WordCache(self._encode_piece)
        self._words: re.Pattern[str] | None = None
        if escape_spaces:
            to_mark = (merge_.partition(" ") for merge_ in merges if f" {SPACE_MARK}" in merge_)
            self._words = word_pattern(
                left[-1] for left, _, _ in to_mark if left and left[-1] != SPACE_MARK
            )

    def encode(self, text: str, *, at_start: bool, first: bool = False) -> list[int]:
        """Encode ``text``; where it stands makes no difference here."""
        if self._lowercase_words is not None:
            return self._encode_words(text, self._lowercase_words)
        if self._words is None:
            return self._cache.encode(self._splitter.split(text))
        pieces = self._splitter.split(text.replace(" ", SPACE_MARK))
        return self._cache.encode([w for p in pieces for w in self._words.findall(p)])

    def _encode_words(self, text: str, lowercase: bool) -> list[int]:
        kept: list[str] = []
        for blank, run in groupby(text, key=lambda char: ord(char) in WHITESPACE):
            if not blank:
                word = "".join(run)
                word = "".join(map(simple_lower, word)) if lowercase else word
                kept += self._splitter.split(word)
        return self._cache.encode(kept)

    def _encode_piece(self, piece: str) -> list[int]:
        text = spell(piece) if self._byte_encoded else piece
        whole = self._ids.get(text)
        if whole is not None and (
            self._ignore_merges or (self._escape_spaces and not text.strip("\n"))
        ):
            return [whole]
        ids: list[int] = []
        for symbol in merge(list(text), self._ranks, " "):
            found = self._ids.get(symbol)
            if found is not None:
                ids.append(found)
                continue
            for byte in symbol.encode("utf-8", "surrogatepass"):
                name = chr(byte) if self._byte_encoded else f"<0x{byte:02X}>"
                single = self._ids.get(name) if byte < 0x80 or not self._byte_encoded else None
                if single is not None:
                    ids.append(single)
        return ids


class SentencePieceEncoder:
    """SentencePiece's BPE ("llama"): pairs merge whose token has the greatest score.

    Raises (at use):
        TokenizerError: a character has no token and its bytes have none either.

    """

    keeps_stray_bytes = True

    def __init__(self, vocabulary: Vocabulary, *, add_space_prefix: bool) -> None:
        self._ids = vocabulary.ids
        self._unknown = vocabulary.roles.get("unk")
        self._prefix = add_space_prefix
        scores = vocabulary.scores or [0.0] * len(vocabulary.tokens)
        order = {score: rank for rank, score in enumerate(sorted(set(scores), reverse=True))}
        self._ranks = {token: order[scores[i]] for token, i in vocabulary.ids.items()}
        marked = (t for t in vocabulary.ids if SPACE_MARK in t[1:])
        self._words = word_pattern(
            before
            for token in marked
            for before, after in pairwise(token)
            if after == SPACE_MARK != before
        )
        self._cache = WordCache(self._encode_piece)

    def encode(self, text: str, *, at_start: bool, first: bool = False) -> list[int]:
        """Encode ``text``, with a space in front at a start where the model wants one."""
        if self._prefix and at_start:
            text = " " + text
        text = text.replace(" ", SPACE_MARK)
        if has_stray_bytes(text):  # they swallow what follows, so words are not independent
            return self._encode_units(utf8_units(text))
        return self._cache.encode(self._words.findall(text))

    def _encode_piece(self, piece: str) -> list[int]:
        return self._encode_units(list(piece))

    def _encode_units(self, units: list[str]) -> list[int]:
        ids: list[int] = []
        for symbol in merge(units, self._ranks, ""):
            found = self._ids.get(symbol)
            if found is not None:
                ids.append(found)
            else:
                ids += byte_ids(symbol, self._ids, self._unknown)
        return ids


def byte_ids(symbol: str, ids: dict[str, int], unknown: int | None) -> list[int]:
    """Return the byte tokens ("<0xE2>") of ``symbol``, or the unknown token for missing ones."""
    found: list[int] = []
    try:
        data = symbol.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = symbol.encode("utf-8", "surrogatepass")
    for byte in data:
        token = ids.get(f"<0x{byte:02X}>", ids.get(chr(byte)) if byte < 0x80 else None)
        token = unknown if token is None else token
        if token is None:
            raise TokenizerError(f"The vocabulary has no token for the byte {byte:#04x}.")
        found.append(token)
    return found


class UnigramEncoder:
    """SentencePiece's unigram model ("t5")."""

    keeps_stray_bytes = False

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        character_map: bytes,
        add_space_prefix: bool,
        space_as_suffix: bool,
        merge_spaces: bool,
    ) -> None:
        types, scores = vocabulary.types, vocabulary.scores or [0.0] * len(vocabulary.tokens)
        usable = {
            t: i for t, i in vocabulary.ids.items() if types[i] in (NORMAL, USER_DEFINED, UNUSED)
        }
        normal = [float(s) for s, code in zip(scores, types, strict=False) if code == NORMAL]
        unknown = vocabulary.roles.get("unk")
        if unknown is None:
            raise TokenizerError("A unigram vocabulary needs an unknown token; the file has none.")
        weights = {
            i: 0.0 if types[i] == USER_DEFINED else float(scores[i]) for i in usable.values()
        }
        self._unknown = unknown
        self._lattice = Lattice(usable, weights, unknown, unknown_score(normal))
        self._map = CharacterMap(character_map) if character_map else None
        self._add_prefix = add_space_prefix
        self._as_suffix = space_as_suffix
        self._merge_spaces = merge_spaces
        self._words = word_pattern(
            before
            for token in usable
            for before, after in pairwise(token)
            if after == SPACE_MARK != before
        )
        self._cache = WordCache(lambda word: [i for i, _ in self._lattice.cut(word)])

    def encode(self, text: str, *, at_start: bool, first: bool = False) -> list[int]:
        """Encode ``text``; consecutive unknown characters become one unknown token."""
        if self._map is not None:
            text = self._map.normalize(text)
        text = normalize_spaces(
            text,
            mark=SPACE_MARK,
            add_prefix=self._add_prefix,
            as_suffix=self._as_suffix,
            merge=self._merge_spaces,
        )
        ids = self._cache.encode(self._words.findall(text))
        if self._unknown not in ids:
            return ids
        return [i for i, run in groupby(ids) for i in ([i] if i == self._unknown else list(run))]


class WordPieceEncoder:
    """BERT's WordPiece ("bert")."""

    keeps_stray_bytes = False

    def __init__(self, vocabulary: Vocabulary, *, lowercase: bool, strip_accents: bool) -> None:
        self._ids = vocabulary.ids
        unknown = vocabulary.roles.get("unk")
        if unknown is None:
            raise TokenizerError(
                "A WordPiece vocabulary needs an unknown token; the file has none."
            )
        self._unknown = [unknown]
        self._longest = max(map(len, vocabulary.tokens))
        self._splitter = WordSplitter(lowercase=lowercase, strip_accents=strip_accents)
        self._cache = WordCache(self._encode_piece)

    def encode(self, text: str, *, at_start: bool, first: bool = False) -> list[int]:
        """Encode ``text``; where it stands makes no difference here."""
        return self._cache.encode(self._splitter.words(text))

    def _encode_piece(self, word: str) -> list[int]:
        ids = cut_word(word, self._ids, self._longest, start_mark=WORD_MARK, rest_mark="")
        return self._unknown if ids is None else ids


def piece_bytes(token: str, code: int, *, byte_encoded: Callable[[str], bytes] | None) -> bytes:
    """Return what a token contributes to text.

    Args:
        token: its text in the vocabulary.
        code: its type.
        byte_encoded: how to read the spelling of bytes, or None where U+2581 stands for a space.

    """
    if code == NORMAL:
        if byte_encoded is not None:
            return byte_encoded(token)
        token = token.replace(SPACE_MARK, " ")
    elif code == BYTE:
        return bytes([int(token[3:5], 16)]) if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token) else b""
    elif code == UNUSED:
        return b""
    return token.encode("utf-8", "surrogateescape")
