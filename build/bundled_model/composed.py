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
    forms = {
        "plain": lambda key, value: f"{key} {value}",
        "with": lambda key, value: f"with {key} {value}",
        "with the": lambda key, value: f"with the {key} {value}",
        "set": lambda key, value: f"with {key} set to {value}",
        "a": lambda key, value: f"at a {key} of {value}",
        "using": lambda key, value: f"using {value} as the {key}",
    }
    if not words.held_out:
        forms |= {
            "of": lambda key, value: f"of {key} {value}",
            "that has": lambda key, value: f"that has the {key} {value}",
            "having": lambda key, value: f"having a {key} of {value}",
            "its": lambda key, value: f"and let its {key} be {value}",
            "colon": lambda key, value: f"({key}: {value})",
            "so that": lambda key, value: f"so that the {key} is {value}",
            "taking": lambda key, value: f"taking {value} for the {key}",
            "value first": lambda key, value: f"with {value} as {key}",
            "on": lambda key, value: f"on {key} {value}",
            "under": lambda key, value: f"under {key} {value}",
            "by": lambda key, value: f"by {key} {value}",
            "which has": lambda key, value: f"which has the {key} {value}",
            "being": lambda key, value: f"the {key} being {value}",
            "given": lambda key, value: f"given a {key} of {value}",
            "must": lambda key, value: f"and the {key} must be {value}",
            "whatever": lambda key, value: f"and set the {key} to {value}",
            "equals": lambda key, value: f"so {key} equals {value}",
            "let": lambda key, value: f"let {key} be {value}",
            "goes": lambda key, value: f"{value} goes into {key}",
            "choosing": lambda key, value: f"choosing {value} as {key}",
            "provided": lambda key, value: f"provided that its {key} is {value}",
            "put": lambda key, value: f"put {value} for the {key}",
            "has": lambda key, value: f"it has {key} {value}",
            "sign": lambda key, value: f"{key}={value}",
            "and its": lambda key, value: f"and its {key} is {value}",
            "if": lambda key, value: f"if the {key} is {value}",
            "when": lambda key, value: f"when {key} is {value}",
            "of which": lambda key, value: f"of which the {key} is {value}",
            "in": lambda key, value: f"in {key} {value}",
            "from": lambda key, value: f"from {key} {value}",
            "told": lambda key, value: f"I want {value} as its {key}",
        }
    held_forms = {
        "where": lambda key, value: f"where the {key} is {value}",
        "whose": lambda key, value: f"whose {key} is {value}",
        "for": lambda key, value: f"for {key} {value}",
    }
    use_held = words.held_out and rng.random() < 0.5
    parts = []
    for index, (key, value) in enumerate(said):
        form = rng.choice(list((held_forms if use_held else forms).values()))
        parts.append(
            form(key, value) if index == 0 else rng.choice((" and ", ", ")) + form(key, value)
        )
    tail = "".join(parts)
    start = "I want to " if rng.random() < 0.15 else ""
    template = "I want" if start else "x"
    request = f"{start}{verb} {article} {noun}{' ' + tail if tail else ''}"
    return dress(words, template, with_articles(request))
