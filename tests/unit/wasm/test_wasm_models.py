"""Whole models on the CPU path: golden and reference models, the engine's promises, refusals."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.reference import golden_models

from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.wasm_runner import WasmRunner
from tilewright.errors import OutOfMemoryError
from tilewright.formats.gguf import read_gguf
from tilewright.formats.model_file import ModelFile
from tilewright.formats.open import open_model
from tilewright.formats.source import MemorySource
from tilewright.wasm import host, kernel_set
from tilewright.wasm.kernels import linear
from tilewright.wasm.kernels.packing import FLOAT_FORMATS, PACKINGS, Dots
from tilewright.wasm.native import NativeMemory

pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

MANIFEST = golden_models.FOLDER.parents[3] / "shared/oracle/models_and_logits/manifest.json"
CASES: list[dict[str, Any]] = (
    json.loads(MANIFEST.read_text())["models"] if MANIFEST.is_file() else []
)
KNOWN = [c for c in CASES if c["quantization"] in (*PACKINGS, *FLOAT_FORMATS)]


def name(case: dict[str, Any]) -> str:
    return str(case["file"]).removeprefix("models/")


async def golden(model: str) -> ModelFile:
    path = golden_models.FOLDER / f"{model}.gguf"
    return await read_gguf(MemorySource(path.read_bytes(), path.name))


async def all_logits(engine: Engine, ids: Sequence[int]) -> np.ndarray:
    data = b"".join([piece async for piece in engine.logits(ids)])
    return np.frombuffer(data, np.float32).reshape(len(ids), -1)


async def closed(engine: Engine, runner: WasmRunner, file: ModelFile) -> None:
    await engine.close()
    await runner.close()
    file.close()


@pytest.mark.parametrize("model", golden_models.NAMES)
async def test_golden_models(model: str) -> None:
    wanted = golden_models.expected(model)
    runner = await WasmRunner.load(await golden(model), context_length=golden_models.CONTEXT)
    engine = Engine(runner)
    ids = [int(i) for i in wanted["ids"]]
    if "logits" in wanted:
        assert np.abs(await all_logits(engine, ids) - wanted["logits"]).max() <= 1e-4
    else:
        (got,) = await engine.embed([ids])
        assert np.abs(np.array(got) - wanted["pooled"]).max() <= 1e-4
    await engine.close()
    await runner.close()


def naive(structure: linear.Structure, many: bool) -> linear.Tuning:
    """Choose plain products, which are right for every layout."""
    return linear.naive(structure)


LAYOUTS: list[Any] = [pytest.param(case, "seven", id=name(case)) for case in KNOWN]
LAYOUTS += [
    pytest.param(case, dots, id=f"{name(case)}-{dots}")
    for case in KNOWN
    if case["quantization"] in PACKINGS and PACKINGS[case["quantization"]].signed
    for dots in ("signed", "unsigned")
]


@pytest.mark.parametrize(("case", "dots"), LAYOUTS)
async def test_reference_models(
    case: dict[str, Any],
    dots: Dots,
    compared: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also as an engine has them whose dot product takes all bytes: 8-bit activations then."""
    exact = case["exact"]
    folder = MANIFEST.parent
    file = await open_model(str(folder / case["file"]))
    options: dict[str, Any] = {}
    if dots != "seven":
        here = replace(host.here(), dots=dots)
        monkeypatch.setattr(host, "here", lambda: here)
        options["choose"] = naive
    context = exact.get("n_ctx")
    runner = await WasmRunner.load(file, context_length=context, max_sequences=2, **options)
    engine = Engine(runner)
    floats = case["quantization"] in FLOAT_FORMATS
    # 8-bit activations are the formats' limit, here and in llama.cpp: its own distance, doubled.
    most = 1e-3 if floats else case["tolerance"]["native_like"]["max_abs"]
    mean = 1e-4 if floats else case["tolerance"]["native_like"]["mean_abs"]
    ids = case["token_ids"]
    if "logits" not in exact:
        wanted = np.load(folder / exact["pooled"]).reshape(-1)
        got = np.array((await engine.embed([ids]))[0])
        scale = 1.0 if abs(float(np.linalg.norm(got)) - 1) > 1e-3 else np.linalg.norm(wanted)
        assert np.abs(got - wanted / scale).max() <= most
    else:
        wanted = np.load(folder / exact["logits"])
        got = await all_logits(engine, ids)
        error = np.abs(got - wanted)
        assert error.max() <= most
        assert error.mean() <= mean
        ordered = np.sort(wanted, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 2 * error.max(axis=1)
        assert np.array_equal(got.argmax(1)[clear], wanted.argmax(1)[clear])
        params = SamplingParams(temperature=0, max_tokens=32, ignore_eos=True)
        greedy = [t.id async for t in engine.generate(exact["greedy_prompt_ids"], params)]
        different = [n for n in range(32) if greedy[n] != exact["greedy_ids"][n]]
        if different:
            assert exact["greedy_margins"][different[0]] <= 2 * most
            assert not floats
    await closed(engine, runner, file)
    compared("models on the CPU path", f"{name(case)} {dots}")


@pytest.mark.parametrize("case", [c for c in KNOWN if "logits" in c["exact"]], ids=name)
async def test_with_wide_activations_integers_are_nearly_exact(case: dict[str, Any]) -> None:
    wanted = np.load(MANIFEST.parent / case["exact"]["logits"])
    file = await open_model(str(MANIFEST.parent / case["file"]))
    runner = await WasmRunner.load(
        file, context_length=case["exact"].get("n_ctx"), max_sequences=1, wide=True
    )
    engine = Engine(runner)
    error = np.abs(await all_logits(engine, case["token_ids"]) - wanted)
    assert error.max() <= 5e-3
    assert error.mean() <= 5e-4
    await closed(engine, runner, file)


async def test_every_candidate_gives_the_same_logits() -> None:
    case = next((c for c in KNOWN if name(c) == "llama.Q4_K.gguf"), None)
    if case is None:
        pytest.skip("the reference data ../shared/oracle is not on this machine")
    file = await open_model(str(MANIFEST.parent / case["file"]))
    seen = []
    for choose in (
        kernel_set.guess(relaxed=True, splat="load"),
        kernel_set.guess(relaxed=False, splat="shuffle"),
    ):
        runner = await WasmRunner.load(file, context_length=64, choose=choose)
        engine = Engine(runner)
        seen.append(await all_logits(engine, case["token_ids"]))
        await engine.close()
        await runner.close()
    file.close()
    assert np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("threads", [1, 2])
async def test_an_engine_without_relaxed_simd_runs_the_plain_kernels(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Its modules would not compile if they held one relaxed instruction."""
    ids = [int(i) for i in golden_models.expected("llama-moe")["ids"]]
    seen = []
    for relaxed in (True, False):
        allocate = functools.partial(NativeMemory, relaxed=relaxed)
        monkeypatch.setattr(host, "here", lambda r=relaxed, a=allocate: host.Host(r, 2, a))
        file = await golden("llama-moe")
        runner = await WasmRunner.load(file, context_length=64, threads=threads)
        engine = Engine(runner)
        seen.append(await all_logits(engine, ids))
        await closed(engine, runner, file)
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-4)


@pytest.mark.parametrize("model", ["llama-moe", "qwen2", "gemma2"])
async def test_chunks_batches_and_cache_change_nothing(model: str) -> None:
    file = await golden(model)
    ids = [int(i) for i in golden_models.expected(model)["ids"]]
    params = SamplingParams(temperature=0.9, seed=3, max_tokens=12, logprobs=2, ignore_eos=True)

    async def tokens(engine: Engine, prompt: list[int]) -> list[tuple[int, float | None]]:
        return [(t.id, t.logprob) async for t in engine.generate(prompt, params)]

    runner = await WasmRunner.load(file, context_length=128)
    engine = Engine(runner)
    alone = [await tokens(engine, ids[:n]) for n in (5, 17, 33)]
    again = await tokens(engine, ids[:33])  # its prefix is in the cache by now
    generations = [engine.submit(ids[:n], params) for n in (5, 17, 33)]
    together = [[(t.id, t.logprob) async for t in g] for g in generations]
    await engine.close()
    await runner.close()
    assert [[t for t, _ in run] for run in together] == [[t for t, _ in run] for run in alone]
    assert [t for t, _ in again] == [t for t, _ in alone[2]]
    for run, other in zip(together, alone, strict=True):
        np.testing.assert_allclose([p for _, p in run], [p for _, p in other], atol=1e-5)


async def test_penalties_follow_the_answer() -> None:
    """A huge presence penalty forbids every id that was drawn before."""
    file = await golden("qwen2")
    runner = await WasmRunner.load(file, context_length=64)
    engine = Engine(runner)
    params = SamplingParams(
        temperature=0,
        presence_penalty=2.0,
        max_tokens=30,
        ignore_eos=True,
        frequency_penalty=2.0,
        repetition_penalty=2.0,
    )
    free = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    drawn = [t.id async for t in engine.generate([1, 2, 3], params)]
    plain = [t.id async for t in engine.generate([1, 2, 3], free)]
    await engine.close()
    await runner.close()
    assert len(set(drawn)) > len(set(plain))


@pytest.mark.parametrize(("kv", "most"), [("f16", 3e-2), ("q8_0", 0.25)])
async def test_smaller_caches_stay_close(kv: Any, most: float) -> None:
    """The bounds are those of the GPU path."""
    case = next((c for c in KNOWN if name(c) == "llama.F32.gguf"), None)
    if case is None:
        pytest.skip("the reference data ../shared/oracle is not on this machine")
    wanted = np.load(MANIFEST.parent / case["exact"]["logits"])
    file = await open_model(str(MANIFEST.parent / case["file"]))
    nbytes, seen = [], []
    for kind in ("f32", kv):
        runner = await WasmRunner.load(file, context_length=256, max_sequences=1, kv=kind)
        nbytes.append(runner.plan.cache_bytes)
        engine = Engine(runner)
        seen.append(await all_logits(engine, case["token_ids"]))
        await engine.close()
        await runner.close()
    file.close()
    assert nbytes[1] == nbytes[0] * {"f16": 2, "q8_0": 1.125}[kv] / 4
    assert np.abs(seen[1] - seen[0]).max() > 0
    assert np.abs(seen[1] - wanted).max() <= most


async def test_what_cannot_run_is_refused_with_a_reason() -> None:
    file = await golden("llama-linear")
    with pytest.raises(OutOfMemoryError, match="4 GiB"):
        await WasmRunner.load(file, context_length=64, cache_tokens=1 << 27)


def test_the_command_line_runs_it() -> None:
    case = next((c for c in KNOWN if name(c) == "llama.Q5_0.gguf"), None)
    if case is None:
        pytest.skip("the reference data ../shared/oracle is not on this machine")
    main = "import sys; from tilewright.serve.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", main, "run", str(MANIFEST.parent / case["file"])]
    options = ["Once upon", "--backend", "wasm", "--temperature", "0", "--max-tokens", "4"]
    options.append("--json")
    environment = {**os.environ, "PYTHONPATH": str(golden_models.FOLDER.parents[2] / "py_core")}
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["ids"]) == 4
    small = subprocess.run(
        [*command, *options, "--kv", "q8_0"], capture_output=True, text=True, env=environment
    )
    assert small.returncode == 0, small.stderr
    assert len(json.loads(small.stdout)["ids"]) == 4


@pytest.mark.parametrize("model", ["llama-moe", "qwen2", "bert-cls"])
async def test_threads_change_nothing(model: str) -> None:
    """Long enough a prompt that every kind of call is cut."""
    ids = [int(i) for i in np.random.default_rng(5).integers(0, 32, 60)]
    seen = []
    for threads in (1, 2, 3):
        file = await golden(model)
        runner = await WasmRunner.load(file, context_length=128, threads=threads)
        assert runner.threads == min(threads, host.here().cores)
        engine = Engine(runner)
        if runner.graphs.get("decode") is None:
            seen.append(np.array((await engine.embed([ids]))[0]))
        else:
            params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
            made = [float(t.id) async for t in engine.generate(ids, params)]
            logits = await all_logits(engine, ids)
            seen.append(np.concatenate([np.array(made, np.float32), logits.reshape(-1)]))
        await closed(engine, runner, file)
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
