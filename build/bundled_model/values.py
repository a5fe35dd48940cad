"""Argument values, of many kinds.

Each kind gives what the user says, what the call must contain, and its JSON type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .plain import phrase
from .words import Words, is_held_out, pools

NUMBER_WORDS = tuple(
    re.findall(
        r"\w+",
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen twenty",
    )
)

CLOSED = {
    "onoff": ("on", "off"),
    "playback": ("pause", "resume", "skip", "stop", "restart", "repeat"),
    "order": ("ascending", "descending"),
    "level3": ("low", "medium", "high"),
    "leftright": ("left", "right"),
    "direction": ("forward", "backward", "left", "right", "north", "south", "east", "west"),
    "scrolldir": ("up", "down", "left", "right"),
    "operation": ("add", "subtract", "multiply", "divide"),
}
"""Small sets that a schema usually lists as an enum; not split, since the words are the meaning."""


@dataclass(frozen=True)
class Value:
    """One argument: as spoken in the request, as in the call, and its JSON type."""

    spoken: str
    value: Any
    type: str
    enum: tuple[str, ...] | None = None


def _integer(words: Words, low: int, high: int) -> Value:
    number = words.integer(low, high)
    spoken = str(number)
    if 1 <= number <= 12 and words.rng.random() < 0.15:
        spoken = NUMBER_WORDS[number]
    return Value(spoken, number, "integer" if words.rng.random() < 0.85 else "number")


def _decimal(words: Words) -> Value:
    if words.rng.random() < 0.6:
        number: float = words.integer(1, 999)
        return Value(str(number), number, "number")
    number = words.integer(1, 99) + words.rng.choice((0.5, 0.25, 0.75, 0.1, 0.2, 0.4, 0.8))
    return Value(str(number), number, "number")


def _clock(words: Words) -> str:
    rng = words.rng
    form = rng.random()
    if form < 0.55:
        return f"{rng.randint(0, 23)}:{rng.choice((0, 5, 10, 15, 20, 30, 40, 45, 50)):02d}"
    if form < 0.9:
        return f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}"
    return rng.choice(("noon", "midnight"))


def _email(words: Words) -> str:
    name = words.person()[0].lower() if words.rng.random() < 0.7 else words.invented()
    host = words.invented() if words.rng.random() < 0.6 else words.any("extension") + "mail"
    return f"{name}@{host}.{words.rng.choice(('com', 'org', 'net', 'de', 'io'))}"


def _phone(words: Words) -> str:
    rng = words.rng
    groups = [rng.randint(2, 4) for _ in range(rng.choice((1, 2, 2)))]
    return rng.choice(("-", " ")).join(
        "".join(str(rng.randint(0, 9)) for _ in range(n + 1)) for n in groups
    )


def _filename(words: Words) -> str:
    rng = words.rng
    stem = words.pick("file") if rng.random() < 0.6 else words.invented()
    if rng.random() < 0.3:
        stem += f"{rng.choice(('_', '-', ''))}{rng.randint(1, 99)}"
    return f"{stem}.{words.any('extension')}"


UNFAMILIAR = 0.45
"""Share of the training's open values that nobody expects in their place, so that a value must be
copied and cannot be remembered: made-up words, values of another kind, known ones misspelt, plain
words put together.
"""


def _unfamiliar(words: Words, kind: str, capital: bool) -> str:
    """A value that its kind does not suggest; none of the evaluation's."""
    rng = words.rng
    while True:
        form = rng.random()
        if form < 0.4:
            return phrase(words, kind)
        if form < 0.65:
            text = " ".join(words.invented(capital) for _ in range(rng.choice((1, 1, 1, 2))))
        elif form < 0.8:
            text = words.pick(rng.choice(tuple(_INVENTED)))
        else:
            text = _misspelt(words, words.pick(kind))
        if not is_held_out(text) and not any(map(is_held_out, text.split())):
            return text


def _misspelt(words: Words, text: str) -> str:
    """The text with one of its words exchanged for a made-up one, or one of its letters wrong."""
    rng, parts = words.rng, text.split()
    place = rng.randrange(len(parts))
    word = parts[place]
    if len(parts) > 1 and rng.random() < 0.5:
        parts[place] = words.invented(word[0].isupper())
    else:
        at = rng.randrange(1, len(word)) if len(word) > 1 else 0
        letter = rng.choice("abcdefghijklmnoprstuvwz")
        parts[place] = word[:at] + letter + word[at + rng.choice((0, 1)) :]
    return " ".join(parts)


def _open_string(words: Words, kind: str, invented: float, capital: bool) -> str:
    if not words.held_out and words.rng.random() < UNFAMILIAR:
        return _unfamiliar(words, kind, capital)
    if words.rng.random() >= invented:
        return words.pick(kind)
    if words.rng.random() < 0.2:
        return f"{words.invented(capital)} {words.invented(capital)}"
    return words.invented(capital)


def _any_name(words: Words) -> str:
    maker: Callable[[], str] = words.rng.choice(
        (
            lambda: words.person()[0],
            lambda: f"{words.person()[0]} {words.invented(True)}",
            lambda: _open_string(words, "city", 0.4, True),
            lambda: words.pick("color"),
            lambda: words.pick("title"),
            lambda: words.pick("country"),
            lambda: words.invented(),
            lambda: words.letters(),
        )
    )
    return maker()


_INVENTED = {  # kind: (share of made-up words, with a capital)
    "city": (0.3, True),
    "song": (0.3, True),
    "artist": (0.3, True),
    "title": (0.2, False),
    "item": (0.25, False),
    "word": (0.3, False),
    "topic": (0.25, False),
    "dish": (0.2, False),
    "room": (0.15, False),
    "device": (0.15, False),
    "page": (0.2, False),
    "field": (0.2, False),
    "button": (0.2, False),
    "column": (0.2, False),
    "app": (0.2, False),
    "folder": (0.2, False),
    "task": (0.0, False),
    "message": (0.0, False),
}

_RANGES = {
    "percent": (0, 100),
    "degrees": (5, 30),
    "minutes": (1, 90),
    "small": (1, 20),
    "hundred": (1, 500),
    "fontsize": (8, 48),
    "sides": (4, 20),
    "angle": (5, 360),
    "amount": (1, 999),
}


def draw(words: Words, kind: str) -> Value:
    """A value of one kind (see intents.txt and values.txt for the kinds)."""
    rng = words.rng
    if kind in CLOSED:
        chosen = rng.choice(CLOSED[kind])
        return Value(chosen, chosen, "string", CLOSED[kind] if rng.random() < 0.8 else None)
    if kind == "bool":
        truth = rng.random() < 0.5
        return Value("", truth, "boolean")
    if kind in _RANGES:
        return _integer(words, *_RANGES[kind])
    if kind == "number":
        return _decimal(words)
    makers: dict[str, Callable[[Words], str]] = {
        "clock": _clock,
        "email": _email,
        "phone": _phone,
        "filename": _filename,
        "anyname": _any_name,
    }
    if kind in makers:
        text = makers[kind](words)
        return Value(text, text, "string")
    if kind == "person":
        text = words.person()[0]
        if rng.random() < 0.1:
            text += " " + words.invented(True)
        return Value(text, text, "string")
    text = _open_string(words, kind, *_INVENTED.get(kind, (0.08, False)))
    enum = None
    if kind in ("color", "theme", "shape", "unit", "genre", "sport") and rng.random() < 0.15:
        options = [text, *rng.sample(pools()[kind], 3)]
        rng.shuffle(options)
        enum = tuple(dict.fromkeys(options))
    return Value(text, text, "string", enum)
