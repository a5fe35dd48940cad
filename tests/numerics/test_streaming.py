"""Models larger than their memory budget: the same results as with everything on the device."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.reference.deep_models import LAYERS, write_deep

from tilewright.engine.engine import Engine
from tilewright.engine.fit import plan_load
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.errors import OutOfMemoryError, SourceError
from tilewright.formats.open import open_model
from tilewright.webgpu.device import Device

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]
CONTEXT = 64
SIZES = {"feed_forward": 1024}
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


async def answers(runner: ModelRunner) -> tuple[bytes, list[list[int]], int]:
    """Return the logits of a prompt, and the ids of two greedy answers side by side.

    The third is what the device holds after them.
    """
    engine = Engine(runner)
    streams = [engine.submit(ids, GREEDY) for ids in (IDS, IDS[::-1])]
    ids = [[token.id async for token in stream] for stream in streams]
    taken = runner.device.allocated
    logits = b"".join([piece async for piece in engine.logits(IDS)])
    await engine.close()
    return logits, ids, taken


async def needed(path: Path, device: Device, **options: Any) -> int:
    """Return the smallest budget with which a model is loaded, within 32 KiB."""
    with closing(await open_model(path)) as file:
        low, high = 0, 1 << 23
        while high - low > 1 << 15:
            middle = (low + high) // 2
            plan = await plan_load(file, device.capabilities, budget=middle, **options)
            low, high = (low, middle) if plan.fit.fits or plan.streaming else (middle, high)
    return high


@pytest.mark.parametrize("name", ["qwen3", "llama-moe"])
async def test_results_are_those_of_the_whole_model(
    name: str, device: Device, tmp_path: Path
) -> None:
    path = write_deep(tmp_path / "deep.gguf", name, **SIZES)
    await device.finish()  # makes what the device keeps
    before = device.allocated
    with closing(await open_model(path)) as file:
        runner = await ModelRunner.load(device, file, context_length=CONTEXT, kv="f32")
        assert runner.streamer is None
        logits, ids, _ = await answers(runner)
        await runner.close()
        options: dict[str, Any] = {"context_length": CONTEXT, "kv": "f32"}
        least = await needed(path, device, **options)
        whole = (await plan_load(file, device.capabilities, complete=True, **options)).fit.total
        counts = []
        for budget in (least, (3 * least + whole) // 4):
            runner = await ModelRunner.load(device, file, memory_budget=budget, **options)
            assert runner.streamer is not None
            counts.append(len(runner.streamer.layers))
            found = await answers(runner)
            assert found[:2] == (logits, ids)
            assert found[2] - before <= budget
            await runner.close()
            assert device.allocated == before
    assert counts[0] == LAYERS > counts[1] >= 2


async def test_what_not_even_streaming_makes_fit_is_refused(device: Device, tmp_path: Path) -> None:
    path = write_deep(tmp_path / "deep.gguf", "qwen3", **SIZES)
    least = await needed(path, device, context_length=CONTEXT)
    before = device.allocated
    with closing(await open_model(path)) as file:
        with pytest.raises(OutOfMemoryError, match="a smaller model"):
            await ModelRunner.load(
                device, file, context_length=CONTEXT, memory_budget=least - (1 << 17)
            )
        plan = await plan_load(file, device.capabilities, context_length=CONTEXT, budget=least)
    assert device.allocated == before
    assert plan.fit.streamed_layers == LAYERS
    assert "read for every step" in str(plan.fit.message)


async def test_a_file_that_fails_in_the_middle_fails_one_answer_and_no_more(
    device: Device, tmp_path: Path
) -> None:
    path = write_deep(tmp_path / "deep.gguf", "qwen3", **SIZES)
    least = await needed(path, device, context_length=CONTEXT, kv="f32")
    with closing(await open_model(path)) as file:
        runner = await ModelRunner.load(
            device, file, context_length=CONTEXT, kv="f32", memory_budget=least
        )
        engine = Engine(runner)
        good = [token.id async for token in engine.submit(IDS, GREEDY)]
        source: Any = file.sources[0]
        read, left = source.read, 20

        async def failing(offset: int, length: int) -> bytes:
            nonlocal left
            left -= 1
            if left == 0:
                raise SourceError("The file is gone.")
            data: bytes = await read(offset, length)
            return data

        source.read = failing
        with pytest.raises(SourceError, match="gone"):
            async for _ in engine.submit(IDS, GREEDY):
                pass
        assert [token.id async for token in engine.submit(IDS, GREEDY)] == good
        await engine.close()
        await runner.close()
