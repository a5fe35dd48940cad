"""Regular expressions together with limits on the number of characters.

Knows the parsed form of ``regex``, nothing of bytes or JSON.
"""

from __future__ import annotations

from ...errors import InvalidRequestError
from .expression import UNBOUNDED
from .regex import Characters, Either, Joined, Regex, Repeated

MAX_SPLITS = 5000
"""Steps in which length limits are worked into a pattern."""
MAX_UNROLLED = 60
"""Characters of a repetition whose times differ in length, where lengths are limited."""
MAX_VARIABLE = 12
"""Parts of different lengths, one after another, where lengths are limited."""
_NOTHING = Either(())


class Limiter:
    """Finds what of an expression has so many characters, or a part of that."""

    def __init__(self) -> None:
        self._lengths: dict[int, tuple[int, int]] = {}
        self._made: dict[tuple[int, int, int], Regex] = {}
        self._kept: list[Regex] = []
        """Keeps the expressions alive whose ``id`` is a key above."""

    def lengths(self, regex: Regex) -> tuple[int, int]:
        """Return the least and the most characters that the expression matches."""
        found = self._lengths.get(id(regex))
        if found is None:
            found = self._lengths[id(regex)] = self._find_lengths(regex)
            self._kept.append(regex)
        return found

    def _find_lengths(self, regex: Regex) -> tuple[int, int]:
        match regex:
            case Characters():
                return 1, 1
            case Joined(parts):
                both = [self.lengths(part) for part in parts]
                return sum(a for a, _ in both), min(UNBOUNDED, sum(b for _, b in both))
            case Either(parts):
                both = [self.lengths(part) for part in parts]
                return min((a for a, _ in both), default=0), max((b for _, b in both), default=0)
            case Repeated(body, low, high):
                a, b = self.lengths(body)
                return a * low, (UNBOUNDED if b * high >= UNBOUNDED else b * high)

    def limit(self, regex: Regex, low: int, high: int) -> Regex:
        """Return what of ``regex`` has ``low`` to ``high`` characters, or a part of that.

        Raises InvalidRequestError where the parts can share the characters in too many ways.
        """
        least, most = self.lengths(regex)
        if low <= least and most <= high:
            return regex
        if low > most or high < least:
            return _NOTHING
        key = (id(regex), low, high)
        found = self._made.get(key)
        if found is None:
            if len(self._made) > MAX_SPLITS:
                raise _too_complex()
            self._made[key] = _NOTHING  # counts while it is being made
            found = self._made[key] = self._limited(regex, low, high)
        return found

    def _limited(self, regex: Regex, low: int, high: int) -> Regex:
        match regex:
            case Characters():
                return _NOTHING
            case Either(parts):
                return Either(tuple(self.limit(part, low, high) for part in parts))
            case Joined(parts):
                return self._joined(parts, low, high)
            case Repeated(body, fewest, times):
                a, b = self.lengths(body)
                if a == b:
                    return Repeated(body, max(fewest, -(-low // a)), min(times, high // a))
                if low > MAX_UNROLLED or not times:
                    raise _too_complex()
                fewest = fewest if a else 0
                more = UNBOUNDED if times == UNBOUNDED else times - 1
                rest = self._kept_one(Repeated(body, max(0, fewest - 1), more))
                # Times that match nothing add nothing, so each one takes a character at least.
                some = self._shared(body, (rest,), low, min(high, MAX_UNROLLED), 1)
                return Either((Joined(()), some)) if fewest == low == 0 else some

    def _kept_one(self, regex: Repeated) -> Repeated:
        """Return the same object for equal repetitions of one body, so that results are found."""
        for known in self._kept:
            if (
                isinstance(known, Repeated)
                and known.body is regex.body
                and (known.low, known.high) == (regex.low, regex.high)
            ):
                return known
        self._kept.append(regex)
        return regex

    def _joined(self, parts: tuple[Regex, ...], low: int, high: int) -> Regex:
        fixed = 0
        for at, part in enumerate(parts):
            least, most = self.lengths(part)
            if least != most:
                inner = self._shared(part, parts[at + 1 :], max(0, low - fixed), high - fixed, 0)
                return Joined((*parts[:at], inner))
            fixed += least
        return Joined(parts)

    def _shared(
        self, first: Regex, others: tuple[Regex, ...], low: int, high: int, shortest: int
    ) -> Regex:
        """Share the characters; the first part gets at least ``shortest``."""
        rest = others[0] if len(others) == 1 else Joined(others)
        least, most = self.lengths(first)
        after_least, after_most = self.lengths(rest)
        if after_least == after_most:
            head = self.limit(first, max(0, low - after_least), high - after_least)
            return Joined((head, *others))
        variable = sum(a != b for a, b in map(self.lengths, others))
        least, most = max(least, shortest), min(most, high - after_least)
        if most - least > MAX_UNROLLED or variable > MAX_VARIABLE:
            raise _too_complex()
        ways = []
        for length in range(least, most + 1):
            head = self.limit(first, length, length)
            tail = self.limit(rest, max(0, low - length), high - length)
            ways.append(Joined((head, tail)))
        return Either(tuple(ways))


def _too_complex() -> InvalidRequestError:
    return InvalidRequestError(
        "A pattern together with length limits is too complex: put the limits into the pattern.",
        field="pattern",
    )
