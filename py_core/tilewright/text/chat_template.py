"""Chat messages to prompts, by the template that came with the model.

Knows how untrusted text is kept from turning into control tokens; does not know vocabularies (it
is told the texts of control tokens) nor models.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from tilewright.errors import TemplateError
from tilewright.text.prompt import Prompt
from tilewright.text.template_budget import Budget
from tilewright.text.template_sandbox import RefusedError, TemplateEnvironment

_MAX_SOURCE = 512 * 1024
_MAX_NESTING = 200
_ROLE_NAMES = "system user assistant tool developer function ipython model observation"
_ROLES = frozenset(_ROLE_NAMES.split(" "))
_PROSE = frozenset(["content", "text", "reasoning_content", "thinking"])
"""Fields of messages that hold free text."""
_SENTINELS = range(0xE000, 0xF900)


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja source.
        bos_token: text of the beginning-of-sequence token.
        eos_token: text of the end-of-sequence token.
        special_tokens: texts that must not come from messages (``Tokenizer.control_tokens``).

    Raises:
        TemplateError: the source does not compile.

    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        special_tokens: Collection[str] = (),
    ) -> None:
        if len(source) > _MAX_SOURCE:
            raise TemplateError(f"The chat template is longer than {_MAX_SOURCE} characters.")
        self.source = source
        self.bos_token = bos_token
        self.eos_token = eos_token
        self._marker = Marker(special_tokens, source)
        self._environment = TemplateEnvironment()
        try:
            self._template = self._environment.compile_metered(source)
        except Exception as error:  # Jinja, or Python's compiler on what Jinja made
            raise TemplateError(f"The chat template does not compile: {_said(error)}.") from None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        now: datetime | None = None,
        **variables: Any,
    ) -> str:
        """Return the prompt's text.

        Args:
            messages: role, content and whatever else the template reads.
            tools: JSON schemas of tools.
            add_generation_prompt: end with the header of the assistant's answer.
            now: the clock behind ``strftime_now``.
            variables: further variables of the template.

        Raises:
            TemplateError: the template refused the messages, failed, or took too much time or
                memory.

        """
        given = {
            "documents": None,
            **variables,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
        }
        environment = self._environment
        environment.budget = Budget(sum(map(len, _texts(given))))
        environment.now = now or datetime.now()
        try:
            return self._template.render(given)
        except RefusedError as error:
            raise TemplateError(f"The chat template refuses these messages: {error}") from None
        except Exception as error:  # a template may fail in any way that Python code may
            raise TemplateError(f"The chat template failed: {_said(error)}.") from None

    def render_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        now: datetime | None = None,
        **variables: Any,
    ) -> Prompt:
        """Return the prompt for ``Tokenizer.encode_prompt``; arguments and errors as ``render``.

        Look-alikes of control tokens in messages, tools and variables get a sentinel inside before
        the template sees them, so trimming and splitting work as usual and only the template's own
        text can become control tokens.
        """
        given: dict[str, Any] = {"messages": messages, "tools": tools, **variables}
        sentinel = _unused_character([*_texts(given), self.source, self.bos_token, self.eos_token])
        marked = {
            key: self._marker.mark(value, sentinel, prose=False) for key, value in given.items()
        }
        text = self.render(add_generation_prompt=add_generation_prompt, now=now, **marked)
        return Prompt(text, sentinel)


class Marker:
    """Puts a sentinel into every look-alike of a control token.

    Args:
        tokens: texts of the control tokens. Those of one character cannot be broken and are
            left out.
        source: the template; words that it names are left alone.

    """

    def __init__(self, tokens: Collection[str], source: str = "") -> None:
        self._source = source
        self._tokens = sorted((t for t in tokens if len(t) > 1), key=len, reverse=True)
        self._starts = {t[:n] for t in self._tokens for n in range(1, len(t))}
        self._ends = {t[-n:] for t in self._tokens for n in range(1, len(t))}
        self._longest = max(map(len, self._tokens), default=0)

    def mark(
        self,
        value: Any,
        sentinel: str,
        *,
        by_model: bool = False,
        prose: bool = True,
        depth: int = 0,
    ) -> Any:
        """Return ``value`` with marks in all its texts.

        Args:
            value: text, or anything that JSON can hold.
            sentinel: the mark.
            by_model: the text is an answer of the model, in which templates look for the
                delimiters of its reasoning, so those stay whole.
            prose: the text is somebody's words, not one of the names that templates compare
                with each other.
            depth: how deep ``value`` lies in another.

        """
        if depth > _MAX_NESTING:
            raise TemplateError("The messages or tools are nested too deeply.")
        if isinstance(value, str):
            cuts = self._inside(value, by_model)
            if prose or not value.isidentifier():
                cuts |= self._at_edges(value) | self._as_middle(value)
            return _cut(value, cuts, sentinel)
        if isinstance(value, Mapping):
            role = value.get("role")
            by_model = by_model or role == "assistant"
            marked = {
                self.mark(key, sentinel, prose=False): self.mark(
                    item,
                    sentinel,
                    by_model=by_model,
                    prose=key in _PROSE or (key == "role" and not _is_known_role(item)),
                    depth=depth + 1,
                )
                for key, item in value.items()
            }
            if _is_known_role(role):
                marked["role"] = role  # templates write delimiters around roles to make tokens
            return marked
        if isinstance(value, list | tuple):
            return [
                self.mark(v, sentinel, by_model=by_model, prose=prose, depth=depth + 1)
                for v in value
            ]
        return value

    def _inside(self, text: str, by_model: bool) -> set[int]:
        """Return positions behind the first character of each control token in ``text``."""
        found = [t for t in self._tokens if t in text]
        if by_model:
            found = [t for t in found if not re.search("think|thought", t, re.IGNORECASE)]
        return {m.start() + 1 for t in found for m in re.finditer(f"(?={re.escape(t)})", text)}

    def _as_middle(self, text: str) -> set[int]:
        """Return a position in text that, between two delimiters, would make a token.

        Words that the template names are left alone, since it compares them with messages.
        """
        body = text.strip()
        if not body or len(body) >= self._longest:
            return set()
        if f"'{body}'" in self._source or f'"{body}"' in self._source:
            return set()
        inside = any(body in token[1:-1] for token in self._tokens)
        return {text.index(body) + min(1, len(body) - 1)} if inside else set()

    def _at_edges(self, text: str) -> set[int]:
        """Return positions that keep the text from forming a token with what stands beside it."""
        cuts: set[int] = set()
        body = text.rstrip()
        for end in {len(text), len(body)}:
            for n in range(1, min(self._longest, end + 1)):
                if text[end - n : end] in self._starts:
                    cuts.add(end - n + 1)
        for start in {0, len(text) - len(text.lstrip())}:
            for n in range(1, min(self._longest, len(text) - start + 1)):
                if text[start : start + n] in self._ends:
                    cuts.add(start + n - 1)
        return cuts


def _is_known_role(role: object) -> bool:
    return isinstance(role, str) and role in _ROLES


def _cut(text: str, cuts: set[int], sentinel: str) -> str:
    """Return ``text`` with the sentinel at the given positions."""
    if not cuts:
        return text
    bounds = [0, *sorted(cuts), len(text)]
    return sentinel.join(text[a:b] for a, b in pairwise(bounds))


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in ``value``, however deep."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            pending += item


def _unused_character(texts: Sequence[str]) -> str:
    """Return a private-use character that occurs in none of ``texts``."""
    for code in _SENTINELS:
        if not any(chr(code) in text for text in texts):
            return chr(code)
    raise TemplateError("The messages use every private-use character; remove some of them.")


def _said(error: Exception) -> str:
    message = " ".join(str(error).split()).rstrip(".")
    return message[:500] or type(error).__name__
