"""A load that begins with what an earlier one left: the same memory, the same answers."""

from __future__ import annotations

import json
import pickle
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tilewright.engine import prepared
from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.errors import SourceError
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.source import ByteSource
from tilewright.wasm import host, kernel_set
from tilewright.wasm.kernels import linear

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
OPTIONS: dict[str, Any] = {"context_length": 64, "max_sequences": 2, "threads": 1}
GREEDY = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True)


@pytest.fixture
def models(oracle: Path) -> Path:
    return oracle / "models_and_logits" / "models"


class KeepingSource:
    """A file whose loads leave something beside it, as a stored file in a page does."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.left: tuple[str, bytes, bytes, bytes, bytes] | None = None
        self.reads = 0

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def size(self) -> int:
        return self.source.size

    async def read(self, offset: int, length: int) -> bytes:
        self.reads += length
        return await self.source.read(offset, length)

    async def prepare(self, text: str, *parts: bytes) -> bool:
        layout, data, program, python = parts
        self.left = text, layout, data, program, python
        return True

    @property
    def begun(self) -> Any:
        if self.left is None:
            return None
        text, layout, data, program, python = self.left

        told = iter([1000])

        async def filled() -> int | None:
            if (done := next(told, None)) is None:
                await self.fill(memory, json.loads(text), layout, data)
            return done

        memory = host.here().allocate(json.loads(text)["pages"] * host.PAGE, False)
        return SimpleNamespace(program=program, python=python, js_memory=memory, filled=filled)

    async def fill(self, memory: host.Memory, recipe: Any, layout: bytes, data: bytes) -> None:
        """Do what ``layOut`` of ``web/src/store/prepared.ts`` does."""
        work = memory.instantiate(layout)
        for op in recipe["ops"]:
            if len(op) == 3:
                address, start, length = op
                memory.write(address, data[start : start + length])
                continue
            name, offset, rows, row_bytes, blocks, address, first = op
            most = recipe["rawBytes"] // row_bytes
            for row in range(0, rows, most):
                count = min(most, rows - row)
                raw = await self.source.read(offset + row * row_bytes, count * row_bytes)
                memory.write(recipe["raw"], raw)
                place = address, first + row, recipe["scratch"]
                work.call(recipe["functions"][name], recipe["raw"], count, blocks, *place)


async def answer(runner: WasmRunner) -> tuple[bytes, list[int]]:
    engine = Engine(runner)
    logits = b"".join([piece async for piece in engine.logits(IDS)])
    ids = [token.id async for token in engine.submit(IDS, GREEDY)]
    await engine.close()
    return logits, ids


def shown(file: ModelFile) -> tuple[ModelFile, KeepingSource]:
    """Return the file as its loads leave something."""
    source = KeepingSource(file.sources[0])
    return ModelFile(file.metadata, file.tensors, (source,)), source


async def first_load(file: ModelFile) -> tuple[bytes, list[int]]:
    """Load it, keep what the load found out, and return what it answers."""
    runner = await WasmRunner.load(file, **OPTIONS)
    assert await prepared.keep(file, runner)
    expected = await answer(runner)
    await runner.close()
    return expected


@pytest.fixture(autouse=True)
def _no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_adopted", lambda memory: memory)


@pytest.mark.parametrize("name", ["llama.Q4_0", "qwen3moe.Q4_0", "llama.F16", "llama.IQ3_S"])
async def test_the_second_load_is_the_first(name: str, models: Path) -> None:
    with closing(await open_model(str(models / f"{name}.gguf"))) as opened:
        file, source = shown(opened)
        runner = await WasmRunner.load(file, **OPTIONS)
        assert not runner.restored
        assert await prepared.keep(file, runner)
        expected = await answer(runner)
        await runner.close()
        source.reads = 0
        ready = prepared.restore(file)
        progress: list[tuple[int, int]] = []

        def report(done: int, total: int, _: float) -> None:
            progress.append((done, total))

        again = await WasmRunner.load(file, **OPTIONS, ready=ready, on_progress=report)
        assert again.restored
        total = again.plan.weights_bytes
        assert progress == [(1000, total), (total, total)]
        assert source.reads == 0, "nothing goes through Python"
        assert await answer(again) == expected
        assert not await prepared.keep(file, again), "there is nothing new to keep"
        await again.close()


async def test_another_choice_of_kernels_is_assembled_anew(models: Path) -> None:
    def choose(structure: linear.Structure, many: bool) -> linear.Tuning:
        found = kernel_set.default_choice(structure, many)
        return found if many else linear.naive(structure)

    with closing(await open_model(str(models / "llama.Q4_0.gguf"))) as opened:
        file, _ = shown(opened)
        expected = await first_load(file)
        tuned = await WasmRunner.load(file, **OPTIONS, choose=choose, ready=prepared.restore(file))
        assert not tuned.restored
        assert (await answer(tuned))[1] == expected[1]
        assert await prepared.keep(file, tuned), "the next load begins with this choice"
        await tuned.close()
        last = await WasmRunner.load(file, **OPTIONS, choose=choose, ready=prepared.restore(file))
        assert last.restored
        await last.close()


async def test_a_memory_that_could_not_be_filled_is_filled_in_the_usual_way(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(await open_model(str(models / "llama.Q4_0.gguf"))) as opened:
        file, source = shown(opened)
        expected = await first_load(file)

        async def fail(*_: Any) -> None:
            raise SourceError("the stored copy is shorter than it says")

        monkeypatch.setattr(source, "fill", fail)
        again = await WasmRunner.load(file, **OPTIONS, ready=prepared.restore(file))
        assert not again.restored
        assert await answer(again) == expected
        await again.close()


async def test_without_shared_memories_only_the_weights_are_read_again(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(await open_model(str(models / "llama.Q4_0.gguf"))) as opened:
        file, source = shown(opened)
        expected = await first_load(file)
        monkeypatch.setattr(prepared, "_adopted", lambda memory: None)
        source.reads = 0
        again = await WasmRunner.load(file, **OPTIONS, ready=prepared.restore(file))
        assert again.restored
        assert source.reads > 0
        assert await answer(again) == expected
        await again.close()


async def test_what_another_processor_left_is_not_used(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def naive(structure: linear.Structure, many: bool) -> linear.Tuning:
        return linear.naive(structure)  # plain products: right for every layout

    with closing(await open_model(str(models / "llama.Q8_0.gguf"))) as opened:
        file, _ = shown(opened)
        expected = await first_load(file)
        here = host.here()
        for kind in ("signed", "unsigned"):
            with monkeypatch.context() as patch:
                patch.setattr(host, "here", lambda kind=kind: replace(here, dots=kind))
                other = await WasmRunner.load(file, **OPTIONS, choose=naive)
                assert await prepared.keep(file, other)
                left = await answer(other)
                await other.close()
            again = await WasmRunner.load(file, **OPTIONS, ready=prepared.restore(file))
            assert not again.restored
            assert await answer(again) == expected
            await again.close()
            assert left != expected, "its activations have eight bits"


class Stranger:
    """What no plan is made of."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize("kind", ["foreign", "cut off", "text", "another shape"])
async def test_what_is_no_plan_is_refused(
    models: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with closing(await open_model(str(models / "llama.Q4_0.gguf"))) as opened:
        file, source = shown(opened)
        runner = await WasmRunner.load(file, **OPTIONS)
        await prepared.keep(file, runner)
        await runner.close()
        assert source.left is not None
        *others, python = source.left
        wrong = {
            "foreign": pickle.dumps((Stranger(), {}, {}, ())),
            "cut off": python[: len(python) // 2],
            "text": b"not a pickle",
            "another shape": pickle.dumps({"plan": 1}),
        }
        source.left = (*others, wrong[kind])  # type: ignore[assignment]
        assert prepared.restore(file) is None
        assert "executed" not in capsys.readouterr().out
