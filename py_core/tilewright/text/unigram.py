"""SentencePiece's unigram model: the most probable cut of a text, and its normalizer.

Knows pieces, scores and the character map of SentencePiece models; does not know special tokens or
file formats. Source: Kudo 2018 (arXiv:1804.10959) and the behaviour of llama.cpp's UGM tokenizer
(src/llama-vocab.cpp, ggml 0.25.3).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping

from tilewright.errors import TokenizerError

_UNKNOWN_PENALTY = 10.0
SPACE_MARK = "\u2581"


class Lattice:
    """Finds the cut with the greatest sum of scores (Viterbi).

    Args:
        pieces: id of every piece that may be used.
        scores: log probability of each id.
        unknown_id: id for characters that no piece covers.
        unknown_score: its score.

    """

    def __init__(
        self,
        pieces: Mapping[str, int],
        scores: Mapping[int, float],
        unknown_id: int,
        unknown_score: float,
    ) -> None:
        self._pieces = {text: (scores[i], i) for text, i in pieces.items()}
        lengths: dict[str, set[int]] = {}
        for text in pieces:
            if text:
                lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(found) for first, found in lengths.items()}
        self._unknown = (unknown_score, unknown_id)

    def cut(self, text: str) -> list[tuple[int, str]]:
        """Return (id, text) of each piece; unknown characters come one by one."""
        count = len(text)
        best = [float("-inf")] * (count + 1)
        best[0] = 0.0
        step: list[tuple[int, int]] = [(0, 0)] * (count + 1)
        for start in range(count):
            base = best[start]
            single = False
            for length in self._lengths.get(text[start], ()):
                end = start + length
                if end > count:
                    break
                found = self._pieces.get(text[start:end])
                if found is not None:
                    single = single or length == 1
                    if base + found[0] > best[end]:
                        best[end] = base + found[0]
                        step[end] = (start, found[1])
            if not single and base + self._unknown[0] > best[start + 1]:
                best[start + 1] = base + self._unknown[0]
                step[start + 1] = (start, self._unknown[1])
        pieces: list[tuple[int, str]] = []
        end = count
        while end:
            start, token_id = step[end]
            pieces.append((token_id, text[start:end]))
            end = start
        pieces.reverse()
        return pieces


def unknown_score(normal_scores: list[float]) -> float:
    """Return the score of unknown characters: ten below the worst normal piece."""
    return min(normal_scores, default=0.0) - _UNKNOWN_PENALTY


class CharacterMap:
    """The ``precompiled_charsmap`` of a SentencePiece model: longest-prefix replacements.

    The layout is a 32-bit length, then that many bytes of a double-array trie (Kanda 2018; unit:
    offset in bits 10 to 30 with a shift flag in bit 9, leaf flag in bit 8, label in bits 0 to 7),
    then zero-terminated replacement strings.

    Raises:
        TokenizerError: the map is truncated or points outside itself (at use).

    """

    def __init__(self, blob: bytes) -> None:
        if len(blob) < 4:
            raise TokenizerError("The character map of the vocabulary is too short.")
        (size,) = struct.unpack_from("<I", blob)
        if size % 4 or size + 4 >= len(blob):
            raise TokenizerError("The character map of the vocabulary is damaged.")
        units = array("I")
        units.frombytes(blob[4 : 4 + size])
        if struct.pack("=I", 1) != struct.pack("<I", 1):
            units.byteswap()
        self._units = units
        self._replacements = blob[4 + size :]
        self._short: dict[str, str] = {}

    def normalize(self, text: str) -> str:
        """Replace the longest known prefix, again and again, from left to right."""
        out: list[str] = []
        at = 0
        while at < len(text):
            length, replacement = self._longest(text, at)
            if length:
                out.append(replacement)
                at += length
            else:
                out.append(text[at])
                at += 1
        return "".join(out)

    def _longest(self, text: str, at: int) -> tuple[int, str]:
        """Return (characters matched, replacement); (0, "") where nothing matches."""
        units = self._units
        try:
            node = _offset(units[0])
            found = -1
            found_length = 0
            for length, char in enumerate(text[at : at + 64], 1):
                value = -1
                for byte in char.encode("utf-8", "surrogatepass"):
                    if byte == 0:
                        return self._replacement(found, found_length)
                    node ^= byte
                    unit = units[node]
                    if unit & 0x8000_00FF != byte:
                        return self._replacement(found, found_length)
                    node ^= _offset(unit)
                    value = units[node] & 0x7FFF_FFFF if unit >> 8 & 1 else -1
                if value >= 0:
                    found, found_length = value, length
            return self._replacement(found, found_length)
        except IndexError:
            raise TokenizerError("The character map of the vocabulary is damaged.") from None

    def _replacement(self, start: int, length: int) -> tuple[int, str]:
        if not length:
            return 0, ""
        end = self._replacements.find(b"\0", start)
        if start >= len(self._replacements) or end < 0:
            raise TokenizerError("The character map of the vocabulary is damaged.")
        return length, self._replacements[start:end].decode("utf-8", "replace")


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def normalize_spaces(
    text: str, *, mark: str, add_prefix: bool, as_suffix: bool, merge: bool
) -> str:
    """Turn U+0020 into ``mark`` as SentencePiece does.

    Args:
        text: normalized text.
        mark: what a space becomes.
        add_prefix: put a space before the first word (or after the last one).
        as_suffix: where ``add_prefix`` puts it.
        merge: runs of spaces become one, those at the ends vanish.

    """
    if merge:
        words = [word for word in text.split(" ") if word]
        # Even without add_prefix the first word gets a mark: llama.cpp writes one before each word.
        body = "".join(mark + word for word in words)
    else:
        body = text.replace(" ", mark)
        if add_prefix and not as_suffix and text.strip(" "):
            body = mark + body
    return body + mark if add_prefix and as_suffix else body
