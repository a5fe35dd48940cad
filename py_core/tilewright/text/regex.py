r"""Tokenizer regular expressions with Unicode categories, run by Python's ``re``.

``re`` has no ``\p{L}``, and classes of hundreds of ranges make it slow. So the classes of a pattern
divide the code points beyond ASCII into a few *kinds* (two characters are of one kind when
every class holds both or neither); each kind gets one stand-in character, the text is translated
to stand-ins, and the pattern is compiled over them. Lengths are unchanged, so a match in the
translated text is a match in the text, and ASCII text needs no translation. The idea is that of
llama.cpp's collapsed text (src/unicode.cpp, unicode_regex_split), made exact for any class.

This module knows the syntax of expressions (the common part of Oniguruma, ECMAScript and ``re``)
and the Unicode table; it does not know which tokenizer uses which expression.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.errors import UnsupportedModelError
from tilewright.text.unicode_data import CATEGORY_NAMES, WHITESPACE, category_number, category_runs

_LIMIT = 0x110000
_MAX_PATTERN = 16_384

_HAN = (
    "2E80-2E99 2E9B-2EF3 2F00-2FD5 3005 3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FA6D "
    "FA70-FAD9 16FE2-16FE3 16FF0-16FF1 20000-2A6DF 2A700-2B739 2B740-2B81D 2B820-2CEA1 "
    "2CEB0-2EBE0 2EBF0-2EE5D 2F800-2FA1D 30000-3134A 31350-323AF"
)
"""Script=Han of Scripts-15.1.0.txt."""

_KNOWN_NESTED = (r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|",)
"""Repetitions of repetitions that cannot fail slowly (this one is EXAONE's)."""

_ESCAPED_CHARACTERS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7, "e": 27, "0": 0}
_POSIX = {
    "alpha": "L", "digit": "Nd", "punct": "P", "upper": "Lu", "lower": "Ll", "cntrl": "Cc",
}  # fmt: skip
_CASE_ORBITS = {"s": "sSſ", "k": "kKK"}
"""ASCII letters with a third case variant (CaseFolding-15.1.0.txt)."""


@dataclass(frozen=True)
class CharClass:
    """A set of code points: (categories | ranges | parts) & overlaps, possibly negated."""

    categories: frozenset[int] = frozenset()
    ranges: tuple[tuple[int, int], ...] = ()
    parts: tuple[CharClass, ...] = ()
    overlaps: tuple[CharClass, ...] = ()
    negated: bool = False

    def contains(self, code: int, category: int) -> bool:
        """Tell whether ``code``, of category number ``category``, is in the set."""
        inside = (
            category in self.categories
            or any(low <= code <= high for low, high in self.ranges)
            or any(part.contains(code, category) for part in self.parts)
        ) and all(part.contains(code, category) for part in self.overlaps)
        return inside != self.negated

    def edges(self) -> Iterator[int]:
        """Yield the code points at which membership may change within one category."""
        for low, high in self.ranges:
            yield low
            yield high + 1
        for part in (*self.parts, *self.overlaps):
            yield from part.edges()


_SPACE = CharClass(ranges=tuple((code, code) for code in sorted(WHITESPACE)))


def _categories(*prefixes: str) -> frozenset[int]:
    return frozenset(i for i, name in enumerate(CATEGORY_NAMES) if name.startswith(prefixes))


_WORD = CharClass(_categories("L", "M", "Nd", "Nl", "Pc"))
_SHORTHAND = {"s": _SPACE, "d": CharClass(_categories("Nd")), "w": _WORD}


def _hex_ranges(table: str) -> tuple[tuple[int, int], ...]:
    bounds = (entry.split("-") for entry in table.split())
    return tuple((int(b[0], 16), int(b[-1], 16)) for b in bounds)


def _property(name: str) -> CharClass:
    r"""Return the class of ``\p{name}``."""
    negated = name.startswith("^")
    name = name.lstrip("^")
    if name in ("Han", "Script=Han", "sc=Han"):
        return CharClass(ranges=_hex_ranges(_HAN), negated=negated)
    if name in ("Any", "any"):
        return CharClass(negated=not negated)
    categories = _categories(name) if name and name[0].isupper() and len(name) <= 2 else None
    if not categories:
        raise UnsupportedModelError(
            f"The tokenizer's split pattern uses the Unicode property {name!r}, "
            "which is not known here; use a GGUF file of the model instead."
        )
    return CharClass(categories, negated=negated)


