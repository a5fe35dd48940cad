"""Shared calls: every row exactly once, whatever the threads do; parked threads come back."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tilewright.errors import KernelError
from tilewright.graph.ops import Rows
from tilewright.wasm import host, pool, steps
from tilewright.wasm.assembler import Module, i32
from tilewright.wasm.crew import Crew

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

ROWS, CALLS = 1000, 40
POOL, WORDS = 64, 4096


def module(threads: int) -> bytes:
    """A family of calls that each add one to every row, cut finely or in chains; serial ones."""
    made = Module(host.SHARED)
    f = made.function("add_one", ["i32", "i32"], export=False)
    at, count = f.parameters
    with f.range(count) as i:
        place = f.let(at + (i << 2))
        f.do(i32.store(place, i32.load(place) + 1))
    shared = pool.Pool(made, POOL, threads)
    calls = []
    for n in range(CALLS):
        chained = 20 <= n < 30
        rows = chained or n % 2
        split = steps.Split(Rows.TOKENS, 3) if rows else steps.row_split(ROWS, 100, 2000, 8)
        values = (steps.Moving(WORDS, 4), steps.COUNT)
        calls.append(steps.Call(f, values, split.total, split if n % 5 else None, chained))
    family = steps.Steps(made, shared)
    family.add("some", calls)
    family.finish()
    return made.assemble()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_row_is_done_once_per_call(threads: int) -> None:
    memory = host.here().allocate(1 << 16, True)
    code = module(threads)
    main = memory.instantiate(code)
    memory.start(code, threads - 1)
    for step in range(1, 60):
        if step % 20 == 0:
            time.sleep(0.02)  # long enough that all threads are parked
        main.call("step_some", ROWS, 1, 1)
        words = np.frombuffer(memory.read(WORDS, 4 * ROWS), np.uint32)
        assert np.all(words == step * CALLS)
    main.call("quit")
    memory.close()


def test_threads_that_rest_take_no_part_and_come_back() -> None:
    made = Module(host.SHARED)
    f = made.function("note", ["i32", "i32"], export=False)
    mine, count = f.parameters
    f.do(i32.store(mine, i32.load(mine) + count))
    family = steps.Steps(made, pool.Pool(made, POOL, 3))
    values = (steps.Private(WORDS, 64), steps.COUNT)
    family.add("some", [steps.Call(f, values, ROWS, steps.Split(ROWS, 1))] * CALLS)
    family.finish()
    code = made.assemble()
    memory = host.here().allocate(1 << 16, True)
    main = memory.instantiate(code)
    memory.start(code, 2)

    def done() -> list[int]:
        memory.write(WORDS, bytes(192))
        main.call("step_some", 1, 1, 1)
        return [int.from_bytes(memory.read(WORDS + 64 * n, 4), "little") for n in range(3)]

    main.call("rest", 2)
    time.sleep(0.15)  # who was waiting for a step looks up
    assert all(done() == [ROWS * CALLS, 0, 0] for _ in range(20))
    main.call("rest", 1)
    assert all((found := done())[2] == 0 and sum(found) == ROWS * CALLS for _ in range(20))
    main.call("rest", 0)
    assert any(done()[2] for _ in range(2000))
    main.call("rest", 2)
    main.call("quit")  # also ends those that rest
    memory.stop()
    assert not memory._threads
    memory.write(POOL, bytes(pool.NBYTES))
    memory.start(code, 2)
    assert sum(done()) == ROWS * CALLS
    main.call("quit")
    memory.close()


def test_the_crew_shrinks_where_threads_are_late_and_grows_again() -> None:
    crew, late, sizes = Crew(3), 0, []
    for _ in range(400):  # two late calls in steps of ten milliseconds
        late += 2 * (crew.size > 1)
        crew.after(0.01, late)
        sizes.append(crew.size)
    assert sizes[0] == 3
    assert sizes[10] == 1
    assert sizes[10:].count(1) > 350
    assert 2 in sizes[10:]  # tried again, less and less often
    for _ in range(2000):
        crew.after(0.01, late)
    assert crew.size == 3
    for _ in range(100):  # one late call in a hundred steps is nothing
        late += 1
        assert not any(crew.after(0.01, late) for _ in range(100))


def test_call_numbers_wrap() -> None:
    memory = host.here().allocate(1 << 16, True)
    code = module(2)
    main = memory.instantiate(code)
    # Twenty calls before the twenty bits of a number are used up.
    memory.write(POOL + pool.COUNTER, np.uint32((1 << 20) - 20).tobytes())
    memory.write(POOL + pool.CLAIM, np.uint32(((1 << 20) - 20) << 12 & 0xFFFFFFFF).tobytes())
    memory.start(code, 1)
    for _ in range(3):
        main.call("step_some", ROWS, 1, 1)
    assert np.all(np.frombuffer(memory.read(WORDS, 4 * ROWS), np.uint32) == 3 * CALLS)
    main.call("quit")
    memory.close()


def test_a_thread_that_dies_with_a_piece_ends_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_LONG", 1_000_000)
    monkeypatch.setattr(pool, "_PATIENCE", 3)
    made = Module(host.SHARED)
    shared = pool.Pool(made, POOL, 2)
    f = made.function("lose")
    f.do(f.call(shared.open, 1), f.call(shared.take, 1, 2), f.call(shared.join, 2))
    memory = host.here().allocate(1 << 16, True)
    with pytest.raises(KernelError, match="lose"):
        memory.instantiate(made.assemble()).call("lose")
