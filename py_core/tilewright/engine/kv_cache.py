"""Who holds which block of the paged key/value cache, and which prefixes it already contains.

Only bookkeeping: block numbers, reference counts, digests of ids. Knows nothing of GPUs, layers or
scheduling. Full blocks are found again by a chain of digests, ``digest(previous digest, ids of the
block)``, as vLLM does; SHA-256 makes a collision (one prompt answering with another's keys) out of
the question. A block that nobody holds but whose content is known stays findable until it is the
least recently used one and the space is needed.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Digest = bytes


@dataclass(eq=False)
class BlockTable:
    """The blocks of one sequence, in order of position."""

    blocks: list[int] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    """Of the leading blocks whose content has been registered."""
    seed: Digest = b""
    """What content depends on beside ids: the adapter."""


@dataclass(frozen=True)
class BlockStats:
    """How the blocks are used."""

    total: int
    held: int
    """Held by sequences."""
    cached: int
    """Held by nobody, content findable."""
    hits: int
    """Prompt tokens that were found in the cache, over all time."""
    queries: int
    """Prompt tokens that were looked up, over all time."""
    evictions: int


class BlockManager:
    """Gives out ``blocks`` blocks of ``size`` positions each."""

    def __init__(self, blocks: int, size: int) -> None:
        if blocks < 1 or size < 1:
            raise ValueError(f"{blocks} blocks of {size} positions make no cache")
        self.total = blocks
        self.size = size
        self._references = [0] * blocks
        self._digest_of: list[Digest | None] = [None] * blocks
        self._block_of: dict[Digest, int] = {}
        # Blocks that nobody holds; the first is given out next.
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(blocks))
        self._hits = 0
        self._queries = 0
        self._evictions = 0

    @property
    def free(self) -> int:
        """Blocks that can be given out, known content or not."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """Return how many blocks hold ``tokens`` positions."""
        return -(-tokens // self.size)

    def acquire(self, table: BlockTable, ids: Sequence[int], *, share: bool = True) -> int | None:
        """Fill an empty ``table`` with blocks for ``ids``; return how many leading ids are cached.

        At least one id is always left to compute, so that there are logits to draw from. None,
        and nothing changed, where too few blocks are free. ``share``: look prefixes up.
        """
        if table.blocks:
            raise ValueError("the table already has blocks")
        digests = self._match(ids, table.seed) if share else []
        shared = [self._block_of[digest] for digest in digests]
        fresh = self.needed(len(ids)) - len(shared)
        if fresh > len(self._free) - sum(not self._references[block] for block in shared):
            return None
        for block in shared:
            self._hold(block)
        table.blocks = shared + [self._take() for _ in range(fresh)]
        table.digests = digests
        cached = len(shared) * self.size
        if share:
            self._hits += cached
            self._queries += len(ids)
        return cached

    def grow(self, table: BlockTable, tokens: int) -> bool:
        """Make room for ``tokens`` positions; False, and nothing changed, where none is left."""
        fresh = self.needed(tokens) - len(table.blocks)
        if fresh <= 0:
            return True
        if fresh > len(self._free):
            return False
        table.blocks.extend(self._take() for _ in range(fresh))
        return True

    def register(self, table: BlockTable, ids: Sequence[int], computed: int) -> None:
        """Make full blocks findable: ``ids`` are known and ``computed`` positions are submitted."""
        full = min(len(ids), computed) // self.size
        for number in range(len(table.digests), full):
            previous = table.digests[-1] if table.digests else table.seed
            digest = _chain(previous, ids[number * self.size : (number + 1) * self.size])
            table.digests.append(digest)
            block = table.blocks[number]
            # Another sequence may have computed the same block meanwhile: one of them is findable.
            if digest not in self._block_of and self._digest_of[block] is None:
                self._block_of[digest] = block
                self._digest_of[block] = digest

    def fork(self, table: BlockTable, ids: Sequence[int]) -> BlockTable:
        """Return a second table that shares the registered full blocks of ``ids`` in ``table``."""
        count = min(len(table.digests), len(ids) // self.size)
        for block in table.blocks[:count]:
            self._hold(block)
        return BlockTable(table.blocks[:count], table.digests[:count], table.seed)

    def truncate(self, table: BlockTable, tokens: int) -> None:
        """Give back the blocks beyond ``tokens`` positions.

        A partly kept block may be written again, so it stops being findable; where another
        sequence holds it too, ValueError is raised and nothing is changed.
        """
        keep, full = self.needed(tokens), tokens // self.size
        if keep > full and full < len(table.digests):
            block = table.blocks[full]
            if self._references[block] > 1:
                raise ValueError("a block that another sequence holds cannot be cut")
            self._forget(block)
        self._drop(reversed(table.blocks[keep:]))
        del table.blocks[keep:]
        del table.digests[full:]

    def release(self, table: BlockTable, *, forget: bool = False) -> None:
        """Give all blocks back; with ``forget`` their content is not trusted any more."""
        if forget:
            for block in table.blocks:
                self._forget(block)
        # The end of a sequence is evicted before its beginning, which others may share.
        self._drop(reversed(table.blocks))
        table.blocks = []
        table.digests = []

    def reset(self) -> None:
        """Forget all content (the cache's memory was lost); tables must have been released."""
        if any(self._references):
            raise ValueError("blocks are still held")
        for block in range(self.total):
            self._forget(block)

    def stats(self) -> BlockStats:
        """Return the present use."""
        cached = sum(self._digest_of[block] is not None for block in self._free)
        held = self.total - len(self._free)
        return BlockStats(self.total, held, cached, self._hits, self._queries, self._evictions)

    def _match(self, ids: Sequence[int], seed: Digest) -> list[Digest]:
        """Return the digests of the leading full blocks that are in the cache."""
        found: list[Digest] = []
        digest = seed
        for start in range(0, (len(ids) - 1) // self.size * self.size, self.size):
            digest = _chain(digest, ids[start : start + self.size])
            if digest not in self._block_of:
                break
            found.append(digest)
        return found

    def _hold(self, block: int) -> None:
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1

    def _take(self) -> int:
        block, _ = self._free.popitem(last=False)
        if self._digest_of[block] is not None:
            self._forget(block)
            self._evictions += 1
        self._references[block] = 1
        return block

    def _drop(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
                if self._digest_of[block] is None:  # nothing to keep: the first to be reused
                    self._free.move_to_end(block, last=False)

    def _forget(self, block: int) -> None:
        digest = self._digest_of[block]
        if digest is not None:
            self._digest_of[block] = None
            del self._block_of[digest]


def _chain(previous: Digest, ids: Sequence[int]) -> Digest:
    return hashlib.sha256(previous + array("I", ids).tobytes()).digest()
