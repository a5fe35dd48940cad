"""Batches from the corpus: conversations of like length together, no packing.

Each row is one conversation from position 0, as in use, so nothing leaks between conversations
and a plain causal mask is enough.  An endless stream is cut into pools, each pool is sorted by
length, those with tools apart, and dealt out in random order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .chat_format import encode_chat
from .corpus import stream
from .tokenizer import Tokenizer

Array = np.ndarray[tuple[int, ...], np.dtype[np.int16]]
IGNORED = -1
CALL = 2046
"""The id of <tool_call>."""
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
    tokenizer: Tokenizer, seed: int, progress: float, tokens: int, size: int = POOL
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one pool of ``size`` conversations: ``tokens`` ids each, padding included."""
    chats = [chat for _, chat in islice(stream(seed, progress=progress), size)]
    groups: list[list[tuple[list[int], list[bool]]]] = []
    for with_tools in (False, True):
        rows = [encode_chat(tokenizer, *chat) for chat in chats if bool(chat[1]) == with_tools]
        rows.sort(key=lambda row: len(row[0]))
        groups.append([])
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > tokens:
                groups.append([])
            groups[-1].append(row)
    random.Random(seed).shuffle(groups)
    for group in filter(None, groups):  # a pool may have none of one kind
        yield collate(group)


class Pools:
    """Pool after pool of batches, made beforehand by other processes where ``processes`` > 0.

    A GPU learns a hundred times as many tokens in a second as one core can make.
    """

    def __init__(self, tokenizer: Path, tokens: int, processes: int = 0, size: int = POOL) -> None:
        self.tokenizer = Tokenizer.load(tokenizer)
        self.tokens = tokens
        self.size = size
        self.ahead = 2 * processes
        self.coming: dict[int, Future[list[tuple[Array, Array]]]] = {}
        self.makers: ProcessPoolExecutor | None = None
        if processes:
            self.makers = ProcessPoolExecutor(
                processes, get_context("spawn"), initializer=_begin, initargs=(tokenizer,)
            )

    def take(self, seed: int, progress: float) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the pool ``seed``; those of the next seeds are begun."""
        if self.makers is None:
            yield from batches(self.tokenizer, seed, progress, self.tokens, self.size)
            return
        for wanted in range(seed, seed + self.ahead):
            if wanted not in self.coming:
                self.coming[wanted] = self.makers.submit(
                    _make, wanted, progress, self.tokens, self.size
                )
        for inputs, targets in self.coming.pop(seed).result():
            yield torch.from_numpy(inputs).long(), torch.from_numpy(targets).long()

    def close(self) -> None:
        """End the processes."""
        if self.makers is not None:
            self.makers.shutdown(cancel_futures=True)


_mine: list[Tokenizer] = []


def _begin(tokenizer: Path) -> None:
    """Start a maker: one core each, the tokenizer loaded once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    _mine.append(Tokenizer.load(tokenizer))


def _make(seed: int, progress: float, tokens: int, size: int) -> list[tuple[Array, Array]]:
    """A pool as int16 arrays, which travel between processes four times as fast as tensors."""
    return [
        (inputs.numpy().astype(np.int16), targets.numpy().astype(np.int16))
        for inputs, targets in batches(_mine[0], seed, progress, tokens, size)
    ]
