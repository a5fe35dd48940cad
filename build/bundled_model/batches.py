"""Batches from the corpus: conversations of like length together, no packing.

Each row is one conversation from position 0, as in use, so nothing leaks between conversations
and a plain causal mask is enough.  An endless stream is cut into pools, each pool is sorted by
length and dealt out in random order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from .chat_format import encode_chat
from .corpus import stream
from .tokenizer import Tokenizer

IGNORED = -1
POOL = 768


def collate(rows: list[tuple[list[int], list[bool]]], multiple: int = 8) -> tuple[Tensor, Tensor]:
    """(inputs, targets), both i64[B, T]; targets are IGNORED where nothing is to be learned."""
    length = max(len(ids) for ids, _ in rows) - 1
    length = -(-length // multiple) * multiple
    inputs = torch.zeros(len(rows), length, dtype=torch.int64)
    targets = torch.full((len(rows), length), IGNORED, dtype=torch.int64)
    for row, (ids, learn) in enumerate(rows):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        wanted = torch.tensor(ids[1:])
        wanted[~torch.tensor(learn[1:])] = IGNORED
        targets[row, : len(ids) - 1] = wanted
    return inputs, targets


def batches(
    tokenizer: Tokenizer, seed: int, progress: float, tokens: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one pool: about ``tokens`` ids each, padding included."""
    rows = [
        encode_chat(tokenizer, *chat) for _, chat in islice(stream(seed, progress=progress), POOL)
    ]
    rows.sort(key=lambda row: len(row[0]))
    groups: list[list[tuple[list[int], list[bool]]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > tokens:
            groups.append([])
        groups[-1].append(row)
    random.Random(seed).shuffle(groups)
    for group in groups:
        yield collate(group)
