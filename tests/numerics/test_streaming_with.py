"""Streaming beyond a memory budget together with everything else, on both backends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.reference.adapters import adapter_gguf, draw_pairs
from tests.reference.deep_models import LAYERS, write_deep

from tilewright.engine import fit, wasm_program, wasm_tuning
from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import default_store, tune
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.formats.lora import read_adapter
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.requantized import requantize
from tilewright.formats.source import MemorySource
from tilewright.tuning.store import FolderStorage
from tilewright.wasm.encoder import Encoder
from tilewright.wasm.host import here
from tilewright.webgpu.device import Device

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
OPTIONS: dict[str, Any] = {"context_length": 64, "max_sequences": 1}
IDS = [3, 1, 4, 1, 5, 9]
Runner = ModelRunner | WasmRunner
Pair = Callable[[ModelFile], Awaitable[tuple[Runner, Runner]]]


@pytest.fixture(params=["webgpu", "wasm"])
async def both(request: pytest.FixtureRequest, device: Device) -> AsyncIterator[Pair]:
    """Loads a model whole, and with the least memory with which it can be loaded; closes it."""
    made: list[Runner] = []
    files: list[ModelFile] = []

    async def streams(file: ModelFile, budget: int) -> bool:
        if request.param == "wasm":
            return (await wasm_program.plan_fit(file, budget=budget, **OPTIONS))[
                0
            ].streamed_layers > 0
        plan = await fit.plan_load(file, device.capabilities, budget=budget, kv="f32", **OPTIONS)
        return plan.streaming is not None or plan.fit.fits

    async def load(file: ModelFile) -> tuple[Runner, Runner]:
        files.append(file)
        whole = await _load(request.param, device, file)
        made.append(whole)
        low, high = 0, 1 << 24
        if isinstance(whole, WasmRunner):
            high = whole.plan.nbytes - 1
        while high - low > 1 << 15:
            middle = (low + high) // 2
            low, high = (low, middle) if await streams(file, middle) else (middle, high)
        made.append(await _load(request.param, device, file, memory_budget=high))
        streamer = made[-1].streamer
        assert streamer is not None
        assert len(streamer.layers) == LAYERS
        return whole, made[-1]

    yield load
    for runner in made:
        await runner.close()
    for file in files:
        file.close()


async def _load(backend: str, device: Device, file: ModelFile, **options: Any) -> Runner:
    if backend == "wasm":
        return await WasmRunner.load(file, threads=1, **OPTIONS, **options)
    return await ModelRunner.load(device, file, kv="f32", **OPTIONS, **options)


async def answers(runner: Runner, adapters: Sequence[str | None]) -> list[list[int]]:
    engine, found = Engine(runner), []
    for adapter in adapters:
        params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True, adapter=adapter)
        found.append([token.id async for token in engine.submit(IDS, params)])
    await engine.close()
    return found


async def answer(runner: Runner) -> list[int]:
    return (await answers(runner, [None]))[0]


async def deep(folder: Path, name: str = "qwen3", **sizes: Any) -> ModelFile:
    path = write_deep(folder / "deep.gguf", name, **{"feed_forward": 1024, **sizes})
    return await open_model(path)


async def test_quantizing_while_loading(both: Pair, tmp_path: Path) -> None:
    original = await deep(tmp_path)
    file = requantize(original, "Q8_0", Encoder().encode)
    assert file.tensor("blk.1.ffn_down.weight").quant.name == "Q8_0"
    whole, streamed = await both(file)
    assert await answer(streamed) == await answer(whole)


async def test_adapters(both: Pair, tmp_path: Path) -> None:
    file = await deep(tmp_path)
    whole, streamed = await both(file)
    data = adapter_gguf("qwen3", draw_pairs(file, ("attn_q", "ffn_down"), 4, seed=1), 16.0)
    adapter = await read_adapter(MemorySource(data, "one"), file)
    found = []
    for runner in (whole, streamed):
        await runner.add_adapter(adapter)
        found.append(await answers(runner, [None, "one", None]))
        assert found[-1][0] == found[-1][2] != found[-1][1]
    assert found[0] == found[1]


async def test_adapters_beside_experts_that_come_and_go(tmp_path: Path, device: Device) -> None:
    with closing(await deep(tmp_path, "olmoe", feed_forward=256)) as file:
        plan = await wasm_program.plan_load(file, threads=1, **OPTIONS)
        data = adapter_gguf("olmoe", draw_pairs(file, ("attn_q", "attn_v"), 4, seed=1), 16.0)
        adapter = await read_adapter(MemorySource(data, "one"), file)
        found = []
        for more in ({}, {"memory_budget": plan.nbytes - (1 << 19)}):
            runner = await _load("wasm", device, file, **more)
            await runner.add_adapter(adapter)
            found.append(await answers(runner, [None, "one", None]))
            assert bool(runner.plan_stats().get("expert_misses")) is bool(more)
            await runner.close()
        assert found[0] == found[1]


@pytest.mark.parametrize("name", ["nomic-bert", "bert-cls"])
async def test_encoders(both: Pair, name: str, tmp_path: Path) -> None:
    file = await deep(tmp_path, name)
    whole, streamed = await both(file)
    vectors = [await Engine(runner).embed([IDS, IDS[::-1]]) for runner in (whole, streamed)]
    assert vectors[0] == vectors[1]


async def test_the_tuner(both: Pair, tmp_path: Path) -> None:
    file = await deep(tmp_path, kind="Q8_0")
    whole, streamed = await both(file)
    plain, storage = await answer(whole), FolderStorage(tmp_path / "records")
    if isinstance(streamed, WasmRunner):
        store = wasm_tuning.default_store(here(), storage)
    else:
        store = default_store(streamed.device, storage)
    result = await tune(streamed, await store.load(), store=store, budget=3.0)
    assert result.bursts > 0
    assert await answer(streamed) == plain
