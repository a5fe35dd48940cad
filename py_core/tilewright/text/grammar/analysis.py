"""Checks and simplifies a grammar before it is used.

Unknown rules and left recursion are refused; alternatives that can never end are cut out, so that
every beginning that the automaton allows can be completed. Knows nothing of tokens.
"""

from __future__ import annotations

from ...errors import InvalidRequestError
from .expression import UNBOUNDED, Grammar, Kind, Node

NEVER = 1 << 50
"""Shortest length of an expression that matches nothing."""
MAX_NULLABLE_REPEAT = 64
MAX_SHORTEST = 100_000
"""Bytes; no context holds an answer that must be longer."""


class Lengths:
    """The shortest text that each expression matches, in bytes."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._rules = dict.fromkeys(grammar.rules, NEVER)
        self._known: dict[int, int] = {}
        changed = True
        while changed:  # at least one rule gets its final length in each round
            changed = False
            self._known.clear()
            for name, body in grammar.rules.items():
                length = self.of(body)
                if length < self._rules[name]:
                    self._rules[name] = length
                    changed = True
        self._known.clear()

    def of(self, root: Node) -> int:
        """Return the length for ``root``; at least NEVER where it matches nothing."""
        known, pending = self._known, [root]
        while pending:
            node = pending[-1]
            if node.serial in known:
                pending.pop()
                continue
            missing = [part for part in node.parts if part.serial not in known]
            if missing:
                pending += missing
                continue
            known[node.serial] = self._shallow(node)
            pending.pop()
        return known[root.serial]

    def growth(self) -> tuple[int, Node]:
        """Return by how much one choice can lengthen the shortest text at most.

        In bytes, and the expression that is chosen then.
        """
        most, chosen = 0, self._grammar.empty
        seen: set[int] = set()
        pending = [self._grammar.root, *self._grammar.rules.values()]
        while pending:
            node = pending.pop()
            if node.serial in seen:
                continue
            seen.add(node.serial)
            pending += node.parts
            lengths = [self.of(part) for part in node.parts]
            if node.kind not in (Kind.CHOICE, Kind.REPEAT):
                continue
            longest = max(lengths)
            more = longest - (min(lengths) if node.kind is Kind.CHOICE else 0)
            if more > most:
                most, chosen = more, node.parts[lengths.index(longest)]
        return most, chosen

    def _shallow(self, node: Node) -> int:
        lengths = [self._known[part.serial] for part in node.parts]
        match node.kind:
            case Kind.EMPTY:
                return 0
            case Kind.BYTES:
                return 1
            case Kind.SEQUENCE:
                return min(NEVER, sum(lengths))
            case Kind.CHOICE:
                return min(lengths)
            case Kind.REPEAT:
                return min(NEVER, lengths[0] * node.low) if node.low else 0
            case Kind.RULE:
                return self._rules[node.name]
            case Kind.FAIL:
                return NEVER


def checked(grammar: Grammar, what: str) -> Lengths:
    """Check ``grammar``, cut dead alternatives out of it, and return its shortest lengths.

    Raises:
        InvalidRequestError: an unknown rule, left recursion, a repetition without end, or nothing
            that the grammar matches.

    """
    # Called rules come before their callers, so that few rounds settle the lengths.
    grammar.rules = {name: grammar.rules[name] for name in reversed(_reachable(grammar))}
    lengths = Lengths(grammar)
    if lengths.of(grammar.root) >= NEVER:
        raise InvalidRequestError(
            f"Nothing can satisfy this {what}: it contradicts itself or never ends.", field=what
        )
    pruned = _Pruner(grammar, lengths)
    grammar.rules = {name: pruned.of(body) for name, body in grammar.rules.items()}
    grammar.root = pruned.of(grammar.root)
    lengths = Lengths(grammar)
    if lengths.of(grammar.root) > MAX_SHORTEST:
        raise InvalidRequestError(
            f"The shortest text that this {what} allows is longer than {MAX_SHORTEST} bytes.",
            field=what,
        )
    _refuse_left_recursion(grammar, lengths, what)
    return lengths


def _reachable(grammar: Grammar) -> list[str]:
    found: dict[str, None] = {}
    seen: set[int] = set()
    pending = [grammar.root]
    while pending:
        node = pending.pop()
        if node.serial in seen:
            continue
        seen.add(node.serial)
        pending += node.parts
        if node.kind is Kind.RULE and node.name not in found:
            if node.name not in grammar.rules:
                raise InvalidRequestError(
                    f"The grammar calls the rule {node.name!r}, which is not defined.",
                    field="grammar",
                )
            found[node.name] = None
            pending.append(grammar.rules[node.name])
    return list(found)


class _Pruner:
    """Rebuilds expressions without alternatives that match nothing."""

    def __init__(self, grammar: Grammar, lengths: Lengths) -> None:
        self._grammar = grammar
        self._lengths = lengths
        self._made: dict[int, Node] = {}

    def of(self, root: Node) -> Node:
        made, pending = self._made, [root]
        while pending:
            node = pending[-1]
            missing = [part for part in node.parts if part.serial not in made]
            if node.serial not in made and missing:
                pending += missing
                continue
            pending.pop()
            if node.serial not in made:
                made[node.serial] = self._shallow(node)
        return made[root.serial]

    def _shallow(self, node: Node) -> Node:
        grammar = self._grammar
        if self._lengths.of(node) >= NEVER:
            return grammar.fail
        parts = [self._made[part.serial] for part in node.parts]
        match node.kind:
            case Kind.SEQUENCE:
                return grammar.sequence(parts)
            case Kind.CHOICE:
                return grammar.choice(parts)
            case Kind.REPEAT:
                body, high = parts[0], node.high
                if self._lengths.of(body) == 0 and MAX_NULLABLE_REPEAT < high < UNBOUNDED:
                    raise InvalidRequestError(
                        f"Something that may be empty is repeated up to {high} times: "
                        f"at most {MAX_NULLABLE_REPEAT} are supported.",
                        field="grammar",
                    )
                return grammar.repeat(body, node.low, high)
            case _:
                return node


def _refuse_left_recursion(grammar: Grammar, lengths: Lengths, what: str) -> None:
    """Raise where a rule can call itself again before a byte is read, with more to follow.

    A rule that is only another name of itself (``a ::= a | b``) does no harm.
    """
    calls = {name: _left_calls(body, lengths) for name, body in grammar.rules.items()}
    component = _components(calls)
    for name, called in calls.items():
        for other, followed in called.items():
            if followed and component[other] == component[name]:
                raise InvalidRequestError(
                    f"The rule {name!r} is left-recursive (through {other!r}): rewrite it so that "
                    "something is read before it calls itself.",
                    field=what,
                )


def _left_calls(body: Node, lengths: Lengths) -> dict[str, bool]:
    """Return the rules that may be called first, and whether something follows the call."""
    found: dict[str, bool] = {}
    seen: set[tuple[int, bool]] = set()
    pending = [(body, False)]
    while pending:
        node, followed = pending.pop()
        if (node.serial, followed) in seen:
            continue
        seen.add((node.serial, followed))
        if node.kind is Kind.RULE:
            found[node.name] = found.get(node.name, False) or followed
        elif node.kind is Kind.CHOICE:
            pending += [(part, followed) for part in node.parts]
        elif node.kind is Kind.REPEAT:
            pending.append((node.parts[0], followed or node.high > 1))
        elif node.kind is Kind.SEQUENCE:
            last = len(node.parts) - 1
            for i, part in enumerate(node.parts):
                pending.append((part, followed or i < last))
                if lengths.of(part) > 0:
                    break
    return found


def _components(calls: dict[str, dict[str, bool]]) -> dict[str, int]:
    """Return the strongly connected component of each name (Kosaraju, without recursion)."""
    order: list[str] = []
    seen: set[str] = set()
    for start in calls:
        stack = [(start, iter(calls[start]))] if start not in seen else []
        seen.add(start)
        while stack:
            name, others = stack[-1]
            following = next((o for o in others if o not in seen), None)
            if following is None:
                order.append(name)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(calls[following])))
    callers: dict[str, list[str]] = {name: [] for name in calls}
    for name, others_of in calls.items():
        for other in others_of:
            callers[other].append(name)
    component: dict[str, int] = {}
    for number, start in enumerate(reversed(order)):
        pending = [start]
        while pending:
            name = pending.pop()
            if name not in component:
                component[name] = number
                pending += callers[name]
    return component
