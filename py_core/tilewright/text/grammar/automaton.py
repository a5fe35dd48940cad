"""Runs a grammar over bytes: a pushdown automaton whose states are made when first reached.

A state is the set of all ways in which the text so far can go on: pairs of a byte set and a stack
of expressions that must follow it. Equal states are one object, so transitions and masks found
once are found again. Knows nothing of tokens.
"""

from __future__ import annotations

from ...errors import InvalidRequestError
from .analysis import Lengths
from .expression import UNBOUNDED, Grammar, Kind, Node

MAX_WAYS = 5000
"""Ways to go on from one state; an ambiguous grammar that needs more is refused."""
MAX_STATES = 50_000
"""States kept; beyond it the automaton forgets them and starts to learn anew."""


class Stack:
    """What must still be matched: one expression, then another stack; None is the end."""

    __slots__ = ("node", "rest", "shortest", "ways")

    def __init__(self, node: Node, rest: Stack | None, shortest: int) -> None:
        self.node = node
        self.rest = rest
        self.shortest = shortest
        self.ways: frozenset[Way | None] | None = None


class Way:
    """One byte out of ``byte_set``, then ``rest``."""

    __slots__ = ("byte_set", "rest")

    def __init__(self, byte_set: int, rest: Stack | None) -> None:
        self.byte_set = byte_set
        self.rest = rest


class State:
    """A point in a text.

    Attributes:
        accepting: the text may end here.
        ways: how it can go on.
        allowed: the set of bytes that can come next.
        steps: the transitions found so far.
        shortest: bytes of the shortest completion.

    """

    __slots__ = ("accepting", "allowed", "shortest", "steps", "ways")

    def __init__(self, ways: frozenset[Way | None]) -> None:
        self.accepting = None in ways
        self.ways = tuple(way for way in ways if way is not None)
        self.allowed = 0
        for way in self.ways:
            self.allowed |= way.byte_set
        self.steps: dict[int, State | None] = {}
        left = [1 + (way.rest.shortest if way.rest else 0) for way in self.ways]
        self.shortest = 0 if self.accepting else min(left, default=0)


