"""Regular expressions of JSON Schema's ``pattern`` as grammar expressions.

Reads the part of ECMA 262 that describes regular languages; what does not (look-around, back
references, word boundaries) is refused by name. Where dialects differ (negated classes beyond
ASCII) only what all of them match is generated. Knows nothing of JSON: how a character is written
is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import InvalidRequestError
from .code_points import ANY, Ranges, intersect, normalise, subtract
from .expression import UNBOUNDED, Grammar, Node

MAX_PATTERN = 4096
MAX_REPEAT = 1000
_MAX_DEPTH = 50
_DIGIT: Ranges = [(0x30, 0x39)]
_WORD: Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACE: Ranges = [(0x09, 0x0D), (0x20, 0x20)]
_ASCII: Ranges = [(0, 0x7F)]
_CLASSES = {
    "d": _DIGIT,
    "w": _WORD,
    "s": _SPACE,
    "D": subtract(_ASCII, _DIGIT),
    "W": subtract(_ASCII, _WORD),
    # U+001C to U+001F are white space in some dialects only.
    "S": subtract(_ASCII, [*_SPACE, (0x1C, 0x1F)]),
}
_NOT_DOT: Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_ESCAPES = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "0": 0}
_SYNTAX = frozenset("^$\\.*+?()[]{}|/-")


@dataclass(frozen=True)
class Characters:
    """One character out of a set."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Joined:
    """One after another."""

    parts: tuple[Regex, ...]


@dataclass(frozen=True)
class Either:
    """Any of these; none at all: nothing matches."""

    parts: tuple[Regex, ...]


@dataclass(frozen=True)
class Repeated:
    """Several times."""

    body: Regex
    low: int
    high: int


Regex = Characters | Joined | Either | Repeated
_ANYTHING = Repeated(Characters(tuple(ANY)), 0, UNBOUNDED)


def build(grammar: Grammar, regex: Regex, character: Callable[[Ranges], Node]) -> Node:
    """Return the expression; ``character`` makes that for one character out of a set.

    Parts that stand in several places (there are many where lengths are limited) are made once.
    """
    made: dict[int, Node] = {}

    def of(part: Regex) -> Node:
        found = made.get(id(part))
        if found is None:
            found = made[id(part)] = make(part)
        return found

    def make(part: Regex) -> Node:
        match part:
            case Characters(ranges):
                return character(list(ranges))
            case Joined(parts):
                return grammar.sequence([of(inner) for inner in parts])
            case Either(parts):
                return grammar.choice([of(inner) for inner in parts])
            case Repeated(body, low, high):
                return grammar.repeat(of(body), low, high)

    return of(regex)


