"""JSON's own grammar: strings by their characters, and any value.

Knows nothing of schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from .code_points import ANY, Ranges, intersect, normalise, subtract, utf8
from .expression import UNBOUNDED, Grammar, Node

COLON, COMMA = ": ", ", "
MAX_LENGTH = 20_000
"""Most characters of a string with a limit; a larger ``maxLength`` counts as this."""
_ESCAPED: Ranges = [(0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C)]
_SHORT = {0x22: '\\"', 0x5C: "\\\\", 0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 9: "\\t"}


def character(grammar: Grammar, ranges: Iterable[tuple[int, int]]) -> Node:
    """Return one character out of ``ranges`` inside a JSON string, in its usual spelling."""
    wanted = intersect(normalise(ranges), ANY)
    parts = [utf8(grammar, subtract(wanted, _ESCAPED))]
    for low, high in intersect(wanted, _ESCAPED):
        for code in range(low, high + 1):
            parts.append(grammar.literal(_SHORT.get(code) or f"\\u{code:04x}"))
    return grammar.choice(parts)


def any_character(grammar: Grammar) -> Node:
    """Return any character inside a JSON string, in all its spellings (but surrogate pairs)."""
    digit = grammar.choice([_range(grammar, "09"), _range(grammar, "af"), _range(grammar, "AF")])
    low = grammar.sequence([_range(grammar, "07"), digit, digit])
    first = grammar.choice([_range(grammar, "09"), *(grammar.literal(c) for c in "aAbBcCeEfF")])
    d = grammar.sequence([grammar.any_of(["d", "D"]), low])
    code = grammar.choice([grammar.sequence([first, digit, digit, digit]), d])
    escape = grammar.choice(
        [*(grammar.literal(c) for c in '"\\/bfnrt'), grammar.sequence([grammar.literal("u"), code])]
    )
    plain = utf8(grammar, subtract(ANY, _ESCAPED))
    return grammar.choice([plain, grammar.sequence([grammar.literal("\\"), escape])])


def _range(grammar: Grammar, ends: str) -> Node:
    return utf8(grammar, [(ord(ends[0]), ord(ends[1]))])


def quoted(grammar: Grammar, body: Node) -> Node:
    """Return ``body`` between quotes."""
    return grammar.sequence([grammar.literal('"'), body, grammar.literal('"')])


def string(grammar: Grammar, low: int = 0, high: int | None = None) -> Node:
    """Return any string of ``low`` to ``high`` characters."""
    most = UNBOUNDED if high is None else min(high, max(low, MAX_LENGTH))
    return quoted(grammar, grammar.repeat(any_character(grammar), low, most))


def value(grammar: Grammar, constant: object) -> Node:
    """Return exactly this JSON value."""
    return grammar.literal(spelled(constant))


def spelled(constant: object) -> bytes:
    """Return the one spelling of a value that the grammars here use."""
    for ascii_only in (False, True):
        text = json.dumps(constant, ensure_ascii=ascii_only, separators=(COMMA, COLON))
        try:
            return text.encode()
        except UnicodeEncodeError:  # a lone surrogate: only its escape can be written
            continue
    raise AssertionError("ASCII always encodes")


def key_other_than(grammar: Grammar, names: Sequence[str]) -> Node:
    """Return a key, without escapes, that is none of ``names``.

    One expression per beginning that the names share: a trie of what to avoid.
    """
    plain = subtract(ANY, _ESCAPED)
    anything = grammar.repeat(utf8(grammar, plain), 0)
    trie: dict[str, object] = {}
    for name in names:
        node = trie
        for letter in name:
            node = node.setdefault(letter, {})  # type: ignore[assignment]
        node[""] = True
    made: dict[int, Node] = {}
    pending = [trie]
    while pending:
        node = pending[-1]
        below = {k: v for k, v in node.items() if isinstance(v, dict)}
        missing = [v for v in below.values() if id(v) not in made]
        if missing:
            pending += missing
            continue
        pending.pop()
        others = subtract(plain, [(ord(letter), ord(letter)) for letter in below])
        parts = [grammar.sequence([utf8(grammar, others), anything])]
        for letter, child in below.items():
            head = utf8(grammar, intersect(plain, [(ord(letter), ord(letter))]))
            parts.append(grammar.sequence([head, made[id(child)]]))
        if "" not in node:
            parts.append(grammar.empty)
        made[id(node)] = grammar.choice(parts)
    return quoted(grammar, made[id(trie)])


def pair(grammar: Grammar, key: Node, item: Node) -> Node:
    """Return a key and its value."""
    return grammar.sequence([key, grammar.literal(COLON), item])


def any_value(grammar: Grammar, number: Node, *, loose: bool = False) -> Node:
    """Return any JSON value; ``loose``: with line breaks and indents where JSON allows them."""
    name = "JSON value, spaced" if loose else "JSON value"
    if name not in grammar.rules:
        grammar.rules[name] = grammar.fail  # so that the calls below do not come back here
        grammar.rules[name] = grammar.choice(
            [
                grammar.any_of(["true", "false", "null"]),
                number,
                string(grammar),
                any_object(grammar, number, loose=loose),
                any_array(grammar, number, loose=loose),
            ]
        )
    return grammar.rule(name)


def any_object(grammar: Grammar, number: Node, *, loose: bool = False) -> Node:
    """Return any JSON object."""
    item = pair(grammar, string(grammar), any_value(grammar, number, loose=loose))
    return _bracketed(grammar, "{}", item, loose=loose)


def any_array(grammar: Grammar, number: Node, *, loose: bool = False) -> Node:
    """Return any JSON array."""
    return _bracketed(grammar, "[]", any_value(grammar, number, loose=loose), loose=loose)


def _bracketed(grammar: Grammar, brackets: str, item: Node, *, loose: bool) -> Node:
    space, comma = grammar.empty, grammar.literal(COMMA)
    if loose:
        indent = grammar.repeat(grammar.any_of([" ", "\t"]), 0, 40)
        line = grammar.sequence([grammar.literal("\n"), indent])
        space = grammar.optional(line)
        comma = grammar.sequence(
            [grammar.literal(","), grammar.choice([line, grammar.literal(" ")])]
        )
    return grammar.sequence(
        [
            grammar.literal(brackets[0]),
            grammar.choice(
                [
                    grammar.empty,
                    grammar.sequence([space, grammar.separated(item, comma, 1), space]),
                ]
            ),
            grammar.literal(brackets[1]),
        ]
    )
