"""Plain English words of the training: for composed tools, parameter names and values.

A model that has seen thirty parameter names learns these thirty; among two thousand it has to read.
What the evaluation keeps for itself is left out.
"""

from __future__ import annotations

import re
from functools import cache

from .intents import held_out_names
from .words import DATA, Words, is_held_out, pools


@cache
def vocabulary(names: bool = True) -> dict[str, tuple[str, ...]]:
    """Words by kind (noun, verb, adjective, measure), none of them held out.

    ``names``: for parameters and tools; else for values, which may be what no training calls a
    parameter: a token that is never seen cannot be copied ("town").
    """
    held = {word for name in held_out_names() for word in name.split("_")} if names else set()
    for values in pools().values():
        for value in values:
            if is_held_out(value):
                held.update(value.lower().split())
    found: dict[str, tuple[str, ...]] = {}
    for line in (DATA / "vocabulary.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, _, listed = line.partition(":")
            kept = tuple(word for word in listed.split() if word not in held)
            found[kind] = found.get(kind, ()) + kept
    return found


def plain(words: Words, kind: str) -> str:
    """One word of a kind."""
    return words.rng.choice(vocabulary()[kind])


def _forms(listed: str) -> list[str]:
    return listed.split(" / ")


_THING = ("n", "a n", "a n", "n n", "n n", "a n n", "n of n", "n for P", "a a n")
_TASK = _forms(
    "v the n / v the n / v the a n / v my n / v ns / v a ns / v the n n / v the n in the n / "
    "v P / v the n and the n / v and v the n / go to the n / ask P about the n / "
    "get the n from P / look for the a n / make the n a / v the n of P / v it for P"
)
_MESSAGE = _forms(
    "the n is a / the n of P is a / I will v the n / we have to v it / do not v the n / "
    "where is the a n / I forgot my n / come to the n / the n and the n are here / "
    "your n looks a / v the n / see you at the n / you can v my n / P has the n / no more ns / "
    "there is a n in the n / the ns are a / we v at the n / thanks for the a n / I am a and a"
)
_TITLE = ("n n", "a n", "n with P", "n at the n", "a n n", "n and n", "n of the n", "P's n")
_NAME = ("A N", "N N", "The N", "N of N", "A A N", "The A N", "N and N", "N", "My A N")
_FORMS = {
    "task": _TASK,
    "message": _MESSAGE,
    "title": _TITLE,
    "topic": _TITLE,
    "song": _NAME,
    "artist": _NAME,
    "city": ("N", "N N", "A N"),
    "word": ("n", "a", "v", "n", "a n"),
    "adjective": ("a", "a", "a and a"),
}
_KINDS = {"n": "noun", "a": "adjective", "v": "verb"}


def phrase(words: Words, kind: str) -> str:
    """A made-up value such as people would give for a kind: "wipe the long table" for a task."""

    def word(match: re.Match[str]) -> str:
        letter = match[0]
        if letter == "P":
            return words.person()[0]
        said = words.rng.choice(vocabulary(names=False)[_KINDS[letter[0].lower()]])
        if letter == "ns" and not said.endswith("s"):
            said += "s"
        return said.capitalize() if letter[0].isupper() else said

    form = words.rng.choice(_FORMS.get(kind, _THING))
    return re.sub(r"\b(?:ns|[navNAP])\b", word, form)