class Pattern:
    """Parses one pattern."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0

    def search(self, text: str) -> Regex:
        """Return all texts in which the pattern is found somewhere (as ``pattern`` means it)."""
        if len(text) > MAX_PATTERN:
            raise InvalidRequestError(
                f"A pattern is longer than {MAX_PATTERN} characters.", field="pattern"
            )
        self._text, self._at = text, 0
        node = self._branches(0, top=True)
        if self._at < len(text):
            raise self._refused("an unmatched ')'")
        return node

    def _refused(self, what: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"The pattern {self._text[:80]!r} uses {what}, which is not supported.",
            field="pattern",
        )

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if self._peek(text):
            self._at += len(text)
            return True
        return False

    def _branches(self, depth: int, *, top: bool) -> Regex:
        if depth > _MAX_DEPTH:
            raise self._refused(f"groups nested deeper than {_MAX_DEPTH}")
        branches = [self._branch(depth, top=top)]
        while self._take("|"):
            branches.append(self._branch(depth, top=top))
        return branches[0] if len(branches) == 1 else Either(tuple(branches))

    def _branch(self, depth: int, *, top: bool) -> Regex:
        """Read a branch; anchors may stand at its ends, where it is not inside a group."""
        starts = self._take("^")
        if starts and not top:
            raise self._refused("'^' inside a group")
        parts: list[Regex] = []
        ends = False
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._take("$"):
                ends = True
                if not top:
                    raise self._refused("'$' inside a group")
                if self._at < len(self._text) and self._text[self._at] != "|":
                    raise self._refused("'$' before the end")
                break
            parts.append(self._quantified(depth))
        if top and not starts:
            parts.insert(0, _ANYTHING)
        if top and not ends:
            parts.append(_ANYTHING)
        return parts[0] if len(parts) == 1 else Joined(tuple(parts))

    def _quantified(self, depth: int) -> Regex:
        atom = self._atom(depth)
        while True:
            bounds = self._quantifier()
            if bounds is None:
                return atom
            self._take("?")  # lazy or not, the language is the same
            if self._peek("+"):
                raise self._refused("a possessive quantifier")
            atom = Repeated(atom, *bounds)

    def _quantifier(self) -> tuple[int, int] | None:
        for sign, bounds in (("*", (0, UNBOUNDED)), ("+", (1, UNBOUNDED)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self._peek("{"):
            return None
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : end].partition(",")
        if end < 0 or not low.isdecimal() or (high and not high.isdecimal()):
            raise self._refused("'{' without a count")
        self._at = end + 1
        least = int(low[:9])
        most = least if not comma else int(high[:9]) if high else UNBOUNDED
        if least > MAX_REPEAT or (most != UNBOUNDED and most > MAX_REPEAT) or most < least:
            raise self._refused(f"a count that is not in order or exceeds {MAX_REPEAT}")
        return least, most

    def _atom(self, depth: int) -> Regex:
        character = self._text[self._at]
        if self._take("("):
            if self._take("?") and not self._take(":"):
                if not self._take("<") or self._text[self._at : self._at + 1] in ("=", "!"):
                    raise self._refused("look-around or flags in a group")
                self._at = self._text.find(">", self._at) + 1
                if self._at == 0:
                    raise self._refused("an unfinished group name")
            node = self._branches(depth + 1, top=False)
            if not self._take(")"):
                raise self._refused("an unclosed group")
            return node
        if character in "*+?{":
            raise self._refused(f"{character!r} with nothing before it")
        if character == "^":
            raise self._refused("'^' after the beginning")
        if self._take("["):
            return self._set()
        self._at += 1
        if character == ".":
            return Characters(tuple(subtract(ANY, _NOT_DOT)))
        if character == "\\":
            return Characters(tuple(self._escape()))
        return Characters(((ord(character), ord(character)),))

    def _escape(self, *, in_set: bool = False) -> Ranges:
        """Read what follows a backslash."""
        if self._at >= len(self._text):
            raise self._refused("a backslash at the end")
        character = self._text[self._at]
        self._at += 1
        if character in _CLASSES:
            return _CLASSES[character]
        if character in "xu":
            return self._code(2 if character == "x" else 4)
        if character == "b" and in_set:
            return [(8, 8)]
        if character in _ESCAPES and not (
            character == "0" and self._text[self._at : self._at + 1].isdecimal()
        ):
            code = _ESCAPES[character]
            return [(code, code)]
        if character in _SYNTAX or not character.isalnum():
            return [(ord(character), ord(character))]
        raise self._refused(f"'\\{character}'")

    def _code(self, digits: int) -> Ranges:
        text = self._text[self._at : self._at + digits]
        try:
            code = int(text, 16) if len(text) == digits and text.isalnum() else -1
        except ValueError:
            code = -1
        if code < 0 or 0xD800 <= code < 0xE000:
            raise self._refused("an unfinished character code")
        self._at += digits
        return [(code, code)]

    def _set(self) -> Regex:
        negated = self._take("^")
        found: Ranges = []
        with_class = False
        while not self._take("]"):
            low, is_class = self._member()
            with_class |= is_class
            following = self._text[self._at + 1 : self._at + 2]
            if self._peek("-") and following not in ("]", "") and not is_class:
                self._at += 1
                high, is_class = self._member()
                if is_class or high[0][0] < low[0][0]:
                    raise self._refused("a range out of order")
                low = [(low[0][0], high[0][0])]
            found += low
        found = normalise(found)
        if negated:
            # What a class leaves out beyond ASCII differs between dialects.
            found = subtract(_ASCII if with_class else ANY, found)
        return Characters(tuple(intersect(found, ANY)))

    def _member(self) -> tuple[Ranges, bool]:
        if self._at >= len(self._text):
            raise self._refused("an unclosed '['")
        character = self._text[self._at]
        self._at += 1
        if character != "\\":
            return [(ord(character), ord(character))], False
        is_class = self._text[self._at : self._at + 1] in tuple(_CLASSES)
        return self._escape(in_set=True), is_class
