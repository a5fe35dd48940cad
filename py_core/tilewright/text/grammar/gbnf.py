"""GBNF, the grammar notation of llama.cpp, to a grammar.

Written after the description of the notation (llama.cpp, grammars/README.md): rules ``name ::=``,
texts, character classes, ``.``, groups, ``* + ? {m,n}``, comments, and tokens ``<[id]>`` or
``<text>``. Knows token ids only through a callable.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ...errors import InvalidRequestError
from .code_points import ANY, Ranges, subtract, utf8
from .expression import UNBOUNDED, Grammar, Node
from .vocabulary import TokenVocabulary

MAX_TEXT = 256 * 1024
MAX_RULES = 2000
MAX_REPEAT = 20_000
_MAX_DEPTH = 80
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_RULE = re.compile(r"[A-Za-z0-9_-]+[ \t]*::=")
_BOUNDS = re.compile(r"\{[ \t]*(\d{0,9})[ \t]*(,?)[ \t]*(\d{0,9})[ \t]*\}")
_TOKEN = re.compile(r"<\[(\d{1,9})\]>|<[^<>\s]{1,200}>")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
_CODES = {"x": 2, "u": 4, "U": 8}

TokenId = Callable[[str], int | None]


def compile_gbnf(
    text: str, token_id: TokenId = lambda text: None, grammar: Grammar | None = None
) -> Grammar:
    """Return the grammar of a GBNF text; ``token_id`` finds the id of a token's text.

    Raises InvalidRequestError with the line of a mistake.
    """
    return _Parser(text, token_id, grammar or Grammar()).parse()


class _Parser:
    def __init__(self, text: str, token_id: TokenId, grammar: Grammar) -> None:
        if len(text) > MAX_TEXT:
            raise InvalidRequestError(
                f"The grammar is longer than {MAX_TEXT} characters.", field="grammar"
            )
        self._text = text
        self._token_id = token_id
        self._grammar = grammar
        self._at = 0

    def parse(self) -> Grammar:
        grammar = self._grammar
        self._skip(_LINES)
        while self._at < len(self._text):
            name = self._match(_NAME, "the name of a rule")[0]
            self._skip(_SPACE)
            self._expect("::=")
            self._skip(_LINES)
            if name in grammar.rules:
                raise self._error(f"the rule {name!r} is defined twice")
            if len(grammar.rules) >= MAX_RULES:
                raise self._error(f"there are more than {MAX_RULES} rules")
            grammar.rules[name] = self._alternatives(0)
            self._skip(_LINES)
        if "root" not in grammar.rules:
            raise self._error("there is no rule called root")
        grammar.root = grammar.rule("root")
        return grammar

    def _error(self, what: str) -> InvalidRequestError:
        line = self._text.count("\n", 0, self._at) + 1
        return InvalidRequestError(f"The grammar is wrong in line {line}: {what}.", field="grammar")

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(f"{what} is missing")
        self._at = found.end()
        return found

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise self._error(f"{text!r} is missing")
        self._at += len(text)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _alternatives(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise self._error(f"groups are nested deeper than {_MAX_DEPTH}")
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_LINES)
            found.append(self._sequence(depth))
        return self._grammar.choice(found)

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        space = _LINES if depth else _SPACE
        while True:
            atom = self._atom(depth)
            if atom is None:
                break
            while (bounds := self._quantifier()) is not None:
                atom = self._grammar.repeat(atom, *bounds)
            parts.append(atom)
            self._skip(space)
        if not depth:  # an alternative may go on behind a line break
            ahead = _LINES.match(self._text, self._at)
            if ahead and self._text[ahead.end() : ahead.end() + 1] == "|":
                self._at = ahead.end()
        return self._grammar.sequence(parts)

    def _quantifier(self) -> tuple[int, int] | None:
        sign = self._peek()
        simple = {"*": (0, UNBOUNDED), "+": (1, UNBOUNDED), "?": (0, 1)}.get(sign)
        if simple is not None:
            self._at += 1
            return simple
        if sign != "{":
            return None
        low, comma, high = self._match(_BOUNDS, "a count in braces").groups()
        if not low and not high:
            raise self._error("a count in braces is missing")
        least = int(low or 0)
        most = int(high) if high else UNBOUNDED if comma else least
        if least > MAX_REPEAT or MAX_REPEAT < most < UNBOUNDED or most < least:
            raise self._error(f"a count is out of order or above {MAX_REPEAT}")
        return least, most

    def _atom(self, depth: int) -> Node | None:
        grammar, sign = self._grammar, self._peek()
        if sign == '"':
            return self._literal()
        if sign == "[":
            return self._set()
        if sign == "(":
            self._at += 1
            self._skip(_LINES)
            node = self._alternatives(depth + 1)
            self._skip(_LINES)
            self._expect(")")
            return node
        if sign == ".":
            self._at += 1
            return utf8(grammar, ANY)
        if sign == "<":
            return self._token()
        if sign == "!":
            raise self._error("a negated token (!<...>) is not supported")
        if _NAME.match(self._text, self._at) and not _RULE.match(self._text, self._at):
            return grammar.rule(self._match(_NAME, "a name")[0])
        if sign in ("", "|", ")", "\n", "\r") or _RULE.match(self._text, self._at):
            return None
        raise self._error(f"{sign!r} is not expected")

    def _token(self) -> Node:
        found = self._match(_TOKEN, "a token (<[id]> or <text>)")
        token = int(found[1]) if found[1] else self._token_id(found[0])
        if token is None:
            raise self._error(f"the model has no token {found[0]!r}")
        return self._grammar.literal(TokenVocabulary.spelling_of(token))

    def _literal(self) -> Node:
        self._at += 1
        letters = []
        while self._peek() != '"':
            letters.append(self._letter())
        self._at += 1
        return self._grammar.literal("".join(letters))

    def _letter(self) -> str:
        letter = self._peek()
        if letter in ("", "\n", "\r"):
            raise self._error("a text or character class is not closed")
        self._at += 1
        if letter != "\\":
            return letter
        sign = self._peek()
        self._at += 1
        if sign in _SIMPLE and sign:
            return _SIMPLE[sign]
        digits = self._text[self._at : self._at + _CODES.get(sign, 0)]
        if sign not in _CODES or not re.fullmatch(rf"[0-9A-Fa-f]{{{_CODES[sign]}}}", digits):
            raise self._error(f"the escape '\\{sign}' is not known")
        self._at += len(digits)
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._error(f"U+{code:04X} is no character")
        return chr(code)

    def _set(self) -> Node:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        found: Ranges = []
        while self._peek() != "]":
            low = high = ord(self._letter())
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = ord(self._letter())
            if high < low:
                raise self._error("a range of characters is out of order")
            found.append((low, high))
        self._at += 1
        return utf8(self._grammar, subtract(ANY, found) if negated else found)
