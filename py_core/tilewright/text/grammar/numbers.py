"""Numbers within bounds as grammar expressions over their decimal digits.

Digits are limited, so that a number ends and a double tells it from its neighbours: 15 significant
digits are exact (IEEE 754 binary64). Knows nothing of schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor

from ...errors import InvalidRequestError
from .code_points import bits
from .expression import Grammar, Node

DIGITS = 15
LARGEST = 10**DIGITS - 1
"""Largest magnitude that is generated where a side has no bound."""
MAX_LISTED = 2000
MAX_DIVISOR = 200
_ANY_DIGIT = bits(0x30, 0x39)


@dataclass(frozen=True)
class Bounds:
    """Limits of a number; None: no limit."""

    low: Decimal | None = None
    high: Decimal | None = None
    above_low: bool = False
    """The lower limit itself is excluded."""
    below_high: bool = False


def _digits(grammar: Grammar, low: int, high: int) -> Node:
    return grammar.byte_set(bits(0x30 + low, 0x30 + high)) if low <= high else grammar.fail


def any_number(grammar: Grammar) -> Node:
    """Return any JSON number of a reasonable number of digits."""
    digit = grammar.byte_set(_ANY_DIGIT)
    fraction = grammar.sequence([grammar.literal("."), grammar.repeat(digit, 1, DIGITS)])
    sign = grammar.optional(grammar.any_of(["+", "-"]))
    exponent = grammar.sequence([grammar.any_of(["e", "E"]), sign, grammar.repeat(digit, 1, 2)])
    return grammar.sequence(
        [any_integer(grammar), grammar.optional(fraction), grammar.optional(exponent)]
    )


def any_integer(grammar: Grammar) -> Node:
    """Return any JSON integer of at most 18 digits."""
    digit = grammar.byte_set(_ANY_DIGIT)
    some = grammar.sequence([_digits(grammar, 1, 9), grammar.repeat(digit, 0, 17)])
    minus = grammar.optional(grammar.literal("-"))
    return grammar.choice([grammar.literal("0"), grammar.sequence([minus, some])])


def integers(grammar: Grammar, bounds: Bounds, divisor: int | None = None) -> Node:
    """Return the integers within bounds that ``divisor`` divides.

    Raises InvalidRequestError where range and divisor together are too complex.
    """
    if bounds.low is None and bounds.high is None and divisor is None:
        return any_integer(grammar)
    low, high = -LARGEST, LARGEST
    if bounds.low is not None:
        low = floor(bounds.low) + 1 if bounds.above_low else ceil(bounds.low)
        high = max(high, low + LARGEST) if bounds.high is None else high
    if bounds.high is not None:
        high = ceil(bounds.high) - 1 if bounds.below_high else floor(bounds.high)
        low = min(low, high - LARGEST) if bounds.low is None else low
    if divisor is None or divisor == 1:
        return _signed_range(grammar, low, high)
    first, last = -(-low // divisor), high // divisor
    if last - first < MAX_LISTED:
        return grammar.any_of([str(n * divisor) for n in range(first, last + 1)])
    if divisor > MAX_DIVISOR:
        raise InvalidRequestError(
            f"multipleOf {divisor} needs bounds with at most {MAX_LISTED} values between them.",
            field="multipleOf",
        )
    positive = _multiples(grammar, divisor)
    parts = [grammar.literal("0")] if low <= 0 <= high else []
    if bounds.high is None and (bounds.low is None or low <= divisor):
        parts.append(positive)
    if bounds.low is None and (bounds.high is None or high >= -divisor):
        parts.append(grammar.sequence([grammar.literal("-"), positive]))
    if (bounds.low is not None and not -divisor < low <= divisor) or bounds.high is not None:
        raise InvalidRequestError(
            "multipleOf together with a wide range is not supported: bound it on both sides, "
            "more closely.",
            field="multipleOf",
        )
    return grammar.choice(parts)


def _multiples(grammar: Grammar, divisor: int) -> Node:
    """Return the positive multiples: one rule per remainder and number of digits left."""
    name = f"multiple of {divisor}"
    for remainder in range(divisor):
        rule = f"{name}, rest {remainder}"
        if rule in grammar.rules:
            break
        parts = [] if remainder else [grammar.empty]
        for digit in range(10):
            following = (10 * remainder + digit) % divisor
            call = grammar.rule(f"{name}, rest {following}")
            parts.append(grammar.sequence([grammar.literal(str(digit)), call]))
        grammar.rules[rule] = grammar.choice(parts)
    starts = []
    for digit in range(1, 10):
        call = grammar.rule(f"{name}, rest {digit % divisor}")
        starts.append(grammar.sequence([grammar.literal(str(digit)), call]))
    return grammar.choice(starts)


def _signed_range(grammar: Grammar, low: int, high: int) -> Node:
    parts = []
    if low < 0:
        positive = _range(grammar, max(1, -high), -low)
        parts.append(grammar.sequence([grammar.literal("-"), positive]))
    if high >= 0:
        parts.append(_range(grammar, max(0, low), high))
    return grammar.choice(parts)


def _range(grammar: Grammar, low: int, high: int) -> Node:
    """Return the integers low .. high, both at least 0, without leading zeros."""
    parts = []
    start = low
    while start <= high:
        length = len(str(start))
        end = min(high, 10**length - 1)
        parts.append(_same_length(grammar, str(start), str(end)))
        start = end + 1
    return grammar.choice(parts)


def _same_length(grammar: Grammar, low: str, high: str) -> Node:
    """Return the digit strings from low to high, which are equally long."""
    if not low:
        return grammar.empty
    first, last = int(low[0]), int(high[0])
    rest = len(low) - 1
    if first == last:
        return grammar.sequence([grammar.literal(low[0]), _same_length(grammar, low[1:], high[1:])])
    parts = []
    if low[1:] != "0" * rest:
        tail = _same_length(grammar, low[1:], "9" * rest)
        parts.append(grammar.sequence([grammar.literal(low[0]), tail]))
        first += 1
    if high[1:] != "9" * rest:
        tail = _same_length(grammar, "0" * rest, high[1:])
        parts.append(grammar.sequence([grammar.literal(high[0]), tail]))
        last -= 1
    free = grammar.repeat(grammar.byte_set(_ANY_DIGIT), rest, rest)
    parts.append(grammar.sequence([_digits(grammar, first, last), free]))
    return grammar.choice(parts)


def decimals(grammar: Grammar, bounds: Bounds) -> Node:
    """Return the decimal numbers within bounds, without exponents."""
    if bounds.low is None and bounds.high is None:
        return any_number(grammar)
    given = [bound for bound in (bounds.low, bounds.high) if bound is not None]
    wanted = max(4, *(-_exponent(bound) for bound in given))
    # An open side ends where as many digits behind the point as the other side has still fit.
    reach = Decimal(10 ** max(1, DIGITS - 1 - wanted))
    low = bounds.low if bounds.low is not None else min(-reach, given[0] - reach)
    high = bounds.high if bounds.high is not None else max(reach, given[0] + reach)
    places = max(0, DIGITS - len(str(max(abs(int(low)), abs(int(high))))))
    if any(-_exponent(b) > places for b in given):
        raise InvalidRequestError(
            f"A bound of a number has more than {DIGITS} significant digits.", field="minimum"
        )
    parts = []
    if high >= 0:
        bottom, above = (low, bounds.above_low) if low >= 0 else (Decimal(0), False)
        parts.append(_positive(grammar, Bounds(bottom, high, above, bounds.below_high), places))
    if low < 0:
        bottom, above = (-high, bounds.below_high) if high < 0 else (Decimal(0), True)
        mirrored = _positive(grammar, Bounds(bottom, -low, above, bounds.above_low), places)
        parts.append(grammar.sequence([grammar.literal("-"), mirrored]))
    return grammar.choice(parts)


def _exponent(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _positive(grammar: Grammar, bounds: Bounds, places: int) -> Node:
    """Return the decimals within bounds that are both set and not negative."""
    assert bounds.low is not None
    assert bounds.high is not None
    low, high = bounds.low, bounds.high
    first, last = int(low), int(high)
    if first == last:
        fraction = _fraction(
            grammar,
            _places(low - first),
            _places(high - last),
            places,
            strict=(bounds.above_low, bounds.below_high),
        )
        return grammar.sequence([grammar.literal(str(first)), fraction])
    parts = []
    bottom = _fraction(
        grammar, _places(low - first), None, places, strict=(bounds.above_low, False)
    )
    parts.append(grammar.sequence([grammar.literal(str(first)), bottom]))
    top = _fraction(grammar, "", _places(high - last), places, strict=(False, bounds.below_high))
    parts.append(grammar.sequence([grammar.literal(str(last)), top]))
    if first + 1 <= last - 1:
        free = _fraction(grammar, "", None, places, strict=(False, False))
        parts.append(grammar.sequence([_range(grammar, first + 1, last - 1), free]))
    return grammar.choice(parts)


def _places(fraction: Decimal) -> str:
    """Return the digits behind the point, without zeros at the end."""
    return f"{fraction:f}".partition(".")[2].rstrip("0")


def _fraction(
    grammar: Grammar, low: str, high: str | None, places: int, *, strict: tuple[bool, bool]
) -> Node:
    """Return "" or a point and digits, such that the value lies between the fractions.

    ``low``, ``high``: digits behind the point (``high`` None: no limit); ``strict``: excluded.
    """
    above, below = strict
    body = _digits_between(grammar, low, high, places, above, below)
    with_point = grammar.sequence([grammar.literal("."), body])
    zero_fits = not low and not above and not (high == "" and below)
    return grammar.optional(with_point) if zero_fits else with_point


def _digits_between(
    grammar: Grammar, low: str, high: str | None, places: int, above: bool, below: bool
) -> Node:
    """Return one or more digits d with 0.low <= 0.d <= 0.high, at most ``places``.

    ``low`` and ``high`` are what is left of the bounds after the digits read so far.
    """
    if places == 0:
        return grammar.fail
    parts = []
    for digit in range(10):
        edge_low = low[:1] or "0"
        edge_high = None if high is None else high[:1] or "0"
        if digit < int(edge_low) or (edge_high is not None and digit > int(edge_high)):
            continue
        on_low = digit == int(edge_low) and (low != "" or above)
        on_high = edge_high is not None and digit == int(edge_high)
        rest_low, rest_above = (low[1:], above) if on_low else ("", False)
        rest_high, rest_below = (high[1:] if high else high, below) if on_high else (None, False)
        if not on_low and not on_high:
            tail = grammar.repeat(grammar.byte_set(_ANY_DIGIT), 0, places - 1)
        else:
            more = _digits_between(grammar, rest_low, rest_high, places - 1, rest_above, rest_below)
            ends = not rest_low and not rest_above and not (rest_high == "" and rest_below)
            tail = grammar.optional(more) if ends else more
        parts.append(grammar.sequence([grammar.literal(str(digit)), tail]))
    return grammar.choice(parts)
