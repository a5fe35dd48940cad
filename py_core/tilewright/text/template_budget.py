"""Bounds on the work of one template rendering; knows values, not templates.

There is no thread and no signal in Pyodide that could stop a template, so every step of it pays
from a budget, and every operation whose result may be much larger than its arguments is estimated
before it runs. An exhausted budget raises, and ``try`` does not exist in templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined
from jinja2.utils import Namespace

_MAX_STEPS = 400_000
"""Loop rounds, calls, filters and operators; about a second in CPython."""
_MAX_CHARACTERS = 32_000_000
"""Characters written or copied beyond what the messages themselves call for."""
_MAX_DEPTH = 80
"""Calls within calls: each takes several Python frames, of which Pyodide allows few."""
_MAX_NESTING = 200
_MAX_ITEMS = 200_000
_MAX_WIDTH = 10_000
"""Largest width, indentation or count that a filter or format may be given."""
_MAX_BITS = 4096
_WIDE_FORMAT = re.compile(r"%[^A-Za-z%]*(?:\*|\d{5})|\{[^{}]*(?:\{|\d{5})")


class Budget:
    """What one rendering may still spend.

    Args:
        input_size: characters of all messages and tools; large conversations may cost more.

    """

    def __init__(self, input_size: int) -> None:
        self._steps = _MAX_STEPS + input_size // 4
        self._characters = _MAX_CHARACTERS + 100 * input_size
        self._depth = 0

    def step(self, weight: int = 0) -> None:
        """Pay for one step that handles ``weight`` characters or items.

        Raises:
            SecurityError: the budget is exhausted.

        """
        self._steps -= 1 + (weight >> 8)
        if self._steps < 0:
            raise SecurityError("the template takes too many steps")

    def write(self, characters: int) -> None:
        """Pay for a new text of that length."""
        self._characters -= characters
        if self._characters < 0:
            raise SecurityError("the template writes too much text")

    def enter(self) -> None:
        """Begin a call."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise SecurityError("the template calls itself too deeply")

    def leave(self) -> None:
        """End a call."""
        self._depth -= 1

    def see(self, value: Any) -> None:
        """Pay for handling ``value`` without looking into it."""
        self.step(len(value) if isinstance(value, Sized) and not _is_undefined(value) else 0)

    def printed_size(self, value: Any) -> int:
        """Return about how many characters ``str(value)`` has, paying for the walk.

        Containers that hold the same container many times print exponentially long; the walk
        visits what printing would visit and ends with the budget.
        """
        if isinstance(value, str):
            return len(value)
        total = 0
        depths = [(value, 0)]
        while depths:
            self.step()
            item, depth = depths.pop()
            if depth > _MAX_NESTING:
                raise SecurityError("a list is nested too deeply")
            if isinstance(item, str):
                total += len(item) + 2
            elif isinstance(item, Mapping):
                depths += [(part, depth + 1) for pair in item.items() for part in pair]
            elif isinstance(item, Sequence | Set):
                depths += [(part, depth + 1) for part in item]
            elif isinstance(item, Namespace):
                raise SecurityError("a namespace has no text form")
            else:
                total += 24
        return total

    def result(self, value: Any) -> Any:
        """Pay for a new value and return it.

        Raises:
            SecurityError: it is too large.

        """
        if isinstance(value, str):
            self.write(len(value))
        elif isinstance(value, int):
            if value.bit_length() > _MAX_BITS:
                raise SecurityError("a number is too large")
        elif isinstance(value, Sized) and not _is_undefined(value):
            if len(value) > _MAX_ITEMS:
                raise SecurityError("a list is too long")
            self.step(len(value))
        return value

    def operator(self, operator: str, left: Any, right: Any) -> None:
        """Check an arithmetic operator before it runs."""
        self.see(left)
        self.see(right)
        if operator == "**" and not (
            isinstance(left, int | float) and isinstance(right, int | float) and abs(right) <= 64
        ):
            raise SecurityError("a power is too large")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, Sized) and isinstance(other, int):
                    self._grow(len(one) * max(other, 0))
        if operator == "%" and isinstance(left, str):
            check_format(left)
            self.write(self.printed_size(right))

    def _grow(self, size: int) -> None:
        """Pay for a text or list of ``size`` before it is made."""
        self.write(size)
        self.step(size)

    def text_method(self, text: str, name: str, arguments: Sequence[Any]) -> None:
        """Check a call of the text method ``name`` before it runs."""
        self.step(len(text))
        widths = [a for a in arguments if isinstance(a, int)]
        if name == "replace" and len(arguments) >= 2:
            self.replacing(text, arguments[0], arguments[1])
        elif name == "join" and arguments:
            self.joining(text, arguments[0])
        elif name in ("format", "format_map"):
            check_format(text)
            self.write(self.printed_size(list(arguments)))
        elif name in ("center", "ljust", "rjust", "zfill"):
            check_widths(widths)
        elif name == "expandtabs":
            check_widths(widths)
            self._grow(text.count("\t") * max(widths, default=8))

    def replacing(self, text: Any, old: Any, new: Any) -> None:
        """Check ``text.replace(old, new)`` before it runs."""
        text, old, new = str(text), str(old), str(new)
        count = text.count(old) if old else len(text) + 1
        self._grow(len(text) + count * len(new))

    def joining(self, separator: Any, items: Any) -> None:
        """Check ``separator.join(items)`` before it runs (generators are bounded by steps)."""
        if isinstance(items, Sized) and isinstance(items, Iterable):
            self.step(len(items))
            self._grow(len(str(separator)) * len(items) + self.printed_size(items))

    def filter_arguments(self, name: str, arguments: Sequence[Any]) -> None:
        """Check a filter's value and arguments before it runs."""
        for argument in arguments:
            self.see(argument)
        if name in _WIDTH_FILTERS:
            check_widths(a for a in arguments[1:] if isinstance(a, int))
        value = arguments[0] if arguments else ""
        rest = arguments[1:]
        if name == "join":
            self.joining(rest[0] if rest else "", value)
        elif name == "replace" and len(rest) >= 2:
            self.replacing(self.text_of(value), rest[0], rest[1])
        elif name == "indent":
            width = rest[0] if rest else 4
            width = width if isinstance(width, int) else len(str(width))
            text = self.text_of(value)
            self._grow(len(text) + (text.count("\n") + 1) * width)
        elif name == "sum" and any(isinstance(a, Sized) for a in rest):
            # Adding lists copies the sum so far for each of them.
            self.step(self.nodes(value) * (len(value) + 1))
        elif name == "format":
            check_format(self.text_of(value))
            self.write(self.printed_size(list(rest)))
        elif name == "tojson":
            widths = [a for a in rest if isinstance(a, int)]
            lengths = [len(a) for a in rest if isinstance(a, str)]
            indent = max([*widths, *lengths, 0])
            self._grow(self.printed_size(value) * 2 + self.nodes(value) * indent * 8)
        elif name in _PRINTING_FILTERS:
            self.write(self.printed_size(value))
        elif name in _TEXT_FILTERS:
            self.text_of(value)

    def nodes(self, value: Any) -> int:
        """Return how many values ``value`` holds, repeated ones included."""
        before = self._steps
        self.printed_size(value)
        return before - self._steps

    def text_of(self, value: Any) -> str:
        """Return ``str(value)``, paid for."""
        self.write(self.printed_size(value))
        return str(value)


_WIDTH_FILTERS = frozenset(["batch", "slice", "center", "indent", "truncate", "tojson"])
_PRINTING_FILTERS = frozenset(["string", "urlencode", "xmlattr", "sort", "unique"])
_TEXT_NAMES = (
    "upper lower capitalize title trim escape e forceescape safe wordcount center truncate"
)
_TEXT_FILTERS = frozenset(_TEXT_NAMES.split(" "))


def check_widths(widths: Iterable[int]) -> None:
    """Refuse widths and counts beyond reason.

    Raises:
        SecurityError: one is too large.

    """
    if any(abs(width) > _MAX_WIDTH for width in widths):
        raise SecurityError("a width or count is too large")


def check_format(template: str) -> None:
    """Refuse format strings that ask for very wide fields or take widths from arguments.

    Raises:
        SecurityError: it does.

    """
    if _WIDE_FORMAT.search(template):
        raise SecurityError("a format string asks for too wide a field")


def _is_undefined(value: Any) -> bool:
    return isinstance(value, Undefined)
