"""Shared calls: every row exactly once, whatever the threads do; parked threads come back."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tilewright.errors import KernelError
from tilewright.graph.ops import Rows
from tilewright.wasm import host, pool, steps
from tilewright.wasm.assembler import Module, i32

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

ROWS, CALLS = 1000, 40
POOL, WORDS = 64, 4096


def module(threads: int) -> bytes:
    """A family of calls that each add one to every row, cut finely; then a serial one."""
    made = Module(host.SHARED)
    f = made.function("add_one", ["i32", "i32"], export=False)
    at, count = f.parameters
    with f.range(count) as i:
        place = f.let(at + (i << 2))
        f.do(i32.store(place, i32.load(place) + 1))
    shared = pool.Pool(made, POOL, threads)
    calls = []
    for n in range(CALLS):
        split = steps.Split(Rows.TOKENS, 3) if n % 2 else steps.row_split(ROWS, 100, 2000, 8)
        values = (steps.Moving(WORDS, 4), steps.COUNT)
        calls.append(steps.Call(f, values, split.total, split if n % 5 else None))
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
