"""What stands around a bare request: politeness, openings, small words, capitals, final marks.

The training's side is richer than the evaluation's, whose held-out prefixes it never shows.
"""

from __future__ import annotations

import re

from .words import Words

_STATEMENT_WORDS = frozenset(
    re.findall(
        r"\w+",
        "what how i is are do will any my the we current latest at who which there our does it"
        " robot volume font shopping weather table alarm note new wifi wireless elevator"
        " brightness",
    )
)
"""First words of requests that take no "please" or "can you" before them."""

_PREFIXES = (
    "please ",
    "can you ",
    "could you ",
    "hey, ",
    "would you ",
    "I want you to ",
    "please can you ",
    "now ",
)
_MORE_PREFIXES = (
    "hi, ",
    "hello, ",
    "okay, ",
    "I would like you to ",
    "will you ",
    "I'd like to ",
    "let us ",
    "you should ",
    "quick, ",
    "and now ",
    "then ",
    "next, ",
    "could you please ",
    "it would be nice to ",
    "help me to ",
    "you can ",
    "I think you should ",
    "be so nice and ",
    "do me a favor and ",
    "when you have time, ",
    "if you can, ",
    "first ",
    "also ",
    "just ",
    "maybe you can ",
    "I ask you to ",
    "it is time to ",
    "somebody should ",
    "try to ",
    "can we ",
    "may I ask you to ",
)
"""Only in training; the evaluation draws from the first tuple and the next."""
_HELD_PREFIXES = ("kindly ", "would you please ", "I need you to ")
_SUFFIXES = (" please", " for me", " now", ", thanks", " right away")
_OPENINGS = tuple(
    re.findall(
        r"[^/]+",
        "listen, /well, /so, /oh, /hm, /yes, /good, /right, /I am busy, /I am back, /good morning, "
        "/good evening, /you know, /my friend, /computer, /assistant, /one thing: /I have a wish: "
        "/another thing: /wait, /sorry, /great, /as always, /as I said, /today: /thank you, and ",
    )
)
_CLOSINGS = tuple(
    re.findall(
        r"[^/]+",
        ", okay/, that is all/, it is important/, if you can/, as soon as possible/, when you can/"
        ", thank you/, my friend/, will you/, that would be nice/, I am in a hurry/, as always",
    )
)
_IMPERATIVES = frozenset(
    re.findall(
        r"\w+",
        "x use do turn switch flip set make put power dim change raise lower adjust color"
        " give paint heat bring keep get start stop lock unlock leave run count ring wake"
        " remind add schedule create plan arrange show list tell find navigate take lead"
        " book search reserve fly order buy call send write text message say shoot dial"
        " phone connect save remember delete remove cross clear forget mark check complete"
        " tick close note play translate define look google convert express transfer pay"
        " move roll throw open go jump load fill type enter press click push hit activate"
        " select apply sort filter hide limit scroll slide draw sketch drive travel rotate"
        " spin pick grab lift hold reach launch read display view erase trash destroy"
        " store drop place shift rename name snap capture ask quiz log record track brew"
        " prepare vacuum clean sweep feed block ignore invite summarize shorten share"
        " print copy pair link follow redeem rate challenge water charge zoom undo revert"
        " export download carry speak talk telephone browse research report describe teach"
        " wipe kill toss scrap insert replace correct label scratch skip include catch"
        " collect seize",
    )
)
"""First words that take a "please" or "can you" before them, in training."""
_FILLERS = ("just", "really", "maybe", "then", "quickly", "simply", "again", "only", "now", "soon")
_SMALL = frozenset(
    re.findall(r"\w+", "the a my please i to in for is should be want need of on at it me you can")
)
LOOSENED = 0.3
"""Share of the training's everyday requests with a small word left out or put in, or more around
them: a request must be understood by its telling words, whatever stands between.
"""


def loosened(words: Words, template: str) -> str:
    """A template with a small word less or a filling word more, outside of slots and brackets."""
    rng = words.rng
    plain = re.sub(r"\[.*?\]|\{.*?\}", lambda match: "#" * len(match[0]), template)
    if rng.random() < 0.5:
        small = [m for m in re.finditer(r"\b[A-Za-z]+ ", plain) if m[0].strip() in _SMALL]
        if small and plain.count(" ") > 2:
            left_out = rng.choice(small)
            return template[: left_out.start()] + template[left_out.end() :]
    gaps = [m.start() for m in re.finditer(r"(?<=[a-z]) (?=[a-z])", plain)]
    if not gaps:
        return template
    gap = rng.choice(gaps)
    return f"{template[:gap]} {rng.choice(_FILLERS)}{template[gap:]}"


def dress(words: Words, template: str, request: str) -> str:
    """Politeness, capital letter and final mark around a bare request."""
    rng = words.rng
    if not words.held_out and rng.random() < LOOSENED / 2:
        if rng.random() < 0.6:
            opening = rng.choice(_OPENINGS)
            request = (
                opening[0].upper() + opening[1:] if rng.random() < 0.6 else opening
            ) + request
            return request + rng.choice(("", ".", ".", "!"))
        request += rng.choice(_CLOSINGS)
        return (request[0].upper() + request[1:]) if rng.random() < 0.6 else request
    first = re.split(r"[ ,:]", template, maxsplit=1)[0].lower()
    imperative = first not in _STATEMENT_WORDS and not template.startswith(("{", "["))
    if not words.held_out:
        imperative = imperative and first in _IMPERATIVES
    question = first in ("what", "how", "is", "are", "do", "will", "any", "which", "who", "does")
    if (
        imperative
        and not request.lower().startswith(("please", "let", "could"))
        and rng.random() < 0.45
    ):
        if words.held_out:
            prefix = rng.choice(_HELD_PREFIXES if rng.random() < 0.5 else _PREFIXES)
        else:
            prefix = rng.choice(_PREFIXES + _MORE_PREFIXES)
        request = prefix + request
        question = prefix.startswith(("can", "could", "would", "will", "please can"))
    elif imperative and rng.random() < 0.15:
        request += rng.choice(_SUFFIXES)
    if rng.random() < 0.65 and not template.startswith(("{", "[")):
        request = request[0].upper() + request[1:]
    ending = rng.random()
    if question:
        return request + ("?" if ending < 0.85 else "")
    return request + ("." if ending < 0.5 else "!" if ending < 0.55 else "")
