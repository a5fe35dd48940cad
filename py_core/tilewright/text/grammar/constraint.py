"""A compiled grammar at work on one answer: what the engine asks of a constraint.

Has the methods of ``engine.sampling.Constraint`` without importing it. Knows tokens as bytes and
how to tokenize forced text through a callable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import InvalidRequestError
from .analysis import checked
from .automaton import Automaton, State
from .expression import Grammar
from .masks import MaskMaker
from .vocabulary import MARK, TokenVocabulary, TrieNode

Encode = Callable[[str], list[int]]
_RESERVE = 8
"""Tokens kept beyond what the shortest completion and one more branch need."""
_LONGEST = 64
"""Bytes of a token that a forced run may end within."""


class CompiledGrammar:
    """A grammar on a vocabulary; shared by all the answers that it constrains.

    Raises InvalidRequestError where the grammar is refused.
    """

    def __init__(
        self, grammar: Grammar, vocabulary: TokenVocabulary, encode: Encode, what: str = "grammar"
    ) -> None:
        if not vocabulary.end_ids:
            raise InvalidRequestError(
                "This model has no end token, so a grammar could never end.", field="grammar"
            )
        lengths = checked(grammar, what)
        self.automaton = Automaton(grammar, lengths)
        self.masks = MaskMaker(self.automaton, vocabulary)
        self.vocabulary = vocabulary
        self.encode = encode
        self.growth, chosen = lengths.growth()
        """Bytes by which one more token may lengthen the shortest completion."""
        self.reserve = _RESERVE + len(self.tokens(self.automaton.shortest(chosen)))
        """Tokens that are kept for that."""

    def tokens(self, data: bytes) -> list[int]:
        """Return tokens that spell ``data``: as the tokenizer does, or each as long as can be."""
        text = data.decode("utf-8", "ignore") if MARK not in data else ""
        ids = self.encode(text) if text else []
        if b"".join([self.vocabulary.spelling(token) for token in ids]) == data:
            return ids
        return self.vocabulary.longest_tokens(data)

    def settled(self, run: bytes, after: State) -> int:
        """Return how many bytes of a forced run no token reaches into that also holds what follows.

        What comes behind it may be one token with it: after ``"arguments": {``, whose rest may be
        ``}}``, the model expects the token `` {}}`` where its vocabulary has it, and a space of
        its own is nothing that it has ever seen there.
        """
        settled = len(run)
        for size in range(1, min(len(run), _LONGEST) + 1):
            if self._grows(run[-size:], after):
                settled = len(run) - size
        return settled

    def _grows(self, beginning: bytes, after: State) -> bool:
        """Return whether a token begins so and goes on as the grammar allows in ``after``."""
        tokens = self.vocabulary.everything
        found: TrieNode | None = tokens.root
        for byte in beginning:
            found = found and tokens.child(found, byte)
        open_ends = [(found, after)] if found else []
        while open_ends:
            node, state = open_ends.pop()
            for byte, child in tokens.expand(node):
                following = self.automaton.step(state, byte)
                if following is not None:
                    tokens.expand(child)  # finds its ends
                    if child.ends > child.low:
                        return True
                    open_ends.append((child, following))
        return False

    def constraint(self, *, max_tokens: int | None = None, force: bool = True) -> TokenConstraint:
        """Return a constraint for one answer.

        Args:
            max_tokens: most tokens of the answer; shortly before, the shortest completion is
                forced, so that the answer is complete.
            force: skip ahead where there is only one way on (without: every token is sampled, so
                that it has a log-probability).

        """
        return TokenConstraint(self, max_tokens=max_tokens, force=force)


class TokenConstraint:
    """The state of one answer; see ``engine.sampling.Constraint`` for the order of calls."""

    def __init__(self, compiled: CompiledGrammar, *, max_tokens: int | None, force: bool) -> None:
        self._compiled = compiled
        self._state: State = compiled.automaton.start
        self._most = self._left = max_tokens
        self._force = force
        self._ended = False

    def again(self) -> TokenConstraint:
        """Return this constraint as it was before the first token."""
        return TokenConstraint(self._compiled, max_tokens=self._most, force=self._force)

    def forced(self) -> Sequence[int]:
        """Return ids that must come next, counted as accepted."""
        if self._ended:
            return []
        automaton = self._compiled.automaton
        automaton.forget()
        state = self._state
        if state.accepting and not state.allowed:
            return self._end()
        if self._left is not None:
            closing = self._closing(state, self._left)
            if closing is not None:
                return closing
        if not self._force:
            return []
        ids = self._tokens(*automaton.forced(state))
        for token in ids:
            self._advance(token)
        complete = self._state.accepting and not self._state.allowed
        return ids + self._end() if complete else ids

    def _end(self) -> list[int]:
        self._ended = True
        return self._compiled.vocabulary.end_ids[:1]

    def _closing(self, state: State, left: int) -> list[int] | None:
        """Return the shortest completion and an end token, where no more than that fits."""
        compiled = self._compiled
        if left > state.shortest + compiled.growth + _RESERVE:  # a token is a byte at least
            return None
        ids = compiled.tokens(compiled.automaton.completion(state))
        if not len(ids) < left <= len(ids) + compiled.reserve or not (ids or state.accepting):
            return None
        for token in ids:
            self._advance(token)
        self._ended = True
        return [*ids, compiled.vocabulary.end_ids[0]]

    def mask(self) -> bytes | None:
        """Return the ids that may come next."""
        compiled = self._compiled
        if self._ended:
            return _only(compiled.vocabulary)
        return compiled.masks.mask(self._state)

    def accept(self, token: int) -> None:
        """Take note of a sampled id. Raises InvalidRequestError where the grammar forbids it."""
        if token in self._compiled.vocabulary.end_ids:
            self._ended = True
        else:
            self._advance(token)

    def _advance(self, token: int) -> None:
        spelling = self._compiled.vocabulary.spelling(token)
        following = self._compiled.automaton.run(spelling, self._state)
        if following is None:
            raise InvalidRequestError(
                f"The grammar does not allow the id {token}.", field="grammar"
            )
        self._state = following
        if self._left is not None:
            self._left -= 1

    def _tokens(self, run: bytes, after: State) -> list[int]:
        """Return the tokens that a forced run of bytes consists of in any case.

        Where the tokenizer spells the run otherwise, nothing is forced.
        """
        compiled = self._compiled
        text = run.decode("utf-8", "ignore") if MARK not in run else ""
        ids = compiled.encode(text) if text else []
        pieces = [compiled.vocabulary.spelling(token) for token in ids]
        if b"".join(pieces) != run:
            return []
        end, safe = len(run), compiled.settled(run, after)
        while ids and end > safe:
            end -= len(pieces.pop())
            ids.pop()
        return ids


def _only(vocabulary: TokenVocabulary) -> bytes:
    mask = bytearray(vocabulary.mask_bytes)
    for token in vocabulary.end_ids:
        mask[token >> 3] |= 1 << (token & 7)
    return bytes(mask)
