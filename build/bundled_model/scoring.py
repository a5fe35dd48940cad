"""Held-out scores that need no generation: loss by kind, and exact answers.

Greedy decoding gives exactly the expected answer if and only if, with that answer as input, every
next token is the most probable one.  So one forward pass per conversation counts exact calls.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import torch
from torch.nn import functional

from .batches import CALL, IGNORED, collate
from .chat_format import encode_chat
from .corpus import make
from .model import has_fast_bf16
from .requests import NO_TOOL
from .tokenizer import Tokenizer
from .tool_chats import tool_chat
from .words import EVALUATION_SEED, Words

Row = tuple[str, list[int], list[bool]]


def held_out_chats(tokenizer: Tokenizer, amount: int) -> list[Row]:
    """Conversations of the evaluation's side of the split: (kind, ids, learn)."""
    words = Words(random.Random(EVALUATION_SEED), held_out=True)
    seen = Words(random.Random(EVALUATION_SEED + 1), held_out=False)
    rows: list[Row] = []
    for _ in range(amount):
        rows.append(("tools", *encode_chat(tokenizer, *tool_chat(words, turns=2))))
        rows.append(("tools_known", *encode_chat(tokenizer, *tool_chat(seen, turns=2))))
    for _ in range(amount // 4):
        rows.append(("novel_tools", *encode_chat(tokenizer, *tool_chat(words, novel=True))))
        for kind in ("story", "talk", "numbers"):
            rows.append((kind, *encode_chat(tokenizer, *make(words, kind))))
    return rows


def refusal_id(tokenizer: Tokenizer) -> int:
    """The token that a refusal begins with."""
    return tokenizer.encode(NO_TOOL)[0]


@torch.no_grad()
def score(
    model: Any, rows: list[Row], device: torch.device, refusal: int
) -> dict[str, dict[str, float]]:
    """By kind: loss per learned token, share of exact answers, and ``fits`` where there are tools.

    ``fits`` is the area under the curve of telling requests that a tool fits from others by the
    first token's scores: 0.5 is chance.  ``refusal`` is what :func:`refusal_id` gives.
    """
    fast = has_fast_bf16(device.type)
    order = sorted(rows, key=lambda row: len(row[1]))
    losses: defaultdict[str, list[float]] = defaultdict(list)
    exact: defaultdict[str, list[bool]] = defaultdict(list)
    sure: defaultdict[str, dict[int, list[float]]] = defaultdict(lambda: {CALL: [], refusal: []})
    for first in range(0, len(order), 24):
        group = order[first : first + 24]
        inputs, targets = collate([(ids, learn) for _, ids, learn in group])
        inputs, targets = inputs.to(device), targets.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            logits = model.logits(model(inputs)).float()
        loss = functional.cross_entropy(
            logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        right = (logits.argmax(-1) == targets) | (targets == IGNORED)
        for index, (kind, _, _) in enumerate(group):
            wanted = targets[index] != IGNORED
            losses[kind] += loss[index][wanted].tolist()
            for begin, end in _answers(wanted.tolist()):
                exact[kind].append(bool(right[index, begin:end].all()))
                answered = int(targets[index, begin])
                if answered in sure[kind]:
                    between = logits[index, begin, CALL] - logits[index, begin, refusal]
                    sure[kind][answered].append(float(between))
    return {
        kind: {
            "loss": round(sum(losses[kind]) / len(losses[kind]), 4),
            "exact": round(sum(exact[kind]) / len(exact[kind]), 4),
        }
        | ({"fits": area(sure[kind][CALL], sure[kind][refusal])} if sure[kind][refusal] else {})
        for kind in sorted(losses)
    }


def area(higher: list[float], lower: list[float]) -> float:
    """The area under the curve: how often one of ``higher`` is above one of ``lower``."""
    above = sum((a > b) + 0.5 * (a == b) for a in higher for b in lower)
    return round(above / max(1, len(higher) * len(lower)), 4)


def _answers(wanted: list[bool]) -> list[tuple[int, int]]:
    """The (begin, end) of each run of learned positions: one answer of the assistant."""
    runs: list[tuple[int, int]] = []
    begin = None
    for position, flag in enumerate([*wanted, False]):
        if flag and begin is None:
            begin = position
        elif not flag and begin is not None:
            runs.append((begin, position))
            begin = None
    return runs
