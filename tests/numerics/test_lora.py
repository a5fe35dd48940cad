"""LoRA adapters beside a model: equal to the merged weights, alone and mixed in one batch.

On the GPU and on the CPU path.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.adapters import Pairs, adapter_gguf, draw_pairs, merged, write_peft
from tests.reference.golden_models import CONTEXT, FOLDER, load_model
from tests.reference.interpreter import Interpreter
from tests.reference.to_huggingface import publish, unpermute

from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.errors import FormatError, InvalidRequestError, UnsupportedModelError
from tilewright.formats.lora import LoraAdapter, open_adapter, read_adapter
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.source import MemorySource
from tilewright.webgpu.device import Device

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7]
ATOL = 2e-4
"""Of logits of size 10, between the engine's f32 and the interpreter's f64."""
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
ALL = (*ATTENTION, "ffn_gate", "ffn_up", "ffn_down")
Load = Callable[[ModelFile], Awaitable[ModelRunner | WasmRunner]]


@pytest.fixture(params=["webgpu", "wasm", "wasm2"])
async def load(request: pytest.FixtureRequest, device: Device) -> AsyncIterator[Load]:
    """Loads a model on one of the backends; what it took is free at the end."""
    if request.param != "webgpu":
        pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
        threads = 2 if request.param == "wasm2" else 1
        yield lambda file: WasmRunner.load(file, context_length=CONTEXT, threads=threads)
        return
    await device.finish()  # makes what the device keeps
    before = device.allocated
    yield lambda file: ModelRunner.load(device, file, context_length=CONTEXT, kv="f32")
    assert device.allocated == before


async def gguf_adapter(
    file: ModelFile, pairs: Pairs, alpha: float, name: str = "one", kind: str = "F32"
) -> LoraAdapter:
    data = adapter_gguf(file.architecture, pairs, alpha, kind)
    return await read_adapter(MemorySource(data, name), file)


async def logits(engine: Engine, adapter: str | None, ids: list[int] = IDS) -> NDArray[np.float32]:
    pieces = [piece async for piece in engine.logits(ids, adapter=adapter)]
    return np.frombuffer(b"".join(pieces), np.float32).reshape(len(ids), -1)


def greedy(adapter: str | None) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=4, adapter=adapter, logprobs=1)


async def answer(engine: Engine, ids: list[int], adapter: str | None) -> list[tuple[int, float]]:
    return [(token.id, token.logprob or 0.0) async for token in engine.submit(ids, greedy(adapter))]


@pytest.mark.parametrize(
    ("name", "parts", "rank"),
    [
        ("qwen3", ALL, 4),
        ("gemma2", ("attn_k", "ffn_up", "ffn_down"), 16),
        ("mistral", ("attn_qkv", "ffn_down"), 5),
        ("gpt2", ("attn_qkv", "ffn_up"), 4),
    ],
)
async def test_an_adapter_equals_merged_weights(
    name: str, parts: tuple[str, ...], rank: int, load: Load
) -> None:
    model = await load_model(FOLDER / f"{name}.gguf")
    file = model.model_file
    pairs = draw_pairs(file, parts, rank, seed=1)
    runner = await load(file)
    engine = Engine(runner)
    try:
        plain = await logits(engine, None)
        await runner.add_adapter(await gguf_adapter(file, pairs, alpha=2.0 * rank))
        expected = Interpreter(model.graph, merged(model.tensors, pairs, 2.0)).run(
            IDS, outputs=range(len(IDS))
        )
        found = await logits(engine, "one")
        assert expected.logits is not None
        np.testing.assert_allclose(found, expected.logits, atol=ATOL)
        assert np.abs(found - plain).max() > 0.1, "the adapter must matter"
        np.testing.assert_array_equal(await logits(engine, None), plain)
        await runner.remove_adapter("one")
        with pytest.raises(InvalidRequestError, match="no adapter 'one'"):
            await logits(engine, "one")
        np.testing.assert_array_equal(await logits(engine, None), plain)
    finally:
        await engine.close()
        await runner.close()


async def test_each_sequence_of_a_batch_has_its_own(load: Load) -> None:
    """Three answers at once, of two adapters and of none, are those of each alone."""
    model = await load_model(FOLDER / "qwen3.gguf")
    file = model.model_file
    runner = await load(file)
    engine = Engine(runner)
    try:
        first = draw_pairs(file, ALL, 4, seed=1)
        second = draw_pairs(file, ("attn_q", "ffn_down"), 12, seed=2, layers=(1,))
        await runner.add_adapter(await gguf_adapter(file, first, 4.0, "first"))
        await runner.add_adapter(await gguf_adapter(file, second, 6.0, "second", "F16"))
        wanted = ["first", None, "second", "first"]
        prompts = [IDS, IDS, IDS, [7, 7, 7]]
        alone = [await answer(engine, p, a) for p, a in zip(prompts, wanted, strict=True)]
        assert len({tuple(ids) for ids, _ in ((tuple(t for t, _ in a), 0) for a in alone)}) == 4
        together = await asyncio.gather(
            *(answer(engine, p, a) for p, a in zip(prompts, wanted, strict=True))
        )
        for single, batched in zip(alone, together, strict=True):
            assert [token for token, _ in single] == [token for token, _ in batched]
            np.testing.assert_allclose([p for _, p in single], [p for _, p in batched], atol=ATOL)
        expected = Interpreter(model.graph, merged(model.tensors, second, 0.5)).run(
            IDS, outputs=range(len(IDS))
        )
        assert expected.logits is not None
        np.testing.assert_allclose(await logits(engine, "second"), expected.logits, atol=ATOL)
    finally:
        await engine.close()
        await runner.close()


async def test_a_cached_prefix_belongs_to_its_adapter(load: Load) -> None:
    """The same long prompt with and without an adapter shares no keys and values."""
    file = (await load_model(FOLDER / "qwen3.gguf")).model_file
    runner = await load(file)
    engine = Engine(runner)
    ids = [number % 60 for number in range(70)]
    try:
        await runner.add_adapter(await gguf_adapter(file, draw_pairs(file, ALL, 4, 1), 8.0))
        fresh = {name: await answer(engine, ids, name) for name in ("one", None)}
        assert fresh["one"] != fresh[None]
        for name in (None, "one", "one", None):
            generation = engine.submit(ids, greedy(name))
            again = [(token.id, token.logprob) async for token in generation]
            assert generation.cached_tokens == 64
            assert [token for token, _ in again] == [token for token, _ in fresh[name]]
        # Another adapter of the same name starts anew.
        await runner.add_adapter(await gguf_adapter(file, draw_pairs(file, ALL, 4, 2), 8.0))
        generation = engine.submit(ids, greedy("one"))
        assert [token.id async for token in generation] != [token for token, _ in fresh["one"]]
        assert generation.cached_tokens == 0
    finally:
        await engine.close()
        await runner.close()


async def test_adapters_may_come_while_an_answer_is_made(load: Load) -> None:
    """Neither the answer that has begun nor, on the CPU, the memory's size heeds it."""
    file = (await load_model(FOLDER / "qwen3.gguf")).model_file
    runner = await load(file)
    engine = Engine(runner)
    try:
        pairs = [draw_pairs(file, ALL, 4, seed) for seed in range(3)]
        await runner.add_adapter(await gguf_adapter(file, pairs[0], 8.0))
        alone = await answer(engine, IDS, "one")
        taken = []
        for seed in (1, 2, 1, 2):
            stream = engine.submit(IDS, greedy("one"))
            first = await anext(stream)
            await runner.add_adapter(await gguf_adapter(file, pairs[seed], 8.0, f"more {seed}"))
            found = [first, *[token async for token in stream]]
            assert [token.id for token in found] == [token for token, _ in alone]
            taken.append(runner.device_bytes)
        if isinstance(runner, WasmRunner):  # two places, in turn
            assert taken[1] == taken[3]
    finally:
        await engine.close()
        await runner.close()


