"""Whole models in int8 and f16: near f32, and the same ids whichever kernels compute them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.encode import encode
from tests.reference.gguf_writer import Tensor, write_gguf
from tests.reference.make_models import MODELS, VOCABULARY, draw, metadata, tensors
from tests.tolerance import assert_close

from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import tune, workloads
from tilewright.errors import InvalidRequestError
from tilewright.formats.open import open_model
from tilewright.formats.quant import BY_NAME
from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.tuning import space
from tilewright.tuning.bench import Bench
from tilewright.tuning.store import Records
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matvec, rounded
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import Arithmetic, LinearStructure
from tilewright.webgpu.lower import naive_choice

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9]


def model(path: Path, target: str) -> Path:
    """Write a model wide enough for Q4_K, its matrices encoded."""
    spec = replace(MODELS["qwen3"], width=256, feed_forward=512)
    words = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [chr(97 + n % 26) * (1 + n // 26) for n in range(VOCABULARY)],
        "tokenizer.ggml.merges": ["a a"],
    }
    found: dict[str, Tensor] = {}
    for name, (values, shape, quant) in tensors(draw(spec, 3), "F16").items():
        wanted = BY_NAME[target]
        if quant.name == "F16" and shape[-1] % wanted.block == 0:
            data = encode(target, values.astype(np.float32))
            found[name] = (np.frombuffer(data, np.uint8), shape, wanted)
        else:
            found[name] = (values, shape, quant)
    write_gguf(path, {**metadata(spec), **words}, found)
    return path


async def logits(device: Device, path: Path, arithmetic: Any, choose: Any) -> NDArray[np.float32]:
    with closing(await open_model(path)) as file:
        runner = await ModelRunner.load(
            device, file, context_length=64, kv="f32", arithmetic=arithmetic, choose=choose
        )
        engine = Engine(runner)
        pieces = [piece async for piece in engine.logits(IDS)]
        await engine.close()
        await runner.close()
    return np.frombuffer(b"".join(pieces), np.float32).reshape(len(IDS), -1)


@pytest.mark.parametrize("target", list(rounded.FORMATS))
async def test_logits_are_near_those_in_f32(device: Device, target: str, tmp_path: Path) -> None:
    path = model(tmp_path / "one.gguf", target)
    floats = await logits(device, path, "f32", naive_choice)
    for arithmetic in ("int8", "f16") if device.capabilities.f16 else ("int8",):
        naive = await logits(device, path, arithmetic, naive_choice)
        fast = await logits(device, path, arithmetic, Records().choose)
        print(arithmetic, np.abs(naive - floats).max(), np.abs(naive - fast).max())
        assert not np.array_equal(naive, floats), f"{arithmetic} was not used"
        assert_close(naive, floats, f"{arithmetic}_logits")
        assert_close(fast, naive, f"{arithmetic}_swapped")


async def generate(engine: Engine, count: int = 12) -> list[int]:
    params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
    return [token.id async for token in engine.generate(IDS, params)]


@pytest.mark.parametrize("arithmetic", ["int8", "f16"])
async def test_tuning_and_swaps_change_no_ids(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arithmetic: Arithmetic
) -> None:
    if arithmetic == "f16" and not device.capabilities.f16:
        pytest.skip("this device has no f16")
    whole = space.candidates
    monkeypatch.setattr(space, "candidates", lambda *given: whole(*given)[:3])
    with closing(await open_model(model(tmp_path / "one.gguf", "Q4_0"))) as file:
        runner = await ModelRunner.load(
            device, file, context_length=64, max_sequences=1, arithmetic=arithmetic
        )
        engine = Engine(runner)
        before = await generate(engine)
        swapped: list[int] = []
        choices = [naive_choice, Records().choose]
        params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
        async for token in engine.generate(IDS, params):
            swapped.append(token.id)
            if choices and len(swapped) % 4 == 0:
                runner.use(choices.pop(0))
        assert swapped == before
        result = await tune(runner, Records("here"), engine=engine, budget=10.0)
        assert await generate(engine) == before
        labels = [record.label for record in result.records]
        assert any(arithmetic in label for label in labels)
        assert any("RoundedLanesTuning" in record.tuning for record in result.records)
        again = await tune(runner, result.records, engine=engine, budget=10.0)
        assert again.bursts == 0
        await engine.close()
        await runner.close()


@dataclass(frozen=True)
class OffTuning(matvec.DirectTuning):
    """Computes one per cent too much."""


async def test_a_slightly_wrong_candidate_is_rejected(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a norm before the rounding makes the tolerance wider."""
    original = matvec.kernel

    def kernel(structure: Any, tuning: Any, capabilities: Any) -> Any:
        if isinstance(tuning, OffTuning):
            structure = replace(structure, scale=1.01 * structure.scale)
            tuning = matvec.DirectTuning()
        return original(structure, tuning, capabilities)

    monkeypatch.setattr(matvec, "kernel", kernel)
    with closing(await open_model(model(tmp_path / "one.gguf", "Q4_0"))) as file:
        runner = await ModelRunner.load(device, file, context_length=64, arithmetic="int8")
        decode, prefill = workloads(runner)
        bench = await Bench.open(device, budget=60.0)
        try:
            await decode.fill()
            rounding = [
                subject
                for subject in decode.subjects()
                if getattr(subject.structure, "arithmetic", "f32") == "int8"
            ]
            assert {s.structure.has_prologue for s in rounding} == {False, True}
            for subject in rounding:
                expected = await bench.expected(subject, matvec.DirectTuning())
                default = matvec.default(subject.structure, device.capabilities)
                assert (await bench.verdict(subject, expected, default)).correct
                assert not (await bench.verdict(subject, expected, OffTuning())).correct
        finally:
            bench.release()
            decode.release()
            prefill.release()
            await runner.close()


def test_a_record_of_one_arithmetic_is_not_used_for_another() -> None:
    capabilities = Capabilities(packed_dot=True)
    floats = LinearStructure("Q4_0", 64, 64, 1, Span(64), Span(64))
    rounded = replace(floats, arithmetic="int8")
    keys = {space.key(matvec, s, capabilities, "here") for s in (floats, rounded)}
    assert len(keys) == 2


async def test_loading_by_name(device: Device, tmp_path: Path) -> None:
    """The option reaches the kernels; an unknown value is refused with its field."""
    path = model(tmp_path / "one.gguf", "Q8_0")
    loaded = await ChatModel.load(
        path, options=LoadOptions(context_length=64, arithmetic="int8"), device=device
    )
    assert isinstance(loaded.runner, ModelRunner)
    assert loaded.runner.state.arithmetic == "int8"
    await loaded.close()
    with pytest.raises(InvalidRequestError, match="choose f32, int8 or f16") as refused:
        LoadOptions(arithmetic="int4")  # type: ignore[arg-type]
    assert refused.value.to_dict()["details"]["field"] == "arithmetic"
