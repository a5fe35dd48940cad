"""The fast ways against the plain ones: chunks, caches, batches, shards, fusion, KV formats."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference.gguf_writer import write_gguf

from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.errors import ContextLengthError, InvalidRequestError
from tilewright.formats.open import open_model
from tilewright.formats.quant import F32
from tilewright.graph.fuse import FusionPlan
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import attention
from tilewright.webgpu.kernels.kernel import Capabilities
from tilewright.webgpu.lower import naive_choice
from tilewright.webgpu.memory import PIECE

MODELS = Path(__file__).resolve().parents[1] / "golden" / "models"
PROMPTS = [[3, 9, 27, 17, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [40], [7] * 33]
LOGPROBS = SamplingParams(temperature=0.0, max_tokens=12, logprobs=0)
ROUNDING = 1e-4
"""Sums in another order; measured are 2e-5 at most."""


@asynccontextmanager
async def engine_of(device: Device, name: str = "qwen3", **options: Any) -> AsyncIterator[Engine]:
    file = await open_model(MODELS / f"{name}.gguf")
    given: dict[str, Any] = {"context_length": 128, "max_sequences": 4, **options}
    runner = await ModelRunner.load(device, file, **given)
    engine = Engine(runner)
    try:
        yield engine
    finally:
        await engine.close()
        await runner.close()
        file.close()


async def logits(engine: Engine, ids: list[int]) -> np.ndarray:
    data = b"".join([piece async for piece in engine.logits(ids)])
    return np.frombuffer(data, np.float32).reshape(len(ids), -1)


async def generate(engine: Engine, ids: list[int], **params: Any) -> list[int]:
    params = {"temperature": 0.0, "max_tokens": 12, **params}
    return [token.id async for token in engine.generate(ids, SamplingParams(**params))]


async def test_chunked_prefill_is_whole_prefill(device: Device) -> None:
    ids = [(7 * i + 3) % 60 for i in range(90)]
    async with engine_of(device) as engine:
        runner = engine._runner
        whole = await logits(engine, ids)
        runner.set_blocks(0, range(4))
        at = 0
        for size in (1, 5, 8, 23, 53):
            await runner.prefill(0, ids[at : at + size], at, want="last")
            at += size
            last = np.frombuffer(await runner.logits(1), np.float32)
            assert np.abs(last - whole[at - 1]).max() < ROUNDING, at


async def test_a_cached_prefix_changes_nothing(device: Device) -> None:
    prompt = [(11 * i + 1) % 60 for i in range(75)]
    async with engine_of(device) as engine:
        first = await generate(engine, prompt)
        generation = engine.submit(prompt, SamplingParams(temperature=0.0, max_tokens=12))
        second = [token.id async for token in generation]
        assert generation.cached_tokens >= 64
    assert first == second


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.9, "seed": 5},
        {"temperature": 1.2, "seed": 1, "top_k": 10, "top_p": 0.8, "min_p": 0.02},
        {"temperature": 0.7, "seed": 2, "repetition_penalty": 1.3, "frequency_penalty": 0.4},
    ],
    ids=["greedy", "plain", "filtered", "penalties"],
)
async def test_a_batch_gives_what_each_alone_gives(device: Device, params: dict[str, Any]) -> None:
    async with engine_of(device) as engine:
        alone = [await generate(engine, prompt, **params) for prompt in PROMPTS]
    async with engine_of(device) as engine:
        together = await asyncio.gather(*(generate(engine, p, **params) for p in PROMPTS))
    assert together == alone


async def test_tokens_are_delivered_while_later_ones_are_computed(device: Device) -> None:
    async with engine_of(device) as engine:
        seen = 0
        params = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
        async for _ in engine.generate(PROMPTS[0], params):
            seen += 1
            if seen == 5:
                break
        assert engine.stats().generated_tokens < 40


async def test_decode_submits_once_per_token_and_does_not_wait(device: Device) -> None:
    async with engine_of(device) as engine:
        await generate(engine, PROMPTS[0])
        runner = engine._runner
        assert isinstance(runner, ModelRunner)
        runner.set_blocks(1, range(4))
        await runner.prefill(1, PROMPTS[1], 0, want="last")
        runner.set_sampling(1, SamplingParams(temperature=0.0), PROMPTS[1], len(PROMPTS[1]))
        await runner.sample(1)
        await runner.decode([1])
        before = runner.plan_stats()["submits"]
        for _ in range(4):  # nothing has been fetched: four more tokens are on their way
            await runner.decode([1])
        assert runner.plan_stats()["submits"] == before + 4
        results = [(await runner.fetch()).rows[0].id for _ in range(6)]
        assert results == (await generate(engine, PROMPTS[1]))[:6]


@pytest.mark.parametrize(
    ("name", "limit"),
    [("mistral", 2048), ("olmo2", 2560), ("gpt2", 4096), ("qwen3moe", 4096), ("granitemoe", 4096)],
)
async def test_a_tensor_in_shards_is_the_tensor(device: Device, name: str, limit: int) -> None:
    """With a binding limit so small that tables and stacked matrices have to be split."""
    ids = [(5 * i + 2) % 60 for i in range(40)]
    async with engine_of(device, name, kv="f16") as engine:
        whole = await logits(engine, ids)
        answer = await generate(engine, ids)
    capabilities = device.capabilities
    device.capabilities = replace(capabilities, max_binding=limit)
    try:
        small = {"cache_tokens": 64, "context_length": 64, "kv": "f16"}
        async with engine_of(device, name, **small) as engine:
            packed = engine._runner._state.weights.packed
            assert max(len(found.shards) for found in packed.values()) > 1
            if "moe" in name:
                experts = [len(p.shards) for w, p in packed.items() if "exps" in w.name]
                assert min(experts) > 1
            assert np.abs(await logits(engine, ids) - whole).max() < ROUNDING
            assert await generate(engine, ids) == answer
    finally:
        device.capabilities = capabilities


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "stablelm"])
async def test_naive_and_unfused_are_the_reference_of_fast_and_fused(
    device: Device, name: str
) -> None:
    ids = [(13 * i + 4) % 60 for i in range(30)]
    plain = FusionPlan(*[False] * 7)
    async with engine_of(device, name, fusion=plain, choose=naive_choice) as engine:
        naive = await logits(engine, ids)
        answer = await generate(engine, ids)
    async with engine_of(device, name) as engine:
        assert np.abs(await logits(engine, ids) - naive).max() < ROUNDING
        assert await generate(engine, ids) == answer


async def test_attention_split_over_the_keys_is_attention(device: Device) -> None:
    def split(module: Any, structure: Any, capabilities: Capabilities) -> Any:
        tuning = module.default(structure, capabilities)
        if module is attention and structure.tokens <= attention.DECODE_TOKENS:
            return replace(tuning, splits=3)
        return tuning

    ids = [(17 * i + 5) % 60 for i in range(100)]
    async with engine_of(device) as engine:
        whole = await generate(engine, ids, logprobs=0)
        plain = [t.logprob async for t in engine.generate(ids, LOGPROBS)]
    async with engine_of(device, choose=split) as engine:
        assert await generate(engine, ids, logprobs=0) == whole
        found = [t.logprob async for t in engine.generate(ids, LOGPROBS)]
    assert np.allclose(found, plain, atol=ROUNDING)


async def test_bad_requests_are_refused_and_the_others_go_on(device: Device) -> None:
    async with engine_of(device) as engine:
        good = asyncio.create_task(generate(engine, PROMPTS[1]))
        with pytest.raises(InvalidRequestError):
            await generate(engine, [10**9])
        with pytest.raises(ContextLengthError):
            await generate(engine, [1] * 4000)
        assert len(await good) == 12


async def test_loading_holds_little_host_memory(device: Device, tmp_path: Path) -> None:
    """A 60 MB tensor goes to the GPU in pieces."""
    path = tmp_path / "large.gguf"
    rows, width = 60000, 256
    rng = np.random.default_rng(0)
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": width,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }
    sizes = {
        "token_embd.weight": (rows, width),
        "output_norm.weight": (width,),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (64, width),
        "blk.0.ffn_up.weight": (64, width),
        "blk.0.ffn_down.weight": (width, 64),
    }
    sizes |= {f"blk.0.attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")}
    tensors = {
        key: (rng.normal(0, 0.1, shape).astype(np.float32), shape, F32)
        for key, shape in sizes.items()
    }
    write_gguf(path, metadata, tensors)
    del tensors
    file = await open_model(path)
    tracemalloc.start()
    try:
        runner = await ModelRunner.load(device, file, max_sequences=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        file.close()
    await runner.close()
    assert peak < 4 * PIECE


def test_capabilities_have_webgpus_guaranteed_limits_by_default() -> None:
    assert Capabilities().storage_buffers == 8
    assert Capabilities().workgroup_memory == 16384