@pytest.mark.parametrize("base", ["gguf", "folder"])
@pytest.mark.parametrize("adapter", ["gguf", "peft"])
async def test_every_container_of_a_model_takes_every_container_of_an_adapter(
    base: str, adapter: str, tmp_path: Path, load: Load
) -> None:
    """llama's query and key rows are interleaved in GGUF files and not in Hugging Face's."""
    model = await load_model(FOLDER / "llama-linear.gguf")
    pairs = draw_pairs(model.model_file, ATTENTION, 4, seed=3)
    expected = Interpreter(model.graph, merged(model.tensors, pairs, 2.0)).run(
        IDS, outputs=range(len(IDS))
    )
    assert expected.logits is not None
    path = FOLDER / "llama-linear.gguf"
    if base == "folder":
        (tmp_path / "model").mkdir()
        await publish(model.model_file, tmp_path / "model")
        path = tmp_path / "model"
    published = {}
    for name, (a, b) in pairs.items():
        heads = {"attn_q": 4, "attn_k": 2}.get(name.split(".")[2])
        published[name] = (a, b if heads is None else unpermute(b, heads))
    write_peft(tmp_path / "peft", published, {"lora_alpha": 4, "use_rslora": True})

    with closing(await open_model(path)) as file:
        if adapter == "gguf":
            made = await gguf_adapter(file, pairs, 8.0)
        else:
            made = await open_adapter(tmp_path / "peft", file)
        runner = await load(file)
        engine = Engine(runner)
        try:
            await runner.add_adapter(made)
            found = await logits(engine, made.name)
        finally:
            await engine.close()
            await runner.close()
    np.testing.assert_allclose(found, expected.logits, atol=ATOL)


async def test_adapters_that_do_not_fit_are_refused(load: Load) -> None:
    model = await load_model(FOLDER / "qwen3.gguf")
    file = model.model_file
    pairs = draw_pairs(file, ("attn_q",), 4, seed=1)
    with pytest.raises(UnsupportedModelError, match="is an adapter for llama models"):
        await read_adapter(MemorySource(adapter_gguf("llama", pairs, 4.0)), file)
    a, b = pairs["blk.0.attn_q.weight"]
    for wrong, error in (
        ({"blk.0.attn_q.weight": (a[:, :-1], b)}, FormatError),
        ({"blk.0.attn_q.weight": (a, b[:-1])}, FormatError),
        ({"blk.0.attn_norm.weight": (a, b)}, UnsupportedModelError),
        ({"blk.9.attn_q.weight": (a, b)}, UnsupportedModelError),
        ({}, FormatError),
    ):
        with pytest.raises(error):
            await gguf_adapter(file, wrong, 4.0)
    with pytest.raises(FormatError, match="is no LoRA adapter"):
        await read_adapter(file.sources[0], file)
    embedding = file.tensor("token_embd.weight")
    wide = (np.ones((2, embedding.columns), np.float32), np.ones((embedding.rows, 2), np.float32))
    made = await gguf_adapter(file, {"token_embd.weight": wide}, 4.0)
    runner = await load(file)
    try:
        before = runner.device_bytes
        with pytest.raises(UnsupportedModelError, match="token_embd"):
            await runner.add_adapter(made)
        assert runner.device_bytes == before
        assert runner.adapters is not None
        assert runner.adapters.names == []
    finally:
        await runner.close()
