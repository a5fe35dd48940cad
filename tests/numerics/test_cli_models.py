"""The commands that run a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import OutOfMemoryError
from tilewright.serve.cli import parser
from tilewright.webgpu.device import Device


@pytest.fixture
def oracle_model(oracle: Path) -> str:
    return str(oracle / "models_and_logits" / "models" / "qwen3.F16.gguf")


async def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Any:
    parsed = parser().parse_args(list(arguments))
    await parsed.run(parsed)
    return json.loads(capsys.readouterr().out)


async def test_run_gives_ids_text_usage_and_timings(
    device: Device, oracle_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", oracle_model, "Once", "--json", "--max-tokens", "6", "--seed", "4"]
    first = await run([*arguments, "--logprobs", "2"], capsys)
    again = await run(arguments, capsys)
    assert first["ids"] == again["ids"]
    assert len(first["ids"]) == first["usage"]["completion_tokens"] <= 6
    assert len(first["logprobs"][0]["top"]) == 2
    assert first["finish_reason"] in {"length", "stop"}
    assert first["usage"]["prompt_tokens"] == len(first["prompt_ids"])


async def test_a_memory_budget_in_megabytes_reaches_the_load(
    device: Device, oracle_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", oracle_model, "Once", "--json", "--max-tokens", "3", "--seed", "4"]
    with pytest.raises(OutOfMemoryError, match="and 1 MB are there"):
        await run([*arguments, "--memory-budget", "1"], capsys)
    roomy = await run([*arguments, "--memory-budget", "1000"], capsys)
    assert roomy["ids"] == (await run(arguments, capsys))["ids"]


async def test_logits_are_the_references(
    device: Device, oracle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = oracle / "models_and_logits"
    case = next(
        c
        for c in json.loads((folder / "manifest.json").read_text())["models"]
        if c["file"].endswith("qwen3.F16.gguf")
    )
    ids, out = tmp_path / "ids.json", tmp_path / "out.npy"
    ids.write_text(json.dumps(case["token_ids"]))
    model = str(folder / case["file"])
    told = await run(["logits", model, "--ids", str(ids), "--out", str(out)], capsys)
    found = np.load(out)
    assert found.shape == (told["tokens"], told["vocabulary"])
    assert np.abs(found - np.load(folder / case["exact"]["logits"])).max() < 1e-3


async def test_embeddings_have_length_one(
    device: Device, oracle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("a sentence\n")
    model = str(oracle / "models_and_logits" / "models" / "bert.F16.gguf")
    told = await run(["embed", model, "--text", str(text)], capsys)
    assert abs(np.linalg.norm(told["embedding"]) - 1) < 1e-5


async def test_perplexity_of_a_random_model_is_about_its_vocabulary(
    device: Device, oracle_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 3)
    told = await run(["perplexity", oracle_model, str(text), "--window", "32"], capsys)
    assert told["perplexity"] > 50
    assert told["tokens"] > 20


async def test_bench_prints_one_json_line(
    device: Device, oracle_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await run(["bench", oracle_model, "--json", "--decode", "4", "--repeat", "1"], capsys)
    assert line["dispatches_per_token"] > 0
    assert line["submits_per_token"] == 1
    assert line["decode_share_of_bandwidth"] > 0


def test_every_command_has_help() -> None:
    for command in ("run", "chat", "logits", "embed", "tokenize", "detokenize", "render"):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([command, "--help"])
        assert ended.value.code == 0
