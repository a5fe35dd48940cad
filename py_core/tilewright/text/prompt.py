"""A rendered chat prompt that remembers which text must not become control tokens.

Knows nothing of templates or vocabularies; ``chat_template`` makes prompts and ``tokenizer`` reads
them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """The text of a prompt with marks inside untrusted look-alikes of control tokens.

    Attributes:
        marked: the rendered text; each look-alike of a control token that came from messages or
            tools has the sentinel inside, so that it is found by no search for control tokens.
        sentinel: one character that occurs nowhere else in the text.

    """

    marked: str
    sentinel: str

    @property
    def text(self) -> str:
        """The rendered text as a person would read it."""
        return self.unmark(self.marked)

    def unmark(self, text: str) -> str:
        """Return ``text`` without sentinels, as themselves or as an escape in JSON."""
        escaped = f"\\u{ord(self.sentinel):04x}"
        return text.replace(self.sentinel, "").replace(escaped, "")
