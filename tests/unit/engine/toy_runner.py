"""A runner over a toy model: the next token is a hash of all the ids that its paged cache holds.

Any mistake in block tables, positions, slots or the order of steps changes the hash, so comparing
with ``reference`` checks the engine's bookkeeping end to end. Steps run when they are submitted, as
a GPU queue would order them; their results wait for ``fetch``.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import Sequence

from tilewright.engine.runner_protocol import RowResult, StepResult, Want
from tilewright.engine.sampling import SamplingParams
from tilewright.errors import InvalidRequestError


def choose(ids: Sequence[int], vocabulary: int, seed: int, mask: bytes | None = None) -> int:
    """The toy model and its sampler."""
    state = zlib.crc32(struct.pack(f"<q{len(ids)}I", seed, *ids))
    for attempt in range(10_000):
        token = zlib.crc32(struct.pack("<II", state, attempt)) % vocabulary
        if mask is None or mask[token // 8] >> token % 8 & 1:
            return token
    raise AssertionError("the mask allows nothing")


def reference(prompt: Sequence[int], sampling: SamplingParams, vocabulary: int, limit: int):
    """What the engine must answer: uncached, unbatched, one token after the other."""
    ids = list(prompt)
    seed = 0 if sampling.greedy else sampling.seed
    most = limit if sampling.max_tokens is None else min(limit, len(ids) + sampling.max_tokens)
    while len(ids) < most:
        ids.append(choose(ids, vocabulary, seed))
        if ids[-1] in sampling.stop_ids:
            break
    return ids[len(prompt) :]


class ToyRunner:
    def __init__(
        self,
        *,
        vocabulary: int = 97,
        context_length: int = 64,
        max_sequences: int = 4,
        kv_block: int = 4,
        kv_blocks: int = 64,
        prefill_chunk: int = 8,
        pauses: bool = True,
    ) -> None:
        self.pauses = pauses
        self.vocabulary = vocabulary
        self.context_length = context_length
        self.max_sequences = max_sequences
        self.kv_block = kv_block
        self.kv_blocks = kv_blocks
        self.prefill_chunk = prefill_chunk
        self.logits_chunk = 4
        self.cache = [[None] * kv_block for _ in range(kv_blocks)]
        self.tables = [[None] * -(-context_length // kv_block) for _ in range(max_sequences)]
        self.seeds = [0] * max_sequences
        self.masks: list[bytes | None] = [None] * max_sequences
        self.next_ids = [0] * max_sequences
        self.lengths = [0] * max_sequences
        self.left: tuple[int, int] = (-1, -1)
        self.results: deque[StepResult | Exception] = deque()
        self.log: list[tuple] = []
        self.most_in_flight = 0
        self.fail_next: dict[str, Exception] = {}
        self.busy = False

    def _called(self, name: str, *details) -> None:
        assert not self.busy, f"{name} while another method is awaited"
        self.log.append((name, *details))
        if name in self.fail_next:
            raise self.fail_next.pop(name)

    async def _rest(self) -> None:
        self.busy = True
        if self.pauses:
            await asyncio.sleep(0)
        self.busy = False

    def set_blocks(self, slot: int, blocks: Sequence[int], first: int = 0) -> None:
        self._called("set_blocks", slot)
        self.tables[slot][first : first + len(blocks)] = blocks
        assert len(self.tables[slot]) == -(-self.context_length // self.kv_block)

    def set_sampling(
        self, slot: int, sampling: SamplingParams, ids: Sequence[int], prompt_length: int
    ) -> None:
        self._called("set_sampling", slot, prompt_length, len(ids))
        self.seeds[slot] = 0 if sampling.greedy else sampling.seed
        self.lengths[slot] = len(ids)
        self.masks[slot] = None

    def set_mask(self, slot: int, mask: bytes | None) -> None:
        self._called("set_mask", slot)
        self.masks[slot] = mask

    def adapter_serial(self, name: str) -> int:
        raise InvalidRequestError(f"There is no adapter {name!r}.", field="adapter")

    def set_adapter(self, slot: int, name: str | None) -> None:
        self._called("set_adapter", slot, name)
        assert name is None, "an adapter that adapter_serial has refused"

    def _write(self, slot: int, position: int, token: int) -> None:
        block = self.tables[slot][position // self.kv_block]
        # As keys and values do, an entry depends on all that comes before it.
        before = self._entry(slot, position - 1)[1] if position else 0
        value = zlib.crc32(struct.pack("<II", before, token))
        self.cache[block][position % self.kv_block] = (token, value)

    def _entry(self, slot: int, position: int) -> tuple[int, int]:
        block = self.tables[slot][position // self.kv_block]
        return self.cache[block][position % self.kv_block]

    def _context(self, slot: int, length: int) -> list[int]:
        entries = [self._entry(slot, position) for position in range(length)]
        value = 0
        for token, found in entries:
            value = zlib.crc32(struct.pack("<II", value, token))
            assert found == value, "keys of another prefix"
        return [token for token, _ in entries]

    async def prefill(self, slot: int, ids: Sequence[int], start: int, *, want: Want) -> None:
        self._called("prefill", slot, len(ids), start, want)
        assert 0 < len(ids) <= (self.logits_chunk if want == "all" else self.prefill_chunk)
        for offset, token in enumerate(ids):
            self._write(slot, start + offset, token)
        self.left = (slot, start + len(ids))
        await self._rest()

    def _draw(self, slot: int, length: int) -> RowResult:
        context = self._context(slot, length)
        token = choose(context, self.vocabulary, self.seeds[slot], self.masks[slot])
        self.next_ids[slot] = token
        self.lengths[slot] = length + 1
        return RowResult(slot, token, -1.0 - token, tuple((i, -float(i)) for i in range(20)))

    async def sample(self, slot: int) -> None:
        self._called("sample", slot)
        assert self.left == (slot, self.lengths[slot])
        self._queue([self._draw(slot, self.lengths[slot])])
        await self._rest()

    async def decode(self, slots: Sequence[int]) -> None:
        self._called("decode", *slots)
        assert len(set(slots)) == len(slots) <= self.max_sequences
        rows = []
        for slot in slots:
            length = self.lengths[slot]
            self._write(slot, length - 1, self.next_ids[slot])
            rows.append(self._draw(slot, length))
        self._queue(rows)
        await self._rest()

    def _queue(self, rows: list[RowResult]) -> None:
        self.results.append(StepResult(tuple(rows)))
        self.most_in_flight = max(self.most_in_flight, len(self.results))

    async def fetch(self) -> StepResult:
        self._called("fetch")
        await self._rest()
        return self.results.popleft()

    async def logits(self, rows: int) -> bytes:
        self._called("logits", rows)
        slot, end = self.left
        await self._rest()
        hashes = [choose(self._context(slot, p + 1), 1000, 0) for p in range(end - rows, end)]
        return struct.pack(f"<{rows}f", *hashes)

    async def embed(
        self, slots: Sequence[int], sequences: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        self._called("embed", *slots)
        if self.vocabulary == 98:
            raise InvalidRequestError("no pooled output")
        await self._rest()
        return [[float(sum(ids)), float(len(ids))] for ids in sequences]
