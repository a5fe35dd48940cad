"""Models larger than their memory budget on the CPU path: the same results, to the bit."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.reference.deep_models import LAYERS, write_deep
from tests.reference.failing_source import fail_once

from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.wasm_program import plan_load
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.errors import OutOfMemoryError, SourceError
from tilewright.formats.open import open_model

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]
CONTEXT = 64
SIZES = {"feed_forward": 1024}
GREEDY = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True)


async def answers(runner: WasmRunner) -> tuple[bytes, list[list[int]]]:
    """Return the logits of a prompt, and the ids of two greedy answers side by side."""
    engine = Engine(runner)
    logits = b"".join([piece async for piece in engine.logits(IDS)])
    streams = [engine.submit(ids, GREEDY) for ids in (IDS, IDS[::-1])]
    ids = [[token.id async for token in stream] for stream in streams]
    await engine.close()
    return logits, ids


@pytest.mark.parametrize(("name", "threads"), [("qwen3", 1), ("qwen3", 2)])
async def test_results_are_those_of_the_whole_model(
    name: str, threads: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"context_length": CONTEXT, "max_sequences": 2, "threads": threads}
    with closing(await open_model(write_deep(tmp_path / "deep.gguf", name, **SIZES))) as file:
        runner = await WasmRunner.load(file, **options)
        expected, whole = await answers(runner), runner.plan.nbytes
        assert runner.streamer is None
        await runner.close()
        counts = []
        for share in (0.0, 0.9):
            low = whole - runner.plan.weights_bytes
            budget = int(low + share * (whole - low))
            while True:  # the smallest budget from there on
                try:
                    streamed = await WasmRunner.load(file, memory_budget=budget, **options)
                except OutOfMemoryError:
                    budget += whole // 64
                    continue
                break
            assert streamed.streamer is not None
            assert streamed.plan.nbytes < min(whole, budget)
            counts.append(len(streamed.streamer.layers))
            assert await answers(streamed) == expected
            assert streamed.streamer.bytes_read > 0
            await streamed.close()
    assert counts[0] == LAYERS > counts[1] >= 2


async def test_what_not_even_streaming_makes_fit_is_refused(tmp_path: Path) -> None:
    with closing(await open_model(write_deep(tmp_path / "deep.gguf", "qwen3", **SIZES))) as file:
        plan = await plan_load(file, context_length=CONTEXT)
        budget = plan.nbytes - plan.weights_bytes
        with pytest.raises(OutOfMemoryError, match="choose"):
            await WasmRunner.load(file, context_length=CONTEXT, memory_budget=budget)


async def test_a_read_that_fails_ends_one_answer_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(await open_model(write_deep(tmp_path / "deep.gguf", "qwen3", **SIZES))) as file:
        plan = await plan_load(file, context_length=CONTEXT)
        runner = await WasmRunner.load(
            file, context_length=CONTEXT, memory_budget=plan.nbytes - (1 << 20)
        )
        engine = Engine(runner)
        good = [token.id async for token in engine.submit(IDS, GREEDY)]
        fail_once(monkeypatch, file.sources[0], 9)
        with pytest.raises(SourceError, match="gone"):
            async for _ in engine.submit(IDS, GREEDY):
                pass
        assert [token.id async for token in engine.submit(IDS, GREEDY)] == good
        await engine.close()
        await runner.close()
    assert not asyncio.all_tasks() - {asyncio.current_task()}
