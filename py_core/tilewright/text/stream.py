"""Turns ids into text as they come, holding back unfinished UTF-8 characters.

Knows bytes of tokens through a callable; does not know vocabularies.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable


class StreamDecoder:
    """Decodes one sequence of ids.

    Args:
        token_bytes: bytes of an id; may raise for an id outside the vocabulary.
        strip_first_space: drop one space at the very start (SentencePiece puts it there on
            encoding).

    """

    def __init__(
        self, token_bytes: Callable[[int], bytes], *, strip_first_space: bool = False
    ) -> None:
        self._token_bytes = token_bytes
        self._strip = strip_first_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the text that has become certain with ``token_id`` (often empty or whole)."""
        piece = self._token_bytes(token_id)
        if self._strip and piece:
            self._strip = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def push_all(self, ids: Iterable[int]) -> str:
        """Return the text that has become certain with all of ``ids``."""
        return "".join([self.push(i) for i in ids])

    def flush(self) -> str:
        """Return U+FFFD for an unfinished character, if any, and start anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
