"""The tuner on a device: wrong and slow candidates lose, records last, swaps change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tilewright import settings
from tilewright.engine import whole_tokens
from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import ModelTuning, tune, workloads
from tilewright.errors import CancelledError
from tilewright.formats.open import open_model
from tilewright.serve.cli import main
from tilewright.tuning import space, tuner
from tilewright.tuning.bench import Bench
from tilewright.tuning.search import Outcome, search
from tilewright.tuning.store import FolderStorage, Records, Store
from tilewright.tuning.tuner import Event
from tilewright.tuning.workload import Subject
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matvec
from tilewright.webgpu.lower import naive_choice

MODEL = Path(__file__).resolve().parents[1] / "golden" / "models" / "llama-linear.gguf"
PROMPT = [3, 9, 27, 17, 5, 40, 2]


@asynccontextmanager
async def runner_of(device: Device, **options: Any) -> AsyncIterator[ModelRunner]:
    file = await open_model(MODEL)
    given: dict[str, Any] = {"context_length": 64, "max_sequences": 2, **options}
    runner = await ModelRunner.load(device, file, **given)
    try:
        yield runner
    finally:
        await runner.close()
        file.close()


@dataclass(frozen=True)
class DoublingTuning(matvec.DirectTuning):
    """Computes twice the product."""


@dataclass(frozen=True)
class IdleTuning(matvec.DirectTuning):
    """Writes nothing: nothing is faster."""


@dataclass(frozen=True)
class BrokenTuning(matvec.DirectTuning):
    """Does not compile."""


@dataclass(frozen=True)
class SlowTuning(matvec.DirectTuning):
    """Correct, after counting for long."""


BUSY = """
    var busy = local.x;
    for (var i = 0u; i < 300000u; i++) { busy = busy * 1664525u + 1013904223u; }
    if (busy == 7u) { return; }
"""


def odd_kernel(original: Callable[..., Any]) -> Callable[..., Any]:
    def kernel(structure: Any, tuning: Any, capabilities: Any) -> Any:
        plain = matvec.DirectTuning()
        match tuning:
            case DoublingTuning():
                structure = replace(structure, scale=2.0 * structure.scale)
                return original(structure, plain, capabilities)
            case IdleTuning():
                return replace(original(structure, plain, capabilities), grid=(0, 1, 1))
            case BrokenTuning():
                made = original(structure, plain, capabilities)
                source = replace(made.source, code=made.source.code + "fn broken( {")
                return replace(made, source=source)
            case SlowTuning():
                made = original(structure, plain, capabilities)
                start = made.source.code.index("{", made.source.code.index("fn main(")) + 1
                code = made.source.code[:start] + BUSY + made.source.code[start:]
                return replace(made, source=replace(made.source, code=code))
        return original(structure, tuning, capabilities)

    return kernel


async def test_wrong_and_slow_candidates_are_rejected(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [IdleTuning(), DoublingTuning(), BrokenTuning(), SlowTuning()]
    monkeypatch.setattr(matvec, "kernel", odd_kernel(matvec.kernel))
    monkeypatch.setattr(matvec, "space", lambda *_: [matvec.QuadTuning(16, 1), *odd])
    seen: list[int] = []

    def report(outcome: Outcome) -> None:
        seen.append(outcome.tried)

    async with runner_of(device) as runner:
        decode, prefill = workloads(runner)
        bench = await Bench.open(device, budget=60.0)
        try:
            await decode.fill()
            subject = next(s for s in decode.subjects() if s.module is matvec)
            found = await search(bench, subject, 1e-3, 0.0, report)
        finally:
            bench.release()
            decode.release()
            prefill.release()
    names = [space.name(tuning) for tuning in odd]
    assert set(found.rejected) == set(names[:3]), "wrong or broken candidates were timed"
    assert found.tried == found.candidates - 3
    assert seen == sorted(seen)
    assert seen[-1] == found.tried
    assert SlowTuning() not in [candidate.tuning for candidate in found.finalists]
    assert isinstance(found.best.tuning, matvec.DirectTuning | matvec.QuadTuning)
    assert found.best.tuning not in odd


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every space have two candidates, so that tuning a whole model takes seconds."""
    whole = space.candidates
    monkeypatch.setattr(space, "candidates", lambda *given: whole(*given)[:2])