class _Parser:
    """Reads one expression into text for ``re`` with CharClass objects in between.

    ``nested`` tells that an unbounded repetition repeats another one, which can take exponential
    time to fail.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.pieces: list[str | CharClass] = []
        self.nested = False
        self._repeats = [False]
        """For each open group: whether it repeats something without bound."""
        self._closed_repeats = False
        """Whether the part just read is a group that does."""

    def fail(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"The tokenizer's split pattern {self.source[:80]!r} has {what}, "
            "which is not supported; use a GGUF file of the model instead."
        )

    def next(self) -> str:
        if self.position >= len(self.source):
            raise self.fail("an unfinished part")
        self.position += 1
        return self.source[self.position - 1]

    def take(self, text: str) -> bool:
        if self.source.startswith(text, self.position):
            self.position += len(text)
            return True
        return False

    def until(self, end: str) -> str:
        stop = self.source.find(end, self.position)
        if stop < 0:
            raise self.fail("an unfinished part")
        text = self.source[self.position : stop]
        self.position = stop + len(end)
        return text

    def parse(self) -> list[str | CharClass]:
        folding = [False]
        while self.position < len(self.source):
            char = self.next()
            closed_repeats, self._closed_repeats = self._closed_repeats, False
            if char == "(":
                folding.append(self.group(folding))
                self._repeats.append(False)
            elif char == ")":
                if len(folding) == 1:
                    raise self.fail("an unmatched parenthesis")
                folding.pop()
                self._closed_repeats = self._repeats.pop()
                self._repeats[-1] |= self._closed_repeats
                self.pieces.append(")")
            elif char == "[":
                self.pieces.append(self.char_class(folding[-1]))
            elif char == ".":
                self.pieces.append(CharClass(ranges=((10, 10),), negated=True))
            elif char == "\\":
                self.escape(folding[-1])
            elif char == "{":
                bounds = re.compile(r"\d{0,4}(?:,\d{0,4})?\}").match(self.source, self.position)
                if bounds is None:
                    self.literal("{", folding[-1])
                else:
                    self.position = bounds.end()
                    self.repeat("{" + bounds[0], bounds[0].endswith(",}"), closed_repeats)
            elif char in "*+?":
                self.repeat(char, char != "?", closed_repeats)
            elif char == "|":
                self.pieces.append(char)
            elif char == "^":
                self.pieces.append(r"(?:\A|(?<=\n))")
            elif char == "$":
                self.pieces.append(r"(?=\n|\Z)")
            else:
                self.literal(char, folding[-1])
        if len(folding) != 1:
            raise self.fail("an unmatched parenthesis")
        return self.pieces

    def repeat(self, quantifier: str, unbounded: bool, closed_repeats: bool) -> None:
        """Add a quantifier, behind a group that itself repeats something or behind other parts."""
        self.nested |= unbounded and closed_repeats
        self._repeats[-1] |= unbounded
        self.pieces.append(quantifier)

    def group(self, folding: list[bool]) -> bool:
        """Read what follows "("; return whether the group ignores case."""
        if not self.take("?"):
            self.pieces.append("(?:")
            return folding[-1]
        for opening in (":", "=", "!", "<=", "<!", ">"):
            if self.take(opening):
                self.pieces.append("(?" + opening)
                return folding[-1]
        if self.take("<") or self.take("P<"):
            self.until(">")
            self.pieces.append("(?:")
            return folding[-1]
        flags = re.compile(r"(i?)(-i)?([:)])").match(self.source, self.position)
        if flags is None or not (flags[1] or flags[2]):
            raise self.fail("an unknown kind of group")
        self.position = flags.end()
        if flags[3] == ")":  # "(?i)": to the end of the enclosing group
            folding[-1] = bool(flags[1])
            self.position -= 1
        self.pieces.append("(?:")
        return bool(flags[1])

    def literal(self, char: str, fold: bool) -> None:
        variants = _case_variants(char) if fold else char
        if len(variants) == 1 and char.isascii():
            self.pieces.append(re.escape(char))
        else:
            self.pieces.append(CharClass(ranges=tuple((ord(c), ord(c)) for c in variants)))

    def escape(self, fold: bool) -> None:
        anchors = {"A": r"\A", "z": r"\Z", "Z": r"(?=\n?\Z)"}
        char = self.source[self.position : self.position + 1]
        if char in anchors and char:
            self.position += 1
            self.pieces.append(anchors[char])
        elif char in ("b", "B"):
            self.position += 1
            before: tuple[str | CharClass, ...] = ("(?<=", _WORD, ")")
            after: tuple[str | CharClass, ...] = ("(?=", _WORD, ")")
            not_before: tuple[str | CharClass, ...] = ("(?<!", _WORD, ")")
            not_after: tuple[str | CharClass, ...] = ("(?!", _WORD, ")")
            halves = (
                (before, not_after, not_before, after)
                if char == "b"
                else (before, after, not_before, not_after)
            )
            self.pieces += ["(?:", *halves[0], *halves[1], "|", *halves[2], *halves[3], ")"]
        else:
            item = self.escaped_item()
            if isinstance(item, CharClass):
                self.pieces.append(item)
            else:
                self.literal(chr(item), fold)

    def escaped_item(self) -> CharClass | int:
        r"""Read what follows a backslash: a class such as ``\s`` or ``\p{L}``, or a code point."""
        char = self.next()
        if char in "pP":
            name = self.until("}") if self.take("{") else self.next()
            known = _property(name)
            return CharClass(parts=(known,), negated=True) if char == "P" else known
        if char.lower() in _SHORTHAND:
            known = _SHORTHAND[char.lower()]
            return CharClass(parts=(known,), negated=True) if char.isupper() else known
        if char in _ESCAPED_CHARACTERS:
            return _ESCAPED_CHARACTERS[char]
        if char in "xuU":
            width = {"x": 2, "u": 4, "U": 8}[char]
            if self.take("{"):
                digits = self.until("}")
            else:
                digits = self.source[self.position : self.position + width]
                self.position += len(digits)
            exact = char == "x" or self.source[self.position - 1] == "}" or len(digits) == width
            if (
                not re.fullmatch("[0-9A-Fa-f]{1,8}", digits)
                or not exact
                or int(digits, 16) >= _LIMIT
            ):
                raise self.fail(f"the escape \\{char}{digits}")
            return int(digits, 16)
        if char.isalnum():
            raise self.fail(f"the escape \\{char}")
        return ord(char)

    def char_class(self, fold: bool) -> CharClass:
        """Read a bracket expression whose "[" is already read."""
        negated = self.take("^")
        categories: frozenset[int] = frozenset()
        ranges: list[tuple[int, int]] = []
        parts: list[CharClass] = []
        groups: list[CharClass] = []
        first = True
        while first or not self.take("]"):
            if self.take("&&"):
                groups.append(CharClass(categories, tuple(ranges), tuple(parts)))
                categories, ranges, parts = frozenset(), [], []
                first = False
                continue
            low = self.class_item(fold)
            first = False
            if isinstance(low, CharClass):
                if low.categories and not (low.ranges or low.parts or low.negated):
                    categories |= low.categories
                else:
                    parts.append(low)
                continue
            high = low
            follows = self.source[self.position : self.position + 2]
            if follows[:1] == "-" and follows[1:] not in ("]", ""):
                self.position += 1
                upper = self.class_item(fold)
                if isinstance(upper, CharClass) or upper < low:
                    raise self.fail("a bad range in a bracket")
                high = upper
            ranges.append((low, high))
            if fold:
                ranges += _folded(low, high)
        last = CharClass(categories, tuple(ranges), tuple(parts), tuple(groups))
        return CharClass(parts=(last,), negated=True) if negated else last

    def class_item(self, fold: bool) -> CharClass | int:
        if self.take("[:"):
            negated = self.take("^")
            name = self.until(":]")
            if name == "space":
                return CharClass(parts=(_SPACE,), negated=negated)
            if name not in _POSIX:
                raise self.fail(f"the class [:{name}:]")
            return CharClass(_categories(_POSIX[name]), negated=negated)
        if self.take("["):
            return self.char_class(fold)
        char = self.next()
        return self.escaped_item() if char == "\\" else ord(char)


def _case_variants(char: str) -> str:
    lower = char.lower()
    if lower in _CASE_ORBITS:
        return _CASE_ORBITS[lower]
    return "".join(dict.fromkeys([char, *(c for c in (lower, char.upper()) if len(c) == 1)]))


def _folded(low: int, high: int) -> list[tuple[int, int]]:
    letters = range(max(low, 0x41), min(high, 0x7A) + 1)
    return [(ord(v), ord(v)) for code in letters for v in _case_variants(chr(code))]


class Alphabet(dict[int, str]):
    """Table for ``str.translate``: each code point's stand-in, worked out at first use."""

    def __init__(self, classes: Sequence[CharClass]) -> None:
        super().__init__()
        beyond = {edge for c in classes for edge in c.edges() if 0x80 < edge < _LIMIT}
        self._edges = [0x80, *sorted(beyond)]
        members: dict[tuple[bool, ...], str] = {}
        self._kinds: dict[tuple[int, int], str] = {}
        run_starts = (start for start in category_runs()[0] if start > 0x80)
        for code in sorted({*self._edges, *run_starts}):
            key = self._key(code)
            if key not in self._kinds:
                membership = tuple(c.contains(code, key[1]) for c in classes)
                index = len(members)
                stand_in = chr(0x80 + index if index < 0x80 else 0x100 + index)
                self._kinds[key] = members.setdefault(membership, stand_in)
        self._members = members

    def _key(self, code: int) -> tuple[int, int]:
        return bisect_right(self._edges, code), category_number(code)

    def __missing__(self, code: int) -> str:
        if len(self) > 20_000:
            self.clear()
        stand_in = chr(code) if code < 0x80 else self._kinds[self._key(code)]
        self[code] = stand_in
        return stand_in

    def bracket(self, index: int, char_class: CharClass) -> str:
        """Return the ``re`` text that matches the stand-ins of class number ``index``."""
        ascii_part = [
            f"\\x{code:02x}"
            for code in range(0x80)
            if char_class.contains(code, category_number(code))
        ]
        others = [f"\\u{ord(s):04x}" for m, s in self._members.items() if m[index]]
        return f"[{''.join(ascii_part + others)}]" if ascii_part or others else "(?!)"


