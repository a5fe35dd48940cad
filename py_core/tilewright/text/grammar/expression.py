"""The one grammar representation: expressions over bytes that call named rules.

Expressions are shared (hash-consed), so equal ones are the same object and a large grammar is a
graph, not a tree. Knows nothing of JSON, of tokens or of how the language is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ...errors import InvalidRequestError

MAX_NODES = 200_000
"""Expressions of one grammar; beyond it the schema or grammar is refused."""
UNBOUNDED = 1 << 60
"""``high`` of a repetition without an upper limit."""
_MAX_FLAT = 16
"""Parts of an expression that are taken over into the one around it."""
_MAX_SHARED = 50
"""Branchings of a set of texts that are worked out one in another."""


class Kind(Enum):
    """What an expression is."""

    FAIL = "fail"
    EMPTY = "empty"
    BYTES = "bytes"
    SEQUENCE = "sequence"
    CHOICE = "choice"
    REPEAT = "repeat"
    RULE = "rule"


class Node:
    """One expression; made by ``Grammar`` only, compared by identity.

    Attributes:
        kind: which of the fields below count.
        serial: unique within the grammar.
        byte_set: bit b is set where byte b is matched (BYTES).
        parts: of a sequence or a choice; the body of a repetition.
        low, high: bounds of a repetition.
        name: of the rule that is called.

    """

    __slots__ = ("byte_set", "high", "kind", "low", "name", "parts", "serial")

    def __init__(
        self,
        kind: Kind,
        serial: int,
        *,
        byte_set: int = 0,
        parts: tuple[Node, ...] = (),
        low: int = 0,
        high: int = 0,
        name: str = "",
    ) -> None:
        self.kind = kind
        self.serial = serial
        self.byte_set = byte_set
        self.parts = parts
        self.low = low
        self.high = high
        self.name = name


class Grammar:
    """Makes expressions and holds the rules; ``root`` is where a text starts."""

    def __init__(self) -> None:
        self._made: dict[object, Node] = {}
        self.fail = Node(Kind.FAIL, 0)
        self.empty = Node(Kind.EMPTY, 1)
        self._serial = 2
        self.rules: dict[str, Node] = {}
        self.root: Node = self.fail

    def _new(self, key: object, kind: Kind, **fields: object) -> Node:
        found = self._made.get(key)
        if found is None:
            if self._serial > MAX_NODES:
                raise InvalidRequestError(
                    f"The grammar is too large: it needs more than {MAX_NODES} parts. Simplify it.",
                    field="grammar",
                )
            found = self._made[key] = Node(kind, self._serial, **fields)  # type: ignore[arg-type]
            self._serial += 1
        return found

    def byte_set(self, bits: int) -> Node:
        """Return an expression that matches one byte out of a set."""
        return self._new(bits, Kind.BYTES, byte_set=bits) if bits else self.fail

    def literal(self, data: bytes | str) -> Node:
        """Return an expression that matches exactly ``data`` (text: as UTF-8)."""
        encoded = data.encode() if isinstance(data, str) else data
        return self.sequence([self.byte_set(1 << byte) for byte in encoded])

    def sequence(self, parts: Iterable[Node]) -> Node:
        """Return an expression that matches ``parts`` one after another."""
        flat: list[Node] = []
        for part in parts:
            if part.kind is Kind.FAIL:
                return self.fail
            if part.kind is Kind.SEQUENCE and len(part.parts) <= _MAX_FLAT:
                flat += part.parts
            elif part.kind is not Kind.EMPTY:
                flat.append(part)
        if len(flat) < 2:
            return flat[0] if flat else self.empty
        key = ("s", *(part.serial for part in flat))
        return self._new(key, Kind.SEQUENCE, parts=tuple(flat))

    def choice(self, parts: Iterable[Node]) -> Node:
        """Return an expression that matches any of ``parts``."""
        flat: dict[int, Node] = {}
        bits = 0
        for part in parts:
            inner = part.kind is Kind.CHOICE and len(part.parts) <= _MAX_FLAT
            for item in part.parts if inner else (part,):
                if item.kind is Kind.BYTES:
                    bits |= item.byte_set
                elif item.kind is not Kind.FAIL:
                    flat[item.serial] = item
        if bits:
            merged = self.byte_set(bits)
            flat[merged.serial] = merged
        if len(flat) < 2:
            return next(iter(flat.values()), self.fail)
        return self._new(("c", *sorted(flat)), Kind.CHOICE, parts=tuple(flat.values()))

    def repeat(self, body: Node, low: int, high: int = UNBOUNDED) -> Node:
        """Return an expression that matches ``body`` from ``low`` to ``high`` times."""
        if low > high:
            return self.fail
        if high == 0 or body.kind is Kind.EMPTY:
            return self.empty
        if body.kind is Kind.FAIL:
            return self.empty if low == 0 else self.fail
        if low == high == 1:
            return body
        if body.kind is Kind.REPEAT and body.low == 0 and (body.high == 1 or high == UNBOUNDED):
            return self.repeat(body.parts[0], 0, high)
        key = ("r", body.serial, low, high)
        return self._new(key, Kind.REPEAT, parts=(body,), low=low, high=high)

    def optional(self, body: Node) -> Node:
        """Return an expression that matches ``body`` or nothing."""
        return self.repeat(body, 0, 1)

    def rule(self, name: str) -> Node:
        """Return a call of a rule, which may be defined later."""
        return self._new(("n", name), Kind.RULE, name=name)

    def separated(self, item: Node, separator: Node, low: int, high: int = UNBOUNDED) -> Node:
        """Return ``low`` to ``high`` items with separators between them."""
        if low > high:
            return self.fail
        if high == 0:
            return self.empty
        rest = self.repeat(self.sequence([separator, item]), max(0, low - 1), min(high - 1, high))
        if high == UNBOUNDED:
            rest = self.repeat(self.sequence([separator, item]), max(0, low - 1))
        some = self.sequence([item, rest])
        return self.optional(some) if low == 0 else some

    def any_of(self, texts: Iterable[str]) -> Node:
        """Return an expression that matches any of these texts."""
        return self.any_literal([text.encode() for text in texts])

    def any_literal(self, texts: Iterable[bytes], depth: int = 0) -> Node:
        """Return an expression that matches any of these texts; common beginnings are shared."""
        groups: dict[bytes, list[bytes]] = {}
        for text in dict.fromkeys(texts):
            groups.setdefault(text[:1], []).append(text)
        parts = []
        for group in groups.values():
            shared = _common_beginning(min(group), max(group))
            if len(group) == 1 or depth > _MAX_SHARED:
                parts += [self.literal(text) for text in group]
            else:
                rest = self.any_literal([text[len(shared) :] for text in group], depth + 1)
                parts.append(self.sequence([self.literal(shared), rest]))
        return self.choice(parts)


def _common_beginning(first: bytes, last: bytes) -> bytes:
    """Return what both begin with; the first and last of sorted texts speak for all."""
    length = 0
    while first[length : length + 1] == last[length : length + 1] != b"":
        length += 1
    return first[:length]
