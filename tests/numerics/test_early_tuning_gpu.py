"""Tuning beside a slow download, on the GPU: records before the last byte, the same ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.reference.deep_models import write_deep
from tests.reference.slow_source import SlowSource

from tilewright.engine import early_tuning
from tilewright.engine.early_tuning import EarlyTuning
from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import default_store
from tilewright.formats import arrival
from tilewright.formats.gguf import read_gguf
from tilewright.tuning.store import FolderStorage
from tilewright.webgpu.device import Device

GREEDY = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)


async def answer(runner: ModelRunner) -> list[int]:
    engine = Engine(runner)
    ids = [token.id async for token in engine.submit([3, 1, 4], GREEDY)]
    await engine.close()
    await runner.close()
    return ids


async def test_records_are_there_before_the_last_byte(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SETTLED", 0.05)
    monkeypatch.setattr(early_tuning, "BUDGET", 1.0)
    await device.finish()
    before = device.allocated
    path = write_deep(tmp_path / "deep.gguf", "qwen3", kind="Q8_0", layers=3, feed_forward=64)
    options: dict[str, Any] = {"context_length": 64, "kv": "f32", "max_sequences": 1}
    file = await read_gguf(SlowSource(path, lambda: True))
    plain = await answer(await ModelRunner.load(device, file, **options))
    store = default_store(device, FolderStorage(tmp_path))
    records = await store.load()
    early = EarlyTuning(records, store)
    file = await read_gguf(SlowSource(path, lambda: early.kernels >= 2))
    runner = await ModelRunner.load(
        device, file, choose=records.choose, early=early.on_gpu, **options
    )
    assert early.kernels >= 2
    assert len(await store.load()) >= early.kernels
    assert await answer(runner) == plain
    assert device.allocated == before
