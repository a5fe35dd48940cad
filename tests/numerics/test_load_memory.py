"""Memory of a load: what was computed before is what is taken, and a failed load gives all back."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from tests.reference.golden_models import FOLDER

from tilewright.engine.engine import Engine
from tilewright.engine.fit import plan_load
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.errors import DeviceLostError, OutOfMemoryError, TilewrightError
from tilewright.formats.open import open_model
from tilewright.webgpu.device import Device
from tilewright.webgpu.memory import load_weights


class Meter:
    """Counts a device's buffers; makes the one numbered ``fail_at`` fail."""

    def __init__(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = self.count = 0
        self.fail_at = 0
        self.error: TilewrightError = OutOfMemoryError("no room")
        make = device.buffer

        def buffer(size: int, **options: Any) -> Any:
            self.count += 1
            if self.count == self.fail_at:
                raise self.error
            made = make(size, **options)
            self.peak = max(self.peak, device.allocated)
            return made

        monkeypatch.setattr(device, "buffer", buffer)


@pytest.mark.parametrize("name", ["qwen3", "llama-moe", "gpt2", "gemma2"])
async def test_a_load_takes_what_was_computed(
    name: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.finish()  # makes what the device keeps
    before = device.allocated
    meter = Meter(device, monkeypatch)
    with closing(await open_model(FOLDER / f"{name}.gguf")) as file:
        plan = await plan_load(file, device.capabilities, context_length=128, complete=True)
        runner = await ModelRunner.load(device, file, context_length=128)
        engine = Engine(runner)
        try:
            async for _ in engine.submit([1, 2, 3], SamplingParams(max_tokens=3)):
                pass
            fit = plan.fit
            assert runner.state.weights.nbytes == fit.weights
            cached = [*runner.state.keys, *runner.state.values]
            assert sum(found.size for found in cached) == fit.cache
            held = device.allocated - before
            assert held <= fit.weights + fit.cache + fit.activations <= held + (1 << 17)
            # While so little is staged the peak is the staging buffer.
            assert meter.peak - before <= fit.total <= meter.peak - before + (1 << 18)
        finally:
            await engine.close()
            await runner.close()
    assert device.allocated == before


@pytest.mark.parametrize("error", [OutOfMemoryError("no room"), DeviceLostError("gone")])
async def test_a_load_that_fails_anywhere_gives_everything_back(
    error: TilewrightError, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.finish()
    before = device.allocated
    with closing(await open_model(FOLDER / "qwen3.gguf")) as file:
        meter = Meter(device, monkeypatch)
        meter.error = error
        runner = await ModelRunner.load(device, file, context_length=64)
        total, meter.count = meter.count, 0
        await runner.close()
        assert device.allocated == before
        for number in range(1, total + 1):
            meter.fail_at, meter.count = number, 0
            with pytest.raises(type(error)):
                await ModelRunner.load(device, file, context_length=64)
            assert device.allocated == before, number
        meter.fail_at = 0
        runner = await ModelRunner.load(device, file, context_length=64)
        await runner.close()
    assert device.allocated == before


async def test_a_device_lost_between_two_pieces_gives_everything_back(device: Device) -> None:
    before, pieces = device.allocated, 0

    async def upload(source: Any, offset: int, length: int, buffer: Any, at: int) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 5:
            raise DeviceLostError("The GPU is gone.")
        device.queue.write_buffer(buffer, at, await source.read(offset, -(-length // 4) * 4))

    with closing(await open_model(FOLDER / "qwen3.gguf")) as file:
        plan = await plan_load(file, device.capabilities, context_length=64)
        with pytest.raises(DeviceLostError):
            await load_weights(device, file, plan.graphs["decode"], upload=upload)
    assert pieces == 5
    assert device.allocated == before


async def test_too_small_a_budget_is_refused_before_anything_is_taken(device: Device) -> None:
    before = device.allocated
    file = await open_model(FOLDER / "qwen3.gguf")
    with closing(file), pytest.raises(OutOfMemoryError) as refused:
        await ModelRunner.load(device, file, context_length=64, memory_budget=1 << 16)
    assert refused.value.details["total"] > refused.value.details["budget"] == 1 << 16
    assert device.allocated == before
