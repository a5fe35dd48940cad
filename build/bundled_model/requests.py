"""Function calling: tools, requests and the right call, from intents.txt and by composition.

Two sources of tools.  *Intents* are everyday functions with phrasings written by hand.
*Composed* tools are a verb and a noun with random parameters: hundreds of thousands of them, so
that the only way to be right is to read the schema and copy from the request.  Both keep their
held-out side apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from .composed import composed_request, loose_request, with_articles
from .intents import Intent, Param, intents
from .plain import phrase, plain, vocabulary
from .values import Value, draw
from .wording import LOOSENED, dress, loosened
from .words import Words, is_held_out, pools, synonyms

NO_TOOL = "None of my tools can do that."

STRANGE_NAME = 0.3
"""Share of everyday tools under a made-up name, so that names must be read and not remembered."""


@dataclass
class Drawn:
    """A tool as it stands in a schema, and one request for it with the right arguments."""

    tool: dict[str, Any]
    request: str
    arguments: dict[str, Any]
    family: str
    again: Callable[[], Drawn]
    """Another request for the same tool."""
    verb: str = ""
    noun: str = ""
    """Of a composed tool; empty otherwise."""
    intent: str = ""
    """The key of the intent; empty for a composed tool."""

    def says_verb(self) -> bool:
        """Whether the request holds the verb or a synonym of it."""
        said = self.request.lower()
        return any(word in said for word in (self.verb, *synonyms().get(self.verb, ())))


def function_schema(
    name: str, description: str, params: list[tuple[str, Value, bool]]
) -> dict[str, Any]:
    """An OpenAI tool object from (parameter name, example value, required)."""
    properties: dict[str, Any] = {}
    for key, value, _ in params:
        properties[key] = {"type": value.type} | ({"enum": list(value.enum)} if value.enum else {})
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    function["parameters"] = {
        "type": "object",
        "properties": properties,
        "required": [key for key, _, required in params if required],
    }
    return {"type": "function", "function": function}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _choose(rng: random.Random, known: list[str], held: list[str], held_out: bool) -> str:
    return rng.choice(held if held_out and held else known)


def _redraw(words: Words, kind: str, old: Value) -> Value:
    """Another value that the same schema allows."""
    value = draw(words, kind)
    if old.enum and value.value not in old.enum:
        chosen = words.rng.choice(old.enum)
        value = Value(chosen, chosen, old.type)
    return Value(value.spoken, value.value, old.type, old.enum)


@dataclass
class Slot:
    """A parameter as it stands in one schema, with the value drawn last."""

    param: Param
    name: str
    value: Value


KIN_NAME = 0.12
"""Share of the training's parameters under the name that another intent has for the like."""


@cache
def _names_of_kind(kind: str) -> frozenset[str]:
    """Known names of parameters of a kind, where no other of the same intent is of that kind."""
    return frozenset(
        name
        for intent in intents()
        if not intent.novel and [param.kind for param in intent.params].count(kind) == 1
        for param in intent.params
        if param.kind == kind
        for name in param.names
    )


def _kin_names(intent: Intent, param: Param) -> list[str]:
    """Names that other intents have for a parameter like this one, none of them held out here."""
    if [other.kind for other in intent.params].count(param.kind) > 1:
        return []
    mine = {name for other in intent.params for name in other.names + other.held_names}
    return sorted(_names_of_kind(param.kind) - mine)


TYPE_NAME = 0.3
"""Share of the training's parameters, alone in their type, under a name that tells nothing."""
UNSAID = 0.15
"""Share of the training's tools with an optional parameter more, which no request speaks of."""


def _rename_by_type(words: Words, slots: list[Slot]) -> None:
    """Give some parameters any names, where the type tells which is which."""
    types = [slot.value.type for slot in slots]
    for slot in slots:
        if types.count(slot.value.type) == 1 and words.rng.random() < TYPE_NAME:
            name = words.invented() if words.rng.random() < 0.3 else plain(words, "noun")
            if all(name != other.name for other in slots):
                slot.name = name


def _unsaid(words: Words, params: list[tuple[str, Value, bool]]) -> list[tuple[str, Value, bool]]:
    """An optional parameter that nobody will mention, for some tools of the training."""
    if words.held_out or words.rng.random() >= UNSAID:
        return []
    form = words.rng.random()
    pool, example = (
        ("toolparam_string", Value("", "", "string"))
        if form < 0.6
        else ("toolparam_int", Value("", 0, "integer"))
    )
    name = words.pick(pool) if words.rng.random() < 0.7 else words.invented()
    return [] if any(name == taken for taken, _, _ in params) else [(name, example, False)]


