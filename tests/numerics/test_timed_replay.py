"""``TILEWRIGHT_DEBUG=2``: the times of a step's kernels are printed, and the ids stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilewright import settings
from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.formats.open import open_model
from tilewright.webgpu.device import Device
from tilewright.webgpu.profile import Ceilings, ceilings
from tilewright.webgpu.timed_replay import table

MODEL = Path(__file__).resolve().parents[1] / "golden" / "models" / "llama-linear.gguf"


async def ids(device: Device) -> list[int]:
    file = await open_model(MODEL)
    runner = await ModelRunner.load(device, file, context_length=64, max_sequences=1)
    engine = Engine(runner)
    sampling = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    made = [token.id async for token in engine.generate([3, 9, 27], sampling)]
    await engine.close()
    await runner.close()
    file.close()
    return made


async def test_debug_2_prints_every_kernel_of_a_step(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    if not device.capabilities.timestamps:
        pytest.skip("this adapter has no timestamp queries")
    plain = await ids(device)
    assert "dispatches" not in capsys.readouterr().out
    before = device.allocated
    with settings.scope(debug=2):
        assert await ids(device) == plain
    printed = capsys.readouterr().out
    assert "attention" in printed
    assert printed.count("step: ") >= 4
    assert device.allocated == before


def test_the_table_adds_up_and_begins_with_the_longest() -> None:
    lines = table(["norm", "matvec", "norm"], [0, 10_000, 10_000, 90_000, 90_000, 100_000])
    first, second, third = lines.splitlines()
    assert first == "step: 3 dispatches, 0.100 ms"
    assert second.split() == ["1", "x", "matvec", "0.080", "ms", "80.0%"]
    assert third.split() == ["2", "x", "norm", "0.020", "ms", "20.0%"]


async def test_ceilings_are_of_this_device(device: Device) -> None:
    found = await ceilings(device)
    assert found.bytes_per_s > 1e7
    assert found.flops_per_s > 1e7
    roof = Ceilings(bytes_per_s=10.0, flops_per_s=100.0)
    assert roof.share(5.0, 80.0) == 0.8
    assert roof.share(9.0, 80.0) == 0.9
