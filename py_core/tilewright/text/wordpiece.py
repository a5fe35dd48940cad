"""BERT's WordPiece: words, cleaned and separated from punctuation, cut greedily from the left.

Knows the cleaning rules and a table of pieces; does not know special tokens or file formats.
GGUF files spell a piece that starts a word with U+2581 in front, and others bare.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.text.unicode_data import WHITESPACE, canonical_base, category, simple_lower

WORD_MARK = "\u2581"
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""BERT's "Chinese characters"; the sixth range starts at 2B920 where BERT says 2B820, as in Hugging
Face's tokenizers and llama.cpp."""


def is_ideograph(code: int) -> bool:
    """Tell whether BERT puts spaces around code point ``code``."""
    return code >= 0x3400 and any(low <= code <= high for low, high in _IDEOGRAPHS)


class WordSplitter:
    """Cleans text and cuts it into words and single punctuation marks.

    Args:
        lowercase: fold to lower case, character by character.
        strip_accents: keep only the base of composed characters and drop combining marks.

    """

    def __init__(self, *, lowercase: bool, strip_accents: bool) -> None:
        self._lowercase = lowercase
        self._strip_accents = strip_accents
        self._forms: dict[str, tuple[str, str]] = {}

    def words(self, text: str) -> list[str]:
        """Return the words in order."""
        words: list[str] = []
        current: list[str] = []
        for char in text:
            form = self._forms.get(char)
            if form is None:
                if len(self._forms) > 20_000:
                    self._forms.clear()
                form = self._forms[char] = self._form(char)
            kind, shown = form
            if kind == "letter":
                current.append(shown)
            elif kind != "nothing":
                if current:
                    words.append("".join(current))
                    current = []
                if kind == "alone":
                    words.append(shown)
        if current:
            words.append("".join(current))
        return words

    def _form(self, char: str) -> tuple[str, str]:
        """Return what becomes of ``char``: (letter | alone | space | nothing, its new form)."""
        if self._strip_accents:
            char = canonical_base(char)
        code = ord(char)
        if code in WHITESPACE:
            return "space", ""
        kind = category(code)
        if code in (0, 0xFFFD) or kind in ("Cc", "Cf", "Co", "Cs"):
            return "nothing", ""
        if self._strip_accents and kind[0] == "M":
            return "nothing", ""
        shown = simple_lower(char) if self._lowercase else char
        if kind[0] == "P" or (code < 0x7F and kind[0] == "S") or is_ideograph(code):
            return "alone", shown
        return "letter", shown


def cut_word(
    word: str, pieces: Mapping[str, int], longest: int, *, start_mark: str, rest_mark: str
) -> list[int] | None:
    """Cut one word into its longest pieces from the left.

    Args:
        word: a word.
        pieces: id of each piece.
        longest: length of the longest piece in characters.
        start_mark: what pieces at the start of a word have in front.
        rest_mark: what the others have in front.

    Returns:
        The ids, or None where some part is covered by no piece.

    """
    ids: list[int] = []
    mark = start_mark
    at = 0
    # A GGUF word carries its mark as a character of its own, so the mark alone can be a piece.
    if start_mark and not rest_mark:
        word, mark = start_mark + word, ""
    while at < len(word):
        for end in range(min(len(word), at + longest), at, -1):
            found = pieces.get(mark + word[at:end])
            if found is not None:
                ids.append(found)
                at = end
                break
        else:
            return None
        mark = rest_mark
    return ids
