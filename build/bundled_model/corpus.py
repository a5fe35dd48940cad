"""The corpus as a stream: which kinds of conversation, in which shares, from which seed.

Everything is made by programs in this folder; nothing is read but data/*.txt.  The same seed
gives the same corpus.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from .stories import story_chat
from .talk import arithmetic, small_talk
from .tool_chats import copy_chat, tool_chat
from .words import Words

Chat = tuple[list[dict[str, Any]], list[dict[str, Any]]]

EARLY = {"copy": 0.10, "tools": 0.76, "story": 0.06, "talk": 0.02, "numbers": 0.06}
LATE = {"copy": 0.04, "tools": 0.80, "story": 0.07, "talk": 0.02, "numbers": 0.07}
"""Shares of conversations at the start, and from a quarter of the training on."""
SHORT = 0.55
"""Share of the conversations with tools that are one or two requests to a small toolbox."""
SHORT_SIZES = (1, 1, 2, 2, 3)


def shares(progress: float) -> dict[str, float]:
    """The mixture at a point of the training, progress in [0, 1]."""
    late = min(1.0, progress / 0.25)
    return {kind: EARLY[kind] * (1 - late) + LATE[kind] * late for kind in EARLY}


def misfits(progress: float) -> float:
    """The share of requests that no tool fits; less at the end, as in use."""
    return 0.27 - 0.10 * min(1.0, max(0.0, (progress - 0.6) / 0.2))


def make(words: Words, kind: str, progress: float = 1.0) -> Chat:
    """One conversation of a kind: (messages, tools)."""
    if kind == "tools":
        if words.rng.random() < SHORT and not words.held_out:
            turns = words.rng.choice((1, 2))
            return tool_chat(words, turns=turns, misfits=misfits(progress), sizes=SHORT_SIZES)
        return tool_chat(words, misfits=misfits(progress))
    if kind == "copy":
        return copy_chat(words)
    if kind == "story":
        return story_chat(words), []
    maker = small_talk if kind == "talk" else arithmetic
    messages: list[dict[str, Any]] = []
    for _ in range(words.rng.randint(1, 5)):
        question, answer = maker(words)
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return messages, []


def stream(seed: int, held_out: bool = False, progress: float = 1.0) -> Iterator[tuple[str, Chat]]:
    """Endless (kind, conversation); ``held_out`` draws from the evaluation's side."""
    rng = random.Random(seed)
    words = Words(rng, held_out)
    mixture = shares(progress)
    kinds, weights = list(mixture), list(mixture.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield kind, make(words, kind, progress)
