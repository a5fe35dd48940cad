"""What people say to have a composed tool called: by the book, or with a word or two of it."""

from __future__ import annotations

import re

from .values import Value
from .wording import dress
from .words import Words

_LOOSE_STARTS = re.findall(
    r"[^/]+",
    "I want /I need /get me /let me have /how about /give me /can we have /what about /we need /"
    "there should be /please get /do /make it /now /I am thinking of /time for /"
    "take care of /here: /so, ",
)
_LOOSE_NUMBERS = ("{}", "with {}", "at {}", "of {}", "{} times", "to {}", "by {}", "up to {}")
_LOOSE_WORDS = ("{}", "for {}", "to {}", "with {}", "in {}", "called {}", "about {}", "from {}")

_FORMS = (
    "{key} {value}",
    "with {key} {value}",
    "with the {key} {value}",
    "with {key} set to {value}",
    "at a {key} of {value}",
    "using {value} as the {key}",
)
"""How a parameter and its value are said, in training and evaluation."""
_MORE_FORMS = (
    "of {key} {value}",
    "that has the {key} {value}",
    "having a {key} of {value}",
    "and let its {key} be {value}",
    "({key}: {value})",
    "so that the {key} is {value}",
    "taking {value} for the {key}",
    "with {value} as {key}",
    "on {key} {value}",
    "under {key} {value}",
    "by {key} {value}",
    "which has the {key} {value}",
    "the {key} being {value}",
    "given a {key} of {value}",
    "and the {key} must be {value}",
    "and set the {key} to {value}",
    "so {key} equals {value}",
    "let {key} be {value}",
    "{value} goes into {key}",
    "choosing {value} as {key}",
    "provided that its {key} is {value}",
    "put {value} for the {key}",
    "it has {key} {value}",
    "{key}={value}",
    "and its {key} is {value}",
    "if the {key} is {value}",
    "when {key} is {value}",
    "of which the {key} is {value}",
    "in {key} {value}",
    "from {key} {value}",
    "I want {value} as its {key}",
    "in which the {key} is {value}",
    "while its {key} is {value}",
    "since the {key} is {value}",
    "as the {key} is {value}",
    "as long as {key} is {value}",
    "assuming the {key} is {value}",
    "because its {key} is {value}",
    "once the {key} is {value}",
    "until the {key} is {value}",
    "that comes with {key} {value}",
    "who has the {key} {value}",
    "at which the {key} is {value}",
    "whatever else, the {key} is {value}",
    "not forgetting {key} {value}",
    "at {key} {value}",
    "to {key} {value}",
    "as {key} {value}",
    "about {key} {value}",
    "into {key} {value}",
    "via {key} {value}",
    "through {key} {value}",
    "near {key} {value}",
    "after {key} {value}",
    "per {key} {value}",
    "within {key} {value}",
    "against {key} {value}",
    "plus {key} {value}",
    "with {value} {key}",
    "in {value} {key}",
    "of {value} {key}",
    "the {value} {key}",
    "and a {key} that is {value}",
    "its {key} shall be {value}",
    "make {value} the {key}",
    "{value} is the {key}",
)
"""In training only."""
_HELD_FORMS = (
    "where the {key} is {value}",
    "whose {key} is {value}",
    "for {key} {value}",
)
"""In evaluation only."""


def loose_request(words: Words, verb: str, noun: str, values: list[Value]) -> str:
    """A request that shares a word or two with its tool and names no parameter."""
    rng = words.rng
    article = rng.choice(("the", "a", "my", "this", "that", ""))
    subject = rng.choice(
        (
            f"{article} {noun}",
            f"{article} {noun}",
            f"{verb} {article} {noun}",
            f"{article} {noun} to {verb}",
            f"to {verb} {article} {noun}",
        )
    )
    pieces = [subject]
    for value in values:
        number = not isinstance(value.value, str)
        pieces.append(rng.choice(_LOOSE_NUMBERS if number else _LOOSE_WORDS).format(value.spoken))
    if rng.random() < 0.5:
        rng.shuffle(pieces)
    text = rng.choice(_LOOSE_STARTS) + rng.choice((" ", " ", ", ")).join(pieces)
    return dress(words, "I want", with_articles(re.sub(r" +", " ", text).strip()))


def with_articles(text: str) -> str:
    """Return the text with "an" where a vowel follows."""
    return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)


def composed_request(
    words: Words, verb: str, noun: str, name: str, params: list[tuple[str, Value]]
) -> str:
    """A request that says the verb, the noun and every parameter's name."""
    rng = words.rng
    said = [(key.replace("_", " "), value.spoken) for key, value in params]
    if rng.random() < 0.2:
        rng.shuffle(said)
    article = rng.choice(("the", "the", "a", "my", "this"))
    style = rng.random()
    if style < 0.12:
        pairs = ", ".join(
            f"{key} {rng.choice(('=', 'is', ''))} {value}".replace("  ", " ") for key, value in said
        )
        joiner = rng.choice((": ", " with ")) if said else ""
        return dress(words, "use", f"{rng.choice(('use', 'call', 'run'))} {name}{joiner}{pairs}")
    if style < 0.2 and said:
        pairs = " and ".join(f"the {key} should be {value}" for key, value in said)
        return dress(words, "do", f"{verb} {article} {noun}; {pairs}").rstrip("?")
    forms = _FORMS if words.held_out else _FORMS + _MORE_FORMS
    use_held = words.held_out and rng.random() < 0.5
    parts = []
    for index, (key, value) in enumerate(said):
        form = rng.choice(_HELD_FORMS if use_held else forms)
        joiner = rng.choice((" and ", ", ")) if index else ""
        parts.append(joiner + form.format(key=key, value=value))
    tail = "".join(parts)
    start = "I want to " if rng.random() < 0.15 else ""
    template = "I want" if start else "x"
    request = f"{start}{verb} {article} {noun}{' ' + tail if tail else ''}"
    return dress(words, template, with_articles(request))
