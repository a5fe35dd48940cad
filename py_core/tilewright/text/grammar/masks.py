"""Masks over a vocabulary for the states of an automaton, kept once found.

Brings together ``automaton`` (what bytes may come) and ``vocabulary`` (what bytes tokens have);
knows nothing of sampling.
"""

from __future__ import annotations

from .automaton import Automaton, State
from .vocabulary import BEYOND_ASCII, CHAIN, CLASSES, Group, TokenVocabulary, first_bytes

MAX_MASKS = 2048
"""Masks kept per grammar: 32 MB for a vocabulary of 128,000."""
_FEW_BYTES = 16
"""Up to so many bytes that may come, the whole trie is walked: little of it is visited."""


class MaskMaker:
    """Finds the tokens that a state allows."""

    def __init__(self, automaton: Automaton, vocabulary: TokenVocabulary) -> None:
        self.automaton = automaton
        self.vocabulary = vocabulary
        self._masks: dict[State, bytes] = {}

    def mask(self, state: State) -> bytes:
        """Return u32[ceil(V / 32)] little-endian with the bits of the allowed ids set."""
        found = self._masks.get(state)
        if found is None:
            if len(self._masks) >= MAX_MASKS:
                self._masks.clear()
            found = self._masks[state] = self._find(state)
        return found

    def _find(self, state: State) -> bytes:
        vocabulary = self.vocabulary
        classes, chain, loops = (0, [state], False)
        if state.allowed.bit_count() > _FEW_BYTES:
            classes, chain, loops = self._free_text(state)
        if not classes:
            mask = bytearray(vocabulary.mask_bytes)
            self._walk(vocabulary.everything, state, mask)
        elif loops and len(chain) == 1:
            division = vocabulary.divide(classes)
            mask = bytearray(division.whole_any)
            self._walk(division.ends_any, state, mask)
        else:
            division = vocabulary.divide(classes)
            mask = bytearray(division.whole[min(CHAIN, len(chain) - 1)])
            for group, following in zip(division.ends, chain, strict=False):
                self._walk(group, following, mask)
            if len(chain) > CHAIN:
                self._walk(division.long, state, mask)
        if state.accepting:
            for token in vocabulary.end_ids:
                mask[token >> 3] |= 1 << (token & 7)
        return bytes(mask)

    def _walk(self, group: Group, start: State, mask: bytearray) -> None:
        """Set the bits of the group's tokens that can be read from ``start``."""
        step = self.automaton.step
        spellings, ids = group.spellings, group.ids
        pending = [(group.root, start)]
        while pending:
            node, state = pending.pop()
            children = node.children if node.children is not None else group.expand(node)
            for index in range(node.low, node.ends):
                token = ids[index]
                mask[token >> 3] |= 1 << (token & 7)
            steps, allowed = state.steps, state.allowed
            for byte, child in children:
                if not allowed >> byte & 1:
                    continue
                following = steps.get(byte) or step(state, byte)
                if following is None:
                    continue
                if child.high - child.low > 1:
                    pending.append((child, following))
                    continue
                for rest in spellings[child.low][child.depth :]:
                    following = following.steps.get(rest) or step(following, rest)
                    if following is None:
                        break
                else:
                    token = ids[child.low]
                    mask[token >> 3] |= 1 << (token & 7)

    def _free_text(self, state: State) -> tuple[int, list[State], bool]:
        """Return classes whose characters may come in any order, and the states they lead to.

        All characters of all these classes lead from each state of the list to the next one, for
        CHAIN characters at most; ``True``: the last state leads to itself, so that it goes on.
        """
        targets: dict[State, int] = {}
        for index in range(len(CLASSES)):
            target = self._after_class(state, index)
            if target is not None:
                targets[target] = targets.get(target, 0) | 1 << index
        target = max(targets, key=lambda t: (targets[t].bit_count(), t is state), default=state)
        classes = targets.get(target, 0)
        # Dividing the vocabulary takes longer than walking the few tokens of a smaller alphabet.
        if not classes & BEYOND_ASCII:
            return 0, [state], False
        if target is state:
            return classes, [state], True
        chain = [state, target]
        members = [index for index in range(len(CLASSES)) if classes >> index & 1]
        while len(chain) <= CHAIN:
            following = {self._after_class(chain[-1], index) for index in members}
            only = following.pop()
            if following or only is None:
                if chain[-1].allowed & first_bytes(classes):
                    return 0, [state], False  # some go on, and not all alike
                break
            chain.append(only)
        return classes, chain, False

    def _after_class(self, state: State, index: int) -> State | None:
        """Return the one state that every character of a class leads to, or None."""
        result: State | None = None
        for form in CLASSES[index].forms:
            current: State | None = state
            for byte_set in form:
                assert current is not None
                current = self.automaton.step_all(current, byte_set)
                if current is None:
                    return None
            if result is not None and current is not result:
                return None
            result = current
        return result
