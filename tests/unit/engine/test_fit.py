"""Fit: what a model needs, from its header alone; refusals that say what would fit."""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.engine.fit import Choice, LoadPlan, plan_load
from tilewright.errors import OutOfMemoryError
from tilewright.formats.layout import tensor_nbytes
from tilewright.formats.model_file import ModelFile, TensorInfo
from tilewright.formats.quant import BY_NAME
from tilewright.webgpu.kernels.kernel import Capabilities

LAYERS, WIDTH, KV, FEED, VOCABULARY = 16, 2048, 512, 8192, 32000
GIB = Capabilities(max_binding=1 << 30, max_buffer=1 << 30)


def llama(quant: str = "Q8_0") -> ModelFile:
    """The header of a model of the size of Llama 3.2 1B, with tied embeddings."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_norm", (WIDTH,)),
            ("ffn_norm", (WIDTH,)),
            ("attn_q", (WIDTH, WIDTH)),
            ("attn_k", (KV, WIDTH)),
            ("attn_v", (KV, WIDTH)),
            ("attn_output", (WIDTH, WIDTH)),
            ("ffn_gate", (FEED, WIDTH)),
            ("ffn_up", (FEED, WIDTH)),
            ("ffn_down", (WIDTH, FEED)),
        ):
            shapes[f"blk.{layer}.{name}.weight"] = shape
    tensors = {}
    for name, shape in shapes.items():
        kind = BY_NAME[quant if len(shape) == 2 else "F32"]
        nbytes = tensor_nbytes("test", name, shape, kind)
        tensors[name] = TensorInfo(name, shape, kind, 0, 0, nbytes)
    keys: dict[str, Any] = {
        "block_count": LAYERS,
        "context_length": 131072,
        "embedding_length": WIDTH,
        "feed_forward_length": FEED,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    metadata = {f"llama.{key}": value for key, value in keys.items()}
    return ModelFile({"general.architecture": "llama", **metadata}, tensors)


async def plan(budget: int | None = None, **options: Any) -> LoadPlan:
    given = {"context_length": 4096, "kv": "f16", "cache_tokens": 4096, **options}
    return await plan_load(llama(), given.pop("capabilities", GIB), budget=budget, **given)


async def test_the_numbers_are_those_of_the_shapes() -> None:
    fit = (await plan(complete=True)).fit
    matrices = VOCABULARY * WIDTH + LAYERS * (2 * WIDTH * WIDTH + 2 * KV * WIDTH + 3 * FEED * WIDTH)
    # Q8_0 as laid out: 32 codes and half a word of scales for 32 weights; f32 norms.
    assert fit.weights == matrices * 34 // 32 + 4 * WIDTH * (2 * LAYERS + 1)
    assert fit.cache == LAYERS * 2 * KV * 4096 * 2
    assert fit.total == fit.weights + max(fit.staging, fit.cache + fit.activations)
    assert fit.fits
    assert fit.message is None


async def test_a_context_too_long_is_refused_with_the_longest_that_fits() -> None:
    whole = (await plan(complete=True)).fit
    budget = whole.total - whole.cache // 2
    refused = (await plan(budget)).fit
    assert not refused.fits
    longest = refused.largest_context
    assert 1900 < longest < 2200
    assert f"at most {longest} positions" in str(refused.message)
    with pytest.raises(OutOfMemoryError) as error:
        refused.require()
    assert error.value.details["largest_context"] == longest
    assert (await plan(budget, context_length=longest, cache_tokens=longest)).fit.fits
    beyond = longest + 32
    assert not (await plan(budget, context_length=beyond, cache_tokens=beyond)).fit.fits


async def test_the_largest_choice_that_fits_is_named() -> None:
    whole = (await plan(complete=True)).fit
    choices = [
        Choice(name, int(whole.weights * share))
        for name, share in (("Q2_K", 0.35), ("Q4_K_M", 0.6), ("Q6_K", 0.8), ("F16", 1.9))
    ]
    refused = (await plan(int(whole.total - 0.3 * whole.weights), choices=choices)).fit
    assert refused.largest_choice == "Q4_K_M"
    assert refused.largest_context == 0
    assert "the quantization Q4_K_M" in str(refused.message)
    nothing = (await plan(1 << 20, choices=choices)).fit
    assert nothing.largest_choice is None
    assert "smaller model" in str(nothing.message)


async def test_the_cache_gives_way_before_the_context_does() -> None:
    """Without a wish, two contexts in f16; where that is too much, one; never a shorter one."""
    roomy = (await plan(complete=True, cache_tokens=None, kv=None)).fit
    assert (roomy.cache_tokens, roomy.kv) == (8192, "f16")
    tight = (await plan(roomy.total - 1, cache_tokens=None, kv=None)).fit
    assert tight.fits
    assert (tight.cache_tokens, tight.context_length) == (4096, 4096)
    short = (await plan(complete=True, context_length=256, cache_tokens=None, kv=None)).fit
    assert short.kv == "f32"  # small, and exact


async def test_a_cache_beyond_the_binding_limit_is_refused() -> None:
    small = Capabilities(max_binding=32 << 20, max_buffer=64 << 20)
    fit = (await plan(capabilities=small, context_length=65536, cache_tokens=65536)).fit
    assert not fit.fits
    assert fit.largest_context == (32 << 20) // (2 * KV)
    assert "largest buffer" in str(fit.message)


async def test_a_row_beyond_every_buffer_is_refused() -> None:
    with pytest.raises(OutOfMemoryError, match="One row of"):
        await plan(capabilities=Capabilities(max_binding=1024, max_buffer=1024))
