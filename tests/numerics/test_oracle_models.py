"""Every model of the reference data through the engine: logits, greedy ids, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.numerics.check_models import ORACLE, cases, compare

from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels.kv_write import KvKind

CASES = cases()
HALF = ("llama.F16.gguf", "llama.Q4_K.gguf", "qwen3.F16.gguf", "gemma3.F16.gguf", "phi3.F16.gguf")


def name(case: dict[str, Any]) -> str:
    return str(case["file"]).removeprefix("models/")


pytestmark = pytest.mark.skipif(
    not CASES, reason="the reference data ../shared/oracle is not on this machine"
)


@pytest.mark.parametrize("case", CASES, ids=name)
async def test_logits_and_greedy_ids_are_llama_cpps(
    device: Device, case: dict[str, Any], compared: Callable[[str, str], None]
) -> None:
    found = await compare(device, case)
    assert found.maximum <= 1e-3
    assert found.mean <= 1e-4
    assert found.argmax_wrong == 0
    assert found.greedy_common == found.greedy_length
    compared("models", found.file)
    compared("architectures", found.architecture)
    compared("weight formats", found.quantization)


ROUNDED = ("llama.Q4_0.gguf", "llama.Q4_K.gguf", "llama.Q8_0.gguf", "gemma3.Q8_0.gguf")


@pytest.mark.parametrize("case", [c for c in CASES if name(c) in ROUNDED], ids=name)
async def test_int8_stays_within_its_tolerance(device: Device, case: dict[str, Any]) -> None:
    # What llama.cpp, which rounds activations as well, may differ by from its own exact answer.
    bounds = case["tolerance"]["native_like"]
    found = await compare(device, case, arithmetic="int8", tolerance=bounds["max_abs"])
    assert found.maximum <= bounds["max_abs"]
    assert found.mean <= bounds["mean_abs"]
    assert found.argmax_wrong == 0


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
@pytest.mark.parametrize("case", [c for c in CASES if name(c) in HALF], ids=name)
async def test_a_smaller_cache_stays_within_its_tolerance(
    device: Device, case: dict[str, Any], kv: KvKind
) -> None:
    # q8_0 rounds keys and values to 8 bits: about eight times coarser than f16 at these sizes.
    tolerance = {"f16": 3e-2, "q8_0": 0.25}[kv]
    found = await compare(device, case, kv=kv, tolerance=3e-2)
    assert found.maximum <= tolerance
    assert found.argmax_wrong == 0


async def test_a_longer_context_uses_the_long_rope_factors(device: Device) -> None:
    case = next(c for c in CASES if "exact_ctx1024" in c)
    exact = case["exact_ctx1024"]
    model = await ChatModel.load(
        ORACLE / case["file"],
        options=LoadOptions(context_length=1024, kv="f32", max_sequences=1),
        device=device,
    )
    wanted = np.load(ORACLE / exact["logits"])
    data = b"".join([piece async for piece in model.engine.logits(case["token_ids"])])
    await model.close()
    got = np.frombuffer(data, np.float32).reshape(wanted.shape)
    assert np.abs(got - wanted).max() <= 1e-3