def draw_intent(words: Words, intent: Intent) -> Drawn:
    """A tool of this intent with fresh names, and a request for it."""
    rng, held_out = words.rng, words.held_out
    slots: list[Slot] = []
    for param in intent.params:
        if param.optional and rng.random() < 0.4:
            continue
        name = _choose(rng, param.names, param.held_names, held_out and rng.random() < 0.3)
        if not held_out and rng.random() < KIN_NAME:
            name = rng.choice(_kin_names(intent, param) or [name])
        if any(name == slot.name for slot in slots):
            name = param.key
        if len(intent.params) == 1 and rng.random() < STRANGE_NAME:
            name = words.invented()
        slots.append(Slot(param, name, draw(words, param.kind)))
    if not held_out:
        _rename_by_type(words, slots)
    if rng.random() < 0.2:
        rng.shuffle(slots)
    names = intent.names if held_out else intent.names + intent.more_names
    abouts = intent.about if held_out else intent.about + intent.more_about
    name = _choose(rng, names, intent.held_names, held_out and rng.random() < 0.5)
    about = _choose(rng, abouts, intent.held_about, held_out and rng.random() < 0.5)
    if rng.random() < STRANGE_NAME:
        stranger = words.invented()
        name = rng.choice((stranger, f"{stranger}_{name}", f"{name}_{stranger}"))
    elif rng.random() < 0.15:
        about = ""
    if rng.random() < 0.08:
        name = _camel(name)
    params = [(s.name, s.value, not s.param.optional) for s in slots]
    tool = function_schema(name, about, params + _unsaid(words, params))
    return _ask_intent(words, intent, tool, slots)


def _ask_intent(words: Words, intent: Intent, tool: dict[str, Any], slots: list[Slot]) -> Drawn:
    """A request for a tool with this schema, with new values."""
    rng = words.rng
    template = _choose(rng, intent.ask, intent.held_ask, words.held_out)
    if not words.held_out and rng.random() < LOOSENED:
        template = loosened(words, template)
    by_key: dict[str, tuple[Value, bool]] = {}
    for slot in slots:
        slot.value = _redraw(words, slot.param.kind, slot.value)
        for _ in range(20):
            if all(slot.value.value != value.value for value, _ in by_key.values()):
                break
            slot.value = _redraw(words, slot.param.kind, slot.value)
        said = not slot.param.optional or ("[" in template and rng.random() < 0.6)
        by_key[slot.param.key] = slot.value, said

    def optional_part(match: re.Match[str]) -> str:
        keys = re.findall(r"\{(\w+)", match[1])
        return match[1] if all(key in by_key and by_key[key][1] for key in keys) else ""

    def spoken(match: re.Match[str]) -> str:
        value = by_key[match[1]][0]
        if match[2] is None:
            return value.spoken
        yes, no = match[2].split("/")
        return yes if value.value else no

    request = re.sub(r"\[(.*?)\]", optional_part, template)
    request = re.sub(r"\{(\w+)(?::([^}]*))?\}", spoken, request)
    arguments = {slot.name: slot.value.value for slot in slots if by_key[slot.param.key][1]}
    return Drawn(
        tool,
        dress(words, template, request),
        arguments,
        intent.family,
        lambda: _ask_intent(words, intent, tool, slots),
        intent=intent.key,
    )


LOOSE = 0.45
"""Share of composed tools, in training, whose requests share only a word or two with them."""
_COMPOSED_KINDS = (
    "anyname",
    "person",
    "city",
    "color",
    "word",
    "code",
    "filename",
    "item",
    "adjective",
)


def _composed_value(words: Words, kind: str) -> Value:
    if kind == "phrase":
        text = phrase(words, words.rng.choice(("thing", "title", "song", "word")))
        return Value(text, text, "string")
    if kind == "code":
        text = words.letters()
        return Value(text, text, "string")
    value = draw(words, kind)
    return Value(value.spoken, value.value, value.type)


def _composed_params(words: Words) -> dict[str, tuple[str, Value]]:
    """Zero to three parameters: name -> (kind, value)."""
    rng = words.rng
    params: dict[str, tuple[str, Value]] = {}
    amounts = (0, 1, 1, 1, 2, 2, 3) if words.held_out else (0, 1, 1, 2, 2, 2, 3, 3)
    for _ in range(rng.choice(amounts)):
        if rng.random() < 0.4:
            name, kind = (
                words.pick("toolparam_int"),
                rng.choice(("hundred", "small", "percent", "number")),
            )
        else:
            name = words.pick("toolparam_string") if rng.random() < 0.85 else words.invented()
            kind = rng.choice(_COMPOSED_KINDS)
        if not words.held_out:
            name = _plain_name(words, name, kind)
            kind = "phrase" if kind not in _NUMBERS and rng.random() < 0.2 else kind
        params[name] = kind, _composed_value(words, kind)
    return params


