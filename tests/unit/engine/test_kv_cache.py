"""Block manager: examples, and a model-based search for any sequence of calls that breaks it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tilewright.engine.kv_cache import BlockManager, BlockTable

SIZE = 3
BLOCKS = 9


def test_prefix_is_found_after_its_owner_has_gone() -> None:
    manager = BlockManager(8, 4)
    table = BlockTable()
    assert manager.acquire(table, range(10)) == 0
    manager.register(table, range(10), 10)
    first = list(table.blocks)
    manager.release(table)
    assert manager.acquire(table, [*range(8), 99, 98, 97]) == 8
    assert table.blocks[:2] == first[:2]
    assert table.blocks[2] not in first[:2]


def test_last_id_is_never_taken_from_the_cache() -> None:
    manager = BlockManager(8, 4)
    table, again = BlockTable(), BlockTable()
    manager.acquire(table, range(8))
    manager.register(table, range(8), 8)
    assert manager.acquire(again, range(8)) == 4
    assert again.blocks[0] == table.blocks[0]
    assert again.blocks[1] != table.blocks[1]


def test_same_ids_after_another_beginning_are_another_block() -> None:
    manager = BlockManager(8, 2)
    table, other = BlockTable(), BlockTable()
    manager.acquire(table, [1, 2, 3, 4, 5])
    manager.register(table, [1, 2, 3, 4, 5], 5)
    assert manager.acquire(other, [9, 2, 3, 4, 5]) == 0
    manager.release(other)
    assert manager.acquire(other, [1, 2, 3, 4, 6]) == 4


def test_least_recently_used_content_goes_first() -> None:
    manager = BlockManager(4, 1)
    tables = [BlockTable() for _ in range(3)]
    for number, table in enumerate(tables):
        manager.acquire(table, [number])
        manager.register(table, [number], 1)
    for table in (tables[1], tables[0], tables[2]):
        manager.release(table)
    big = BlockTable()
    assert manager.acquire(big, [70, 71]) == 0  # the never used block, then that of 1
    manager.release(big)
    found = [manager.acquire(BlockTable(), [number, 50]) for number in (0, 2)]
    assert found == [1, 1]
    assert manager.stats().evictions == 1


def test_forgotten_content_is_not_found() -> None:
    manager = BlockManager(4, 2)
    table = BlockTable()
    manager.acquire(table, range(4))
    manager.register(table, range(4), 4)
    manager.release(table, forget=True)
    assert manager.acquire(table, range(5)) == 0


def test_acquire_that_does_not_fit_changes_nothing() -> None:
    manager = BlockManager(3, 2)
    table, other = BlockTable(), BlockTable()
    manager.acquire(table, range(4))
    manager.register(table, range(4), 4)
    assert manager.acquire(other, range(10)) is None
    assert other.blocks == []
    assert manager.free == 1
    assert not manager.grow(table, 7) or manager.free == 0
    assert not manager.grow(table, 9)


def test_cut_block_that_is_shared_is_refused() -> None:
    manager = BlockManager(6, 2)
    table = BlockTable()
    manager.acquire(table, range(5))
    manager.register(table, range(5), 5)
    copy = manager.fork(table, range(5))
    assert copy.blocks == table.blocks[:2]
    with pytest.raises(ValueError, match="cannot be cut"):
        manager.truncate(copy, 3)
    manager.truncate(copy, 2)
    assert copy.blocks == table.blocks[:1]


class Machine(RuleBasedStateMachine):
    """Sequences with simulated content: what a table's blocks hold must be what it wrote or found.

    ``content[block]`` has what keys depend on, the ids up to each position; a sequence writes those
    that were not found.
    """

    def __init__(self) -> None:
        super().__init__()
        self.manager = BlockManager(BLOCKS, SIZE)
        self.content: list[list[list[int] | None]] = [[None] * SIZE for _ in range(BLOCKS)]
        self.sequences: list[tuple[BlockTable, list[int]]] = []

    def _write(self, table: BlockTable, ids: list[int], start: int) -> None:
        for position in range(start, len(ids)):
            self.content[table.blocks[position // SIZE]][position % SIZE] = ids[: position + 1]

    # Few different ids, so that prefixes meet.
    @rule(ids=st.lists(st.integers(0, 1), min_size=1, max_size=14))
    def start(self, ids: list[int]) -> None:
        table = BlockTable()
        free = self.manager.free
        cached = self.manager.acquire(table, ids)
        if cached is None:
            assert self.manager.free == free
            assert not table.blocks
            return
        assert cached < len(ids)
        assert len(table.blocks) == self.manager.needed(len(ids))
        self._write(table, ids, cached)
        self.manager.register(table, ids, len(ids))
        self.sequences.append((table, ids))

    @precondition(lambda self: self.sequences)
    @rule(which=st.integers(0), more=st.lists(st.integers(0, 1), min_size=1, max_size=5))
    def extend(self, which: int, more: list[int]) -> None:
        table, ids = self.sequences[which % len(self.sequences)]
        before = len(table.blocks)
        if not self.manager.grow(table, len(ids) + len(more)):
            assert len(table.blocks) == before
            return
        start = len(ids)
        ids += more
        self._write(table, ids, start)
        self.manager.register(table, ids, len(ids))

    @precondition(lambda self: self.sequences)
    @rule(which=st.integers(0))
    def fork(self, which: int) -> None:
        table, ids = self.sequences[which % len(self.sequences)]
        copy = self.manager.fork(table, ids)
        self.sequences.append((copy, ids[: len(copy.blocks) * SIZE]))

    @precondition(lambda self: self.sequences)
    @rule(which=st.integers(0), length=st.integers(0, 14))
    def truncate(self, which: int, length: int) -> None:
        table, ids = self.sequences[which % len(self.sequences)]
        length = min(length, len(ids))
        try:
            self.manager.truncate(table, length)
        except ValueError:
            assert length % SIZE != 0
            return
        del ids[length:]

    @precondition(lambda self: self.sequences)
    @rule(which=st.integers(0), forget=st.booleans())
    def end(self, which: int, forget: bool) -> None:
        table, _ = self.sequences.pop(which % len(self.sequences))
        self.manager.release(table, forget=forget)
        assert table.blocks == table.digests == []

    @invariant()
    def every_sequence_reads_its_own_ids(self) -> None:
        for table, ids in self.sequences:
            read = [self.content[table.blocks[p // SIZE]][p % SIZE] for p in range(len(ids))]
            assert read == [ids[: p + 1] for p in range(len(ids))]

    @invariant()
    def blocks_add_up(self) -> None:
        held = {block for table, _ in self.sequences for block in table.blocks}
        stats = self.manager.stats()
        assert stats.held == len(held) == BLOCKS - self.manager.free
        assert stats.cached <= self.manager.free


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