class Automaton:
    """Recognises a checked grammar."""

    def __init__(self, grammar: Grammar, lengths: Lengths) -> None:
        self._grammar = grammar
        self._lengths = lengths
        self._stacks: dict[tuple[int, int], Stack] = {}
        self._ways: dict[tuple[int, int], Way] = {}
        self._states: dict[frozenset[Way | None], State] = {}
        self.generation = 0
        """Grows when states were forgotten: what others remember of them is stale then."""
        self.start = self._state(self._closure(self._push(grammar.root, None)))

    def step(self, state: State, byte: int) -> State | None:
        """Return the state after ``byte``; None where it is not allowed."""
        if byte in state.steps:
            return state.steps[byte]
        found = None
        if state.allowed >> byte & 1:
            found = self._after([way for way in state.ways if way.byte_set >> byte & 1])
        state.steps[byte] = found
        return found

    def step_all(self, state: State, byte_set: int) -> State | None:
        """Return the one state that every byte of ``byte_set`` leads to; None: there is none."""
        blocks = [byte_set]
        for way in state.ways:
            split = ((b & way.byte_set, b & ~way.byte_set) for b in blocks)
            blocks = [part for both in split for part in both if part]
        target: State | None = None
        for block in blocks:
            following = self.step(state, block.bit_length() - 1)
            if following is None or (target is not None and following is not target):
                return None
            target = following
        return target

    def run(self, data: bytes, state: State | None = None) -> State | None:
        """Return the state after ``data``."""
        current: State | None = state or self.start
        for byte in data:
            if current is None:
                return None
            current = self.step(current, byte)
        return current

    def forced(self, state: State, limit: int = 4096) -> tuple[bytes, State]:
        """Return the bytes that are the only way on, and the state after them."""
        made = bytearray()
        while not state.accepting and len(made) < limit:
            byte = state.allowed.bit_length() - 1
            following = self.step(state, byte) if state.allowed == 1 << byte else None
            if following is None:
                break
            made.append(byte)
            state = following
        return bytes(made), state

    def completion(self, state: State) -> bytes:
        """Return a shortest text that completes what led to ``state``."""
        made = bytearray()
        while not state.accepting:
            way = min(state.ways, key=lambda w: (w.rest.shortest if w.rest else 0, w.byte_set))
            byte = (way.byte_set & -way.byte_set).bit_length() - 1
            following = self.step(state, byte)
            assert following is not None
            made.append(byte)
            state = following
        return bytes(made)

    def shortest(self, node: Node) -> bytes:
        """Return a shortest text that an expression of the grammar matches."""
        return self.completion(self._state(self._closure(self._push(node, None))))

    def forget(self) -> None:
        """Drop what was learnt, where it has become much; states in use stay valid."""
        if len(self._states) > MAX_STATES:
            self._states.clear()
            self._stacks.clear()
            self._ways.clear()
            self.start.steps.clear()
            self.generation += 1

    def _after(self, ways: list[Way]) -> State:
        if len(ways) == 1:
            return self._state(self._closure(ways[0].rest))
        return self._state(frozenset().union(*[self._closure(way.rest) for way in ways]))

    def _state(self, ways: frozenset[Way | None]) -> State:
        found = self._states.get(ways)
        if found is None:
            if len(ways) > MAX_WAYS:
                raise InvalidRequestError(
                    f"The grammar is too ambiguous: a text can go on in more than {MAX_WAYS} ways.",
                    field="grammar",
                )
            found = self._states[ways] = State(ways)
        return found

    def _push(self, node: Node, rest: Stack | None) -> Stack:
        key = (node.serial, id(rest))
        found = self._stacks.get(key)
        if found is None:
            shortest = self._lengths.of(node) + (rest.shortest if rest else 0)
            found = self._stacks[key] = Stack(node, rest, shortest)
        return found

    def _way(self, byte_set: int, rest: Stack | None) -> Way:
        key = (byte_set, id(rest))
        found = self._ways.get(key)
        if found is None:
            found = self._ways[key] = Way(byte_set, rest)
        return found

    def _closure(self, start: Stack | None) -> frozenset[Way | None]:
        """Return the ways that begin with ``start``: expand until bytes are at the top."""
        if start is None:
            return _END
        if start.ways is not None:
            return start.ways
        ways: set[Way | None] = set()
        seen: set[Stack] = {start}
        pending = [start]

        def add(stack: Stack | None) -> None:
            if stack is None:
                ways.add(None)
            elif stack not in seen:
                seen.add(stack)
                pending.append(stack)

        while pending:
            stack = pending.pop()
            if stack.ways is not None:
                ways |= stack.ways
                continue
            if len(seen) > 20 * MAX_WAYS:
                raise InvalidRequestError(
                    "The grammar is too ambiguous to be followed.", field="grammar"
                )
            node, rest = stack.node, stack.rest
            match node.kind:
                case Kind.BYTES:
                    ways.add(self._way(node.byte_set, rest))
                case Kind.SEQUENCE:
                    for part in reversed(node.parts):
                        rest = self._push(part, rest)
                    add(rest)
                case Kind.CHOICE:
                    for part in node.parts:
                        add(self._push(part, rest))
                case Kind.RULE:
                    add(self._push(self._grammar.rules[node.name], rest))
                case Kind.REPEAT:
                    if node.low == 0:
                        add(rest)
                    high = node.high if node.high == UNBOUNDED else node.high - 1
                    again = self._grammar.repeat(node.parts[0], max(0, node.low - 1), high)
                    following = rest if again.kind is Kind.EMPTY else self._push(again, rest)
                    add(self._push(node.parts[0], following))
                case Kind.EMPTY:
                    add(rest)
                case Kind.FAIL:
                    pass
        start.ways = frozenset(ways)
        return start.ways


_END: frozenset[Way | None] = frozenset({None})