PLAIN = 0.5
"""Share of the training's composed tools and of their parameters that have a plain word as name."""


def _plain_name(words: Words, name: str, kind: str) -> str:
    """The name of a parameter, or a plain word (or two) instead."""
    rng = words.rng
    if rng.random() >= PLAIN:
        return name if rng.random() < 0.9 else words.invented()
    word = plain(words, "measure" if kind in _NUMBERS and rng.random() < 0.6 else "noun")
    return (
        f"{plain(words, rng.choice(('noun', 'adjective')))}_{word}" if rng.random() < 0.15 else word
    )


def tool_word(words: Words, kind: str) -> str:
    """A "verb" or a "noun" of composed tools."""
    if not words.held_out and words.rng.random() < PLAIN:
        return plain(words, kind)
    return words.rng.choice(pools()[f"tool{kind}"])


def is_tool_word(word: str, kind: str) -> bool:
    """Whether a word is a "verb" or a "noun" of composed tools."""
    return word in pools()[f"tool{kind}"] or word in vocabulary()[kind]


@cache
def _everyday_names() -> frozenset[str]:
    """Names of the intents' tools, which no composed tool of the training may bear."""
    return frozenset(name for intent in intents() for name in intent.names + intent.held_names)


def draw_composed(words: Words, verb: str | None = None, noun: str | None = None) -> Drawn:
    """A tool made of a verb and a noun (or of invented words) with random parameters."""
    rng = words.rng
    invented = verb is None and noun is None and rng.random() < 0.35
    while True:
        chosen_verb = verb or (words.invented() if invented else tool_word(words, "verb"))
        chosen_noun = noun or (words.invented() if invented else tool_word(words, "noun"))
        clear = words.held_out or f"{chosen_verb}_{chosen_noun}" not in _everyday_names()
        if (verb and noun) or (
            clear and is_held_out(f"{chosen_verb} {chosen_noun}") == words.held_out
        ):
            break
    name = f"{chosen_verb}_{chosen_noun}"
    loose = not words.held_out and rng.random() < LOOSE
    hidden = loose and rng.random() < 0.35
    if hidden:
        name = words.invented()
    elif rng.random() < 0.1:
        name = _camel(name)
    elif rng.random() < 0.08:
        name = f"{chosen_noun}_{chosen_verb}"
    params = _composed_params(words)
    if loose:  # at most one number and one word, so that it is clear which is which
        params = {kind in _NUMBERS: (key, (kind, value)) for key, (kind, value) in params.items()}
        params = dict(params.values())
    about = (
        ""
        if not hidden and rng.random() < 0.3
        else with_articles(
            rng.choice(
                (
                    f"{chosen_verb.capitalize()} the {chosen_noun}.",
                    f"{chosen_verb.capitalize()} a {chosen_noun}.",
                    f"Use this to {chosen_verb} the {chosen_noun}.",
                )
            )
        )
    )
    schema = [(key, value, True) for key, (_, value) in params.items()]
    tool = function_schema(name, about, schema + _unsaid(words, schema))
    return _ask_composed(words, tool, chosen_verb, chosen_noun, params, loose)


def _ask_composed(
    words: Words,
    tool: dict[str, Any],
    verb: str,
    noun: str,
    params: dict[str, tuple[str, Value]],
    loose: bool,
) -> Drawn:
    """A request for a composed tool, with new values."""
    rng = words.rng
    name = tool["function"]["name"]
    values: dict[str, Value] = {}
    for key, (kind, _) in params.items():
        values[key] = _composed_value(words, kind)
        while any(values[key].value == values[other].value for other in values if other != key):
            values[key] = _composed_value(words, kind)
    spoken_verb = verb
    if verb in synonyms() and rng.random() < 0.3:
        spoken_verb = rng.choice(synonyms()[verb])
    if loose:
        request = loose_request(words, spoken_verb, noun, list(values.values()))
    else:
        request = composed_request(words, spoken_verb, noun, name, list(values.items()))
    arguments = {key: value.value for key, value in values.items()}
    return Drawn(
        tool,
        request,
        arguments,
        name,
        lambda: _ask_composed(words, tool, verb, noun, params, loose),
        verb,
        noun,
    )


_NUMBERS = ("hundred", "small", "percent", "number")