class RegexSet:
    """Several expressions compiled over one alphabet.

    Args:
        sources: the expressions.
        trusted: they are the project's own, so repetitions within repetitions are allowed.

    Raises:
        UnsupportedModelError: an expression is too long, malformed or uses unknown syntax.

    """

    def __init__(self, sources: Sequence[str], *, trusted: bool = False) -> None:
        parsed: list[list[str | CharClass]] = []
        for source in sources:
            if len(source) > _MAX_PATTERN:
                raise UnsupportedModelError("The tokenizer's split pattern is too long.")
            parser = _Parser(source)
            try:
                parsed.append(parser.parse())
            except RecursionError:
                raise UnsupportedModelError("The split pattern is nested too deeply.") from None
            if parser.nested and not trusted and not any(k in source for k in _KNOWN_NESTED):
                raise parser.fail("a repetition within a repetition")
        pieces = (piece for line in parsed for piece in line)
        classes = list(dict.fromkeys(p for p in pieces if isinstance(p, CharClass)))
        self.alphabet = Alphabet(classes)
        brackets = {c: self.alphabet.bracket(i, c) for i, c in enumerate(classes)}
        self.patterns: list[re.Pattern[str]] = []
        for source, line in zip(sources, parsed, strict=True):
            text = "".join(p if isinstance(p, str) else brackets[p] for p in line)
            try:
                self.patterns.append(re.compile(text, re.ASCII))
            except (re.error, RecursionError, OverflowError) as error:
                raise UnsupportedModelError(
                    f"The tokenizer's split pattern {source[:80]!r} cannot be compiled: {error}."
                ) from None

    def translate(self, text: str) -> str:
        """Return ``text`` in stand-ins, of equal length (ASCII text is its own translation)."""
        return text if text.isascii() else text.translate(self.alphabet)