async def generate(engine: Engine, count: int = 12, **params: Any) -> list[int]:
    given = {"temperature": 0.0, "max_tokens": count, "ignore_eos": True, **params}
    return [token.id async for token in engine.generate(PROMPT, SamplingParams(**given))]


async def test_tuning_keeps_ids_and_is_not_repeated(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    store = Store(FolderStorage(tmp_path), device.capabilities, "here")
    events: list[Event] = []
    async with runner_of(device) as runner:
        engine = Engine(runner)
        allocated = device.allocated
        before = await generate(engine)
        drawn = await generate(engine, temperature=0.9, seed=5)
        buffers = device.allocated
        first = await tune(runner, await store.load(), store=store, on_event=events.append)
        assert device.allocated == buffers >= allocated, "tuning left buffers behind"
        assert first.bursts > 0
        assert runner.choose == first.records.choose
        assert await generate(engine) == before
        assert await generate(engine, temperature=0.9, seed=5) == drawn
        await engine.close()
    kernels = [event for event in events if event.kernel and event.done]
    assert {event.workload for event in kernels} == {"decode", "prefill", "decode of 2"}
    assert all(event.seconds > 0 and not event.known for event in kernels)
    searched = [event for event in kernels if event.tried]
    assert all(event.naive_seconds > 0 and event.bytes_per_s > 0 for event in searched)

    events.clear()
    async with runner_of(device) as runner:
        again = await tune(runner, await store.load(), store=store, on_event=events.append)
        assert again.bursts == 0, "records were there, and yet something was measured"
        assert events
        assert all(event.known for event in events)
        other = Store(FolderStorage(tmp_path), device.capabilities, "another browser")
        assert len(await other.load()) == 0


async def test_a_swap_between_two_tokens_changes_no_ids(device: Device) -> None:
    async with runner_of(device) as runner:
        engine = Engine(runner)
        whole = await generate(engine, 20)
        swapped: list[int] = []
        choices = [naive_choice, Records().choose, naive_choice]
        params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
        async for token in engine.generate(PROMPT, params):
            swapped.append(token.id)
            if choices and len(swapped) % 5 == 0:
                runner.use(choices.pop())
        await engine.close()
    assert not choices
    assert swapped == whole


async def test_the_budget_is_respected(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    tick = 2e-3
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += tick
        return now

    monkeypatch.setattr("tilewright.tuning.bench.time", SimpleNamespace(perf_counter=clock))
    async with runner_of(device) as runner:
        nothing = await tune(runner, Records(), budget=0.0)
        assert nothing.bursts == 0
        short = await tune(runner, Records(), budget=0.3)
    # Each measurement looks at the clock; a kernel that was begun is brought to an end. What is
    # kept for whole steps is left over where every default won.
    assert 0 < short.bursts < 0.5 / tick
    assert 0.3 * (1 - tuner._FINAL_SHARE) <= short.seconds < 0.5


async def test_nothing_is_measured_while_the_device_is_needed(device: Device) -> None:
    """It waits without costing budget, lets others run, and can be stopped; what it has is kept."""
    busy, ticks = True, 0

    async def other() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async with runner_of(device) as runner:
        decode, prefill = workloads(runner)
        bench = await Bench.open(device, budget=5.0, idle=lambda: not busy)
        await decode.fill()
        subject: Subject = decode.subjects()[0]
        default = subject.module.default(subject.structure, device.capabilities)
        background = asyncio.create_task(other())
        waiting = asyncio.create_task(bench.candidate(subject, default))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        left, seen = bench.left, ticks
        assert seen > 10
        busy = False
        await bench.measure(await waiting, 1)
        assert bench.bursts == 1
        assert left > 3.0
        background.cancel()
        bench.release()
        decode.release()
        prefill.release()


async def test_a_stopped_run_keeps_what_it_found(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    store = Store(FolderStorage(tmp_path), device.capabilities, "here")
    finished: list[Event] = []

    def note(event: Event) -> None:
        if event.done:
            finished.append(event)

    async with runner_of(device) as runner:
        choose = runner.choose
        with pytest.raises(CancelledError):
            await tune(
                runner,
                Records("here"),
                store=store,
                cancelled=lambda: len(finished) >= 2,
                on_event=note,
            )
        assert runner.choose is choose
    assert len(await store.load()) >= 2


def run_cli(*arguments: str) -> int:
    return main(["tune", str(MODEL), "--context", "64", "--quiet", *arguments])


def test_the_command_writes_finds_and_imports_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few(monkeypatch)
    out = tmp_path / "records.json"
    with settings.scope(cache=str(tmp_path / "one")):
        assert run_cli("--out", str(out)) == 0
        first, table = capsys.readouterr()
        assert run_cli() == 0
        second, known = capsys.readouterr()
    made = json.loads(first)
    assert made["bursts"] > 0
    assert made["records"] == len(json.loads(out.read_text())["records"])
    assert "decode" in table
    assert "prefill" in table
    assert "naive" in table
    assert json.loads(second)["bursts"] == 0
    assert "known" in known
    with settings.scope(cache=str(tmp_path / "two")):
        assert run_cli("--import", str(out)) == 0
        assert json.loads(capsys.readouterr().out)["bursts"] == 0
        (tmp_path / "empty.json").write_text("{}")
        assert run_cli("--import", str(tmp_path / "empty.json")) == 2
        assert "holds no tuning records" in capsys.readouterr().err


async def test_graphs_that_are_swapped_while_tokens_come_change_no_ids(device: Device) -> None:
    """Fusion, steps in flight and chunks are exchanged between two tokens."""
    async with runner_of(device) as runner:
        engine = Engine(runner)
        whole = await generate(engine, 20)
        found: list[int] = []
        choices = [whole_tokens.TokenTuning(), whole_tokens.TokenTuning(norm=False, depth=1)]
        params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
        ops = []
        async for token in engine.generate(PROMPT, params):
            found.append(token.id)
            if choices and len(found) % 6 == 0:
                ops.append(len(runner.graphs["decode"].ops))
                choice = choices.pop()
                whole_tokens.use(runner, choice)
                engine.pace(depth=choice.depth, prefill_chunk=8)
        ops.append(len(runner.graphs["decode"].ops))
        short = [id async for id in ids_of(engine, PROMPT * 3)]
        engine.pace(depth=3, prefill_chunk=64)
        assert [id async for id in ids_of(engine, PROMPT * 3)] == short
        await engine.close()
    assert found == whole
    assert ops[1] > ops[0] == ops[2], "norms were to be apart for a while"


async def ids_of(engine: Engine, prompt: list[int]) -> AsyncIterator[int]:
    params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    async for token in engine.generate(prompt, params):
        yield token.id


async def test_whole_tokens_are_recorded_and_followed(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decode without fused norms that is made to look faster is taken, also at the next load."""
    few(monkeypatch)
    records = Records("here")
    apart = whole_tokens.TokenTuning(norm=False, post_norm=False)

    async def odd(self: Bench, dispatches: Any) -> float:
        self.bursts += 1
        return 1e-3 / len(dispatches)

    async with runner_of(device) as runner:
        engine = Engine(runner)
        before = await generate(engine)
        plain = len(runner.graphs["decode"].ops)
        monkeypatch.setattr(Bench, "time", odd)
        result = await tune(runner, records, engine=engine, budget=60.0)
        assert result.bursts > 0
        kept = whole_tokens.chosen(runner, records)
        assert kept is not None
        assert (kept.norm, kept.post_norm) == (apart.norm, apart.post_norm)
        assert await generate(engine) == before
        assert len(runner.graphs["decode"].ops) > plain
        again = await tune(runner, records, engine=engine)
        assert again.bursts == 0, "what was recorded was measured again"
        await engine.close()
    async with runner_of(device) as runner:
        tuning = ModelTuning(runner, None, records)
        engine = Engine(runner)
        tuning.follow(engine)
        assert await generate(engine) == before
        assert len(runner.graphs["decode"].ops) > plain
        other = Records("elsewhere")
        other.load_json(records.to_json())
        assert whole_tokens.chosen(runner, other) is None, "a foreign record was used"
        await engine.close()


async def test_a_slow_device_still_finishes_the_largest_kernel_of_each_step(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs so fast that no budget is left after the first measurement of a step."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.05
        return now

    monkeypatch.setattr("tilewright.tuning.bench.time", SimpleNamespace(perf_counter=clock))
    records = Records("here")
    async with runner_of(device) as runner:
        await tune(runner, records, budget=2.0)
    searched = [record for record in records if record.tried > 2]
    assert len({record.key for record in searched}) >= 2
