"""Splits an answer as it streams: reasoning, text, and calls of tools.

Knows texts and dialects, not tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from .shapes import Message, ToolCall
from .tools import Dialect

THINK, END_THINK = "<think>", "</think>"


class Holder:
    """Passes text on until one of some marks, holding back what may become one."""

    def __init__(self, marks: Sequence[str]) -> None:
        self._marks = tuple(mark for mark in marks if mark)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text before a mark, and the text from the mark on (None: no mark yet)."""
        text = self._held + text
        found = [at for mark in self._marks if (at := text.find(mark)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], text[min(found) :]
        keep = 0
        for mark in self._marks:
            for length in range(min(len(mark) - 1, len(text)), keep, -1):
                if text.endswith(mark[:length]):
                    keep = length
                    break
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut], None

    def flush(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return held


class Answer:
    """One choice of a chat completion.

    Args:
        dialect: how calls are written; None: no tools were offered.
        reasons: the model may begin with its reasoning.
        opened: the prompt has opened the reasoning already.
        parallel: more than one call is wanted.

    """

    def __init__(
        self,
        dialect: Dialect | None = None,
        *,
        reasons: bool = False,
        opened: bool = False,
        parallel: bool = True,
    ) -> None:
        self._dialect = dialect
        self._parallel = parallel
        self._start: str | None = "" if reasons and not opened else None
        self._thinking = Holder([END_THINK]) if opened else None
        self._text = Holder([dialect.begin] if dialect else [])
        self._calls: str | None = None
        self._begun = False
        self._trim = False
        self.called = False
        """Whether calls were found; known after ``finish``."""

    def push(self, text: str) -> Message:
        """Return what of ``text`` has become certain."""
        made: Message = {}
        if self._start is not None:
            self._start += text
            stripped = self._start.lstrip()
            if THINK.startswith(stripped[: len(THINK)]) and len(stripped) < len(THINK):
                return made
            text, self._start = self._start, None
            if stripped.startswith(THINK):
                self._thinking, text = Holder([END_THINK]), stripped[len(THINK) :]
        if self._thinking is not None:
            thought, rest = self._thinking.push(text)
            if thought:
                made["reasoning_content"] = thought
            if rest is None:
                return made
            self._thinking, text = None, rest[len(END_THINK) :]
            self._trim = True
        return self._visible(text, made)

    def _visible(self, text: str, made: Message) -> Message:
        if self._calls is not None:
            self._calls += text
            return made
        if not self._begun:
            if self._trim:
                text = text.lstrip()
            if not text:
                return made
            self._begun = True
            if self._dialect and text.lstrip().startswith(self._dialect.at_start or ("\0",)):
                self._calls = text
                return made
        shown, rest = self._text.push(text)
        self._calls = rest
        if shown:
            made["content"] = shown
        return made

    def finish(self) -> Message:
        """Return what is left: the calls, or text that only looked like calls."""
        made: Message = {}
        if self._thinking is not None:
            held = self._thinking.flush()
            if held:
                made["reasoning_content"] = held
            return made
        text = (self._start or "") + self._text.flush()
        if self._dialect is not None and self._calls is not None:
            calls = self._dialect.parse(self._calls)
            if calls is None:
                text += self._calls
            else:
                self.called = True
                kept = calls if self._parallel else calls[:1]
                made["tool_calls"] = [
                    _tool_call(index, call.name, call.arguments) for index, call in enumerate(kept)
                ]
        if text:
            made["content"] = text
        return made


def _tool_call(index: int, name: str, arguments: str) -> ToolCall:
    return {
        "index": index,
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def opens_reasoning(prompt: str) -> bool:
    """Return whether a rendered prompt ends inside the model's reasoning."""
    return prompt.rfind(THINK) > prompt.rfind(END_THINK) and prompt.rstrip().endswith(THINK)
