"""Finds special tokens in text before it is cut; knows a Vocabulary and nothing of models."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tilewright.text.vocabulary import Vocabulary

_C_SPACE = " \t\n\v\f\r"
"""What C's isspace strips."""


class SpecialTokenFinder:
    """Cuts special tokens out of text, longest first, as llama.cpp does.

    Args:
        vocabulary: the vocabulary whose ``specials`` are looked for.

    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens = vocabulary.tokens
        self._vocabulary = vocabulary
        self._all = [(i, tokens[i]) for i in vocabulary.specials]
        self._visible = [(i, text) for i, text in self._all if i not in vocabulary.hidden]
        self._first_of_all = {text[0] for _, text in self._all}
        self._first_of_visible = {text[0] for _, text in self._visible}

    def partition(
        self, text: str, *, parse_special: bool, forbidden: Collection[int] = ()
    ) -> list[str | int]:
        """Return ids of special tokens and the text between them, in order.

        Args:
            text: the text; empty text gives an empty list.
            parse_special: also find control tokens; without it only user-defined ones.
            forbidden: ids that must not be found.

        """
        if not text:
            return []
        wanted, first = (
            (self._all, self._first_of_all)
            if parse_special
            else (self._visible, self._first_of_visible)
        )
        if not any(char in text for char in first):
            return [text]
        fragments: list[str | int] = [text]
        for token_id, token in wanted:
            if token in text and token_id not in forbidden:
                fragments = list(self._cut_all(fragments, token_id, token))
        return fragments

    def _cut_all(
        self, fragments: Iterable[str | int], token_id: int, token: str
    ) -> Iterable[str | int]:
        strip_left = token_id in self._vocabulary.strip_left
        strip_right = token_id in self._vocabulary.strip_right
        for fragment in fragments:
            if isinstance(fragment, int) or token not in fragment:
                yield fragment
                continue
            rest = fragment
            while True:
                left, found, rest = rest.partition(token)
                if not found:
                    break
                if strip_left:
                    left = left.rstrip(_C_SPACE)
                if left:
                    yield left
                yield token_id
                if strip_right:
                    rest = rest.lstrip(_C_SPACE)
            if left:
                yield left
