"""What people ask for: the intents of data/intents.txt and data/extra/*.txt.

Each has a tool's possible names, descriptions and parameters, and the phrasings of its requests,
with what belongs to the evaluation alone kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from .words import DATA, extra_files


@dataclass
class Param:
    """A parameter of an intent: its possible names and the kind of its values."""

    key: str
    names: list[str]
    held_names: list[str]
    kind: str
    optional: bool


@dataclass
class Intent:
    """One block of intents.txt."""

    key: str
    family: str
    novel: bool
    extra: bool = False
    names: list[str] = field(default_factory=list)
    held_names: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    held_about: list[str] = field(default_factory=list)
    more_names: list[str] = field(default_factory=list)
    more_about: list[str] = field(default_factory=list)
    """Of the training alone, so that the held-out requests stay what they were."""
    params: list[Param] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)
    held_ask: list[str] = field(default_factory=list)


def _split(text: str, separator: str | None) -> tuple[list[str], list[str]]:
    known, _, held = text.partition("!")
    return (
        [part.strip() for part in known.split(separator) if part.strip()],
        [part.strip() for part in held.split(separator) if part.strip()],
    )


@cache
def intents() -> tuple[Intent, ...]:
    """All intents: ``novel`` ones belong to the evaluation alone, ``extra`` to the training."""
    found: list[Intent] = []
    files = (DATA / "intents.txt", *extra_files())
    for line in "\n".join(file.read_text(encoding="utf-8") for file in files).splitlines():
        word, _, rest = line.partition(" ")
        if word in ("intent", "novel", "extra"):
            key, family = rest.split()
            found.append(Intent(key, family, word == "novel", word == "extra"))
        elif word == "names":
            found[-1].names, found[-1].held_names = _split(rest, None)
        elif word == "about":
            found[-1].about, found[-1].held_about = _split(rest, "/")
        elif word == "more":
            what, _, listed = rest.partition(" ")
            if what == "names":
                found[-1].more_names = listed.split()
            else:
                found[-1].more_about = _split(listed, "/")[0]
        elif word in ("param", "param?"):
            names, _, kind = rest.partition("=")
            key, _, names = names.strip().partition(" ")
            known, held = _split(names, "/")
            found[-1].params.append(Param(key, known, held, kind.strip(), word == "param?"))
        elif word == "ask":
            found[-1].ask.append(rest)
        elif word == "held":
            found[-1].held_ask.append(rest)
    return tuple(found)


@cache
def held_out_names() -> frozenset[str]:
    """Parameter names that belong to the evaluation alone."""
    return frozenset(
        name for intent in intents() for param in intent.params for name in param.held_names
    )
