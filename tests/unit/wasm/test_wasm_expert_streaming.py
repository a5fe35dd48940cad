"""Mixtures of experts larger than their memory budget: experts come when they are chosen."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.reference.deep_models import LAYERS, write_deep
from tests.reference.failing_source import fail_once
from tests.reference.make_models import MODELS

from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import tune
from tilewright.engine.wasm_program import plan_fit, plan_load
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.engine.wasm_tuning import default_store
from tilewright.errors import OutOfMemoryError, SourceError
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.tuning.store import FolderStorage
from tilewright.wasm.expert_streaming import ExpertStreamer
from tilewright.wasm.host import here

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
OPTIONS: dict[str, Any] = {"context_length": 64, "max_sequences": 2, "threads": 1}


def write(folder: Path, name: str, kind: str = "F16") -> Path:
    keys = {**MODELS[name].keys, "expert_feed_forward_length": 256}
    return write_deep(folder / "deep.gguf", name, kind=kind, feed_forward=256, keys=keys)


async def answers(runner: WasmRunner) -> tuple[bytes, list[list[int]]]:
    """Return the logits of a prompt, and the ids of two greedy answers side by side."""
    engine = Engine(runner)
    logits = b"".join([piece async for piece in engine.logits(IDS)])
    streams = [engine.submit(ids, GREEDY) for ids in (IDS, IDS[::-1])]
    ids = [[token.id async for token in stream] for stream in streams]
    await engine.close()
    return logits, ids


async def least_budget(file: ModelFile, **options: Any) -> int:
    """Return the smallest budget with which a model is loaded, within 4 KiB."""
    low, high = 0, (await plan_load(file, **options)).nbytes
    while high - low > 1 << 12:
        middle = (low + high) // 2
        fit, _ = await plan_fit(file, context_length=64, max_sequences=2, budget=middle)
        low, high = (low, middle) if fit.expert_rooms else (middle, high)
    return high


@pytest.mark.parametrize(
    ("name", "kind", "threads"),
    [("qwen3moe", "F16", 1), ("qwen3moe", "F16", 2), ("olmoe", "Q8_0", 1), ("qwen2moe", "F16", 1)],
)
async def test_results_are_those_of_the_whole_model(
    name: str, kind: str, threads: int, tmp_path: Path
) -> None:
    options = {**OPTIONS, "threads": threads}
    with closing(await open_model(write(tmp_path, name, kind))) as file:
        runner = await WasmRunner.load(file, **options)
        expected, whole = await answers(runner), runner.plan.nbytes
        await runner.close()
        least = await least_budget(file, **options)
        experts, rooms, shares = file.integer(f"{name}.expert_count"), [], []
        for budget in (least, (least + 3 * whole) // 4):
            runner = await WasmRunner.load(file, memory_budget=budget, **options)
            assert isinstance(runner.streamer, ExpertStreamer)
            assert runner.plan.nbytes <= budget < whole
            assert await answers(runner) == expected
            stats = runner.plan_stats()
            assert stats["streamed_layers"] == LAYERS
            # Every expert that was not there was read once, and no other byte.
            each = sum(t.nbytes for t in file.items() if "_exps." in t.name) // LAYERS // experts
            assert stats["streamed_bytes"] == pytest.approx(stats["expert_misses"] * each, rel=0.4)
            rooms.append(stats["expert_rooms"])
            shares.append(stats["expert_hits"] / (stats["expert_hits"] + stats["expert_misses"]))
            await runner.close()
    assert experts <= rooms[0] < rooms[1] < LAYERS * experts
    assert shares[0] < shares[1]


async def test_who_was_used_longest_ago_gives_way(tmp_path: Path) -> None:
    with closing(await open_model(write(tmp_path, "olmoe"))) as file:
        budget = await least_budget(file, **OPTIONS)
        runner = await WasmRunner.load(file, memory_budget=budget, **OPTIONS)
        streamer = runner.streamer
        assert isinstance(streamer, ExpertStreamer)
        rooms = int(streamer.stats()["expert_rooms"])
        order = [(n // 4, n % 4) for n in range(rooms + 1)]
        for layer, expert in order[:rooms]:
            await streamer.bring(layer, [expert])
        await streamer.bring(*_one(order[0]))
        assert (streamer.hits, streamer.misses) == (1, rooms)
        await streamer.bring(*_one(order[rooms]))  # in the place of the second
        await streamer.bring(*_one(order[0]))
        assert (streamer.hits, streamer.misses) == (2, rooms + 1)
        await streamer.bring(*_one(order[1]))
        assert (streamer.hits, streamer.misses) == (2, rooms + 2)
        await streamer.bring(0, [1 << 20])  # no such expert: read as the kernel reads it
        await runner.close()


def _one(expert: tuple[int, int]) -> tuple[int, list[int]]:
    return expert[0], [expert[1]]


async def test_a_read_that_fails_ends_one_answer_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(await open_model(write(tmp_path, "qwen3moe"))) as file:
        budget = await least_budget(file, **OPTIONS)
        runner = await WasmRunner.load(file, memory_budget=budget, **OPTIONS)
        engine = Engine(runner)
        good = [token.id async for token in engine.submit(IDS, GREEDY)]
        fail_once(monkeypatch, file.sources[0], 5)
        with pytest.raises(SourceError, match="gone"):
            async for _ in engine.submit(IDS[::-1], GREEDY):
                pass
        assert [token.id async for token in engine.submit(IDS, GREEDY)] == good
        await engine.close()
        await runner.close()
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_what_not_even_streaming_makes_fit_is_refused(tmp_path: Path) -> None:
    with closing(await open_model(write(tmp_path, "olmoe"))) as file:
        plan = await plan_load(file, **OPTIONS)
        budget = plan.nbytes - plan.weights_bytes
        with pytest.raises(OutOfMemoryError, match="choose"):
            await WasmRunner.load(file, memory_budget=budget, **OPTIONS)


async def test_the_tuner_works_beside_experts_that_come_and_go(tmp_path: Path) -> None:
    with closing(await open_model(write(tmp_path, "olmoe", "Q8_0"))) as file:
        budget = await least_budget(file, **OPTIONS)
        runner = await WasmRunner.load(file, memory_budget=budget, **OPTIONS)
        expected = await answers(runner)
        store = default_store(here(), FolderStorage(tmp_path / "records"))
        result = await tune(runner, await store.load(), store=store, budget=0.5)
        assert result.bursts > 0
        assert await answers(runner) == expected
        await runner.close()
