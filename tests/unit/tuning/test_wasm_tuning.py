"""The tuner on the CPU path: wrong and slow candidates lose, records last, answers stay."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tilewright import settings
from tilewright.engine import wasm_tuning
from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import ModelTuning, tune
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.formats.open import open_model
from tilewright.formats.requantized import requantize
from tilewright.serve.cli import main
from tilewright.tuning import space, wasm_linear
from tilewright.tuning.search import Outcome, search
from tilewright.tuning.store import FolderStorage, Records
from tilewright.tuning.tuner import Event
from tilewright.tuning.wasm_steps import WasmBench
from tilewright.wasm.encoder import Encoder
from tilewright.wasm.kernels import linear

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

MODEL = Path(__file__).resolve().parents[2] / "golden" / "models" / "llama-linear.gguf"
PROMPT = [3, 9, 27, 17, 5, 40, 2]


@asynccontextmanager
async def runner_of(**options: Any) -> AsyncIterator[WasmRunner]:
    file = requantize(await open_model(MODEL), "Q4_0", Encoder().encode)
    runner = await WasmRunner.load(file, context_length=64, max_sequences=2, **options)
    try:
        yield runner
    finally:
        await runner.close()
        file.close()


async def greedy(engine: Engine) -> list[int]:
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    return [token.id async for token in engine.generate(PROMPT, params)]


@dataclass(frozen=True)
class Doubling(linear.Tuning):
    """Computes twice the product."""


@dataclass(frozen=True)
class Idle(linear.Tuning):
    """Writes nothing: nothing is faster."""


@dataclass(frozen=True)
class Dawdling(linear.Tuning):
    """Computes the product a hundred times."""


async def test_wrong_and_slow_candidates_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, add = wasm_linear.space, linear.add_linear

    def added(module: Any, name: str, structure: Any, tuning: Any) -> Any:
        if not isinstance(tuning, Doubling | Idle | Dawdling):
            return add(module, name, structure, tuning)
        inner = add(module, "inner", structure, linear.Tuning())
        f = module.function(name, ["i32"] * 9)
        if isinstance(tuning, Doubling):
            # Half of the cells: another sum.
            weights, cells, *rest = f.parameters
            f.do(f.call(inner, weights, cells >> 1, *rest))
        elif isinstance(tuning, Dawdling):
            with f.range(100):
                f.do(f.call(inner, *f.parameters))
        return f

    monkeypatch.setattr(linear, "add_linear", added)
    monkeypatch.setattr(
        wasm_linear,
        "space",
        lambda shape, known: [*plain(shape, known), Doubling(), Idle(), Dawdling()],
    )
    async with runner_of() as runner:
        place = wasm_tuning.place_of(runner)
        bench = WasmBench(place, wasm_tuning.capabilities_of(runner.machine), budget=60.0)
        searched = 0
        for step in wasm_tuning.steps(runner):
            await step.fill()
            for subject in step.subjects():
                told: list[Outcome] = []
                outcome = await search(bench, subject, 1e-5, 0.0, told.append)
                assert set(outcome.rejected) == {space.name(Doubling()), space.name(Idle())}
                assert outcome.tried == outcome.candidates - 2
                names = [type(found.tuning) for found in outcome.finalists]
                assert names
                assert Dawdling not in names
                assert told
                searched += 1
        assert searched > 1


@pytest.mark.parametrize("threads", [1, 2])
async def test_records_last_and_ids_stay(tmp_path: Path, threads: int) -> None:
    async with runner_of(threads=threads) as runner:
        store = wasm_tuning.default_store(runner.machine, FolderStorage(tmp_path))
        engine = Engine(runner)
        before = await greedy(engine)
        events: list[Event] = []
        tuning = ModelTuning(runner, store, await store.load())
        result = await tuning.run(budget=60.0, on_event=events.append)
        assert result.bursts > 0
        done = {event.kernel: event for event in events if event.done and event.kernel}
        assert len(done) == len(result.records) > 1
        assert all(e.tried == e.candidates - e.rejected and not e.rejected for e in done.values())
        assert await greedy(engine) == before
        await engine.close()

    async with runner_of(threads=threads) as runner:
        known = await wasm_tuning.default_store(runner.machine, FolderStorage(tmp_path)).load()
        assert len(known) == len(result.records)
        again = await tune(runner, known, budget=60.0)
        assert again.bursts == 0
        engine = Engine(runner)
        assert await greedy(engine) == before
        await engine.close()


async def test_what_is_recorded_is_what_runs() -> None:
    async with runner_of() as runner:
        capabilities = wasm_tuning.capabilities_of(runner.machine)
        subjects = [s for step in wasm_tuning.steps(runner) for s in step.subjects()]
        few = next(s for s in subjects if not s.structure.many)
        records = Records(runner.machine.engine)
        result = await tune(runner, records, budget=60.0)
        document = json.loads(result.records.to_json())
        for record in document["records"]:
            record["tuning"] = space.name(wasm_linear.naive(few.structure))
        choose = wasm_tuning.chooser(records, runner.machine)
        assert records.load_json(json.dumps(document)) == len(records)
        assert choose(few.structure.linear, False) == linear.Tuning()
        engine = Engine(runner)
        before = await greedy(engine)
        module = runner.plan_stats()["module_bytes"]
        runner.use(wasm_tuning.chooser(records, runner.machine))
        assert runner.plan_stats()["module_bytes"] != module
        assert await greedy(engine) == before
        await engine.close()
        # A record under another key, or of a candidate that is no more, counts for nothing.
        for change in ({"key": "0" * 32}, {"tuning": "Tuning(rows=5)"}):
            document["records"] = [{**r, **change} for r in document["records"]]
            other = Records(runner.machine.engine)
            other.load_json(json.dumps(document))
            chosen = wasm_tuning.chooser(other, runner.machine)(few.structure.linear, False)
            assert chosen == wasm_linear.default(few.structure, capabilities)


def test_the_command_line_tunes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "records.json"
    command = ["tune", str(MODEL), "--backend", "wasm", "--context", "64", "--quantize", "Q4_0"]
    command += ["--out", str(out)]
    seen = []
    with settings.scope(cache=str(tmp_path)):
        for _ in range(2):
            assert main(command) == 0
            seen.append(json.loads(capsys.readouterr().out))
    assert seen[0]["bursts"] > 0
    assert seen[1]["bursts"] == 0
    assert all(kernel["known"] for kernel in seen[1]["kernels"])
    assert len(json.loads(out.read_text())["records"]) == seen[0]["records"]
    assert seen[0]["where"].startswith("native, CPU")
