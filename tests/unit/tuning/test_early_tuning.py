"""Tuning beside a slow download, on the CPU path: records before the last byte, the same ids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.reference.deep_models import write_deep
from tests.reference.slow_source import SlowSource

from tilewright.engine.early_tuning import EarlyTuning
from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.engine.wasm_tuning import chooser, default_store
from tilewright.errors import SourceError
from tilewright.formats import arrival
from tilewright.formats.gguf import read_gguf
from tilewright.tuning.store import FolderStorage
from tilewright.wasm.host import here

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_deep(tmp_path / "deep.gguf", "qwen3", kind="Q8_0", feed_forward=256)


async def answer(runner: WasmRunner) -> list[int]:
    engine = Engine(runner)
    ids = [token.id async for token in engine.submit([3, 1, 4], GREEDY)]
    await engine.close()
    await runner.close()
    return ids


async def load(source: Any, early: Any = None, **options: Any) -> WasmRunner:
    file = await read_gguf(source)
    return await WasmRunner.load(file, context_length=64, early=early, **options)


async def test_records_are_there_before_the_last_byte(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SETTLED", 0.05)
    plain = await answer(await load(SlowSource(path, lambda: True)))
    store = default_store(here(), FolderStorage(tmp_path))
    records = await store.load()
    early = EarlyTuning(records, store)
    source = SlowSource(path, lambda: early.kernels >= 2)
    choose = chooser(records, here())
    runner = await load(source, early.on_cpu, choose=choose)
    assert early.kernels >= 2
    # They are kept, and what the first token is computed with.
    assert len(await store.load()) >= early.kernels
    assert await answer(runner) == plain
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_load_that_is_quick_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SETTLED", 0.05)
    monkeypatch.setattr(arrival, "SLOW", 0.0)
    records = await default_store(here(), FolderStorage(path.parent)).load()
    early = EarlyTuning(records)
    runner = await load(SlowSource(path, lambda: True), early.on_cpu)
    assert (early.kernels, len(records)) == (0, 0)
    await runner.close()


async def test_a_load_that_fails_ends_the_tuner(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SETTLED", 0.05)
    records = await default_store(here(), FolderStorage(path.parent)).load()
    early = EarlyTuning(records)

    class Failing(SlowSource):
        async def read(self, offset: int, length: int) -> bytes:
            data = await super().read(offset, length)  # the last one waits for a kernel
            if early.kernels:
                raise SourceError("The file is gone.")
            return data

    source = Failing(path, lambda: bool(early.kernels))
    with pytest.raises(SourceError, match="gone"):
        await load(source, early.on_cpu)
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_cancelling_a_load_ends_the_tuner(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SETTLED", 0.05)
    early = EarlyTuning(await default_store(here(), FolderStorage(path.parent)).load())
    loading = asyncio.ensure_future(load(SlowSource(path, lambda: False), early.on_cpu))
    while not early.kernels:
        await asyncio.sleep(0.01)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not asyncio.all_tasks() - {asyncio.current_task()}
