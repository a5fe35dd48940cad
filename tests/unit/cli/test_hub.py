"""References, the Hub's cache folder, and downloads that nothing interrupts for good."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.reference.golden_models import FOLDER
from tests.unit.cli.hub_server import COMMIT, Hub, serving

from tilewright.errors import InvalidRequestError, SourceError
from tilewright.formats.open import open_model
from tilewright.serve.cli import parser
from tilewright.serve.hub import pull as pulling
from tilewright.serve.hub.cache import Repository, default_folder, local_models
from tilewright.serve.hub.client import Client
from tilewright.serve.hub.pull import already_here, pull
from tilewright.serve.hub.reference import (
    HubFile,
    Reference,
    choose,
    parse_reference,
    quantization_of,
)

MODEL = (FOLDER / "qwen3.gguf").read_bytes()
BIG = bytes(range(256)) * 4096
"""A megabyte: many pieces of ``PIECE`` below."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {
        "README.md": b"text",
        "tiny-Q8_0.gguf": MODEL,
        "tiny-Q4_K_M.gguf": BIG,
        "folder/x-F16-00001-of-00002.gguf": b"one",
        "folder/x-F16-00002-of-00002.gguf": b"two!",
    }
    with serving(Hub(files)) as made:
        yield made


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PIECE", 1 << 16)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "/nonexistent")


def client(hub: Hub, **options: Any) -> Client:
    return Client(hub.hub, **{"retries": 3, "pause": 0.001, **options})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:org/repo", Reference("org/repo")),
        ("hf:org/my.repo-7B:Q4_K_M", Reference("org/my.repo-7B", quantization="Q4_K_M")),
        ("hf:org/repo@v1", Reference("org/repo", "v1")),
        ("hf:org/repo/a/b.gguf", Reference("org/repo", path="a/b.gguf")),
        ("hf:org/repo@refs/pr/3/a.gguf", Reference("org/repo", "refs/pr/3", "a.gguf")),
        ("hf:org/repo/a.gguf@main", Reference("org/repo", "main", "a.gguf")),
        ("hf:org/repo:Q8_0@v1", Reference("org/repo", "v1", None, "Q8_0")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("hf:repo", "org/repo", "hf:org/repo/../x", "hf:org/repo//x", "hf:org/repo@a/b@c"),
        *("hf:org/repo/x@../../y", "hf:"),
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_reference(text)


def files(*names: str) -> list[HubFile]:
    return [HubFile(name, 100 - number, "0" * 40, None) for number, name in enumerate(names)]


def test_the_file_is_chosen_by_quantization_then_by_what_fits() -> None:
    listed = files(
        *("m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf", "m-Q8_0.gguf"),
        *("m-Q4_K_M.gguf", "m-UD-Q2_K.gguf", "mmproj-m-F16.gguf", "m-Q3_K_S-00001-of-00002.gguf"),
    )
    reference = Reference("org/repo")
    assert choose(reference, listed).label == "Q4_K_M"
    assert choose(reference, listed, budget=96).label == "UD-Q2_K"
    assert choose(reference, listed, budget=1).label == "UD-Q2_K"  # the smallest there is
    wanted = choose(Reference("org/repo", quantization="f16"), listed)
    assert [file.path for file in wanted.files] == [listed[0].path, listed[1].path]
    assert choose(Reference("org/repo", quantization="Q2_K"), listed).label == "UD-Q2_K"
    with pytest.raises(SourceError, match=r"has no Q6_K; it has .*Q4_K_M") as error:
        choose(Reference("org/repo", quantization="Q6_K"), listed)
    assert "Q3_K_S" not in error.value.details["names"]  # a set that is not whole
    assert quantization_of("a/Model-7B.i1-IQ4_XS-00001-of-00003.gguf") == "IQ4_XS"


def test_a_safetensors_model_is_chosen_with_what_it_needs() -> None:
    listed = files(
        *("config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "README.md"),
        *("model-00002-of-00002.safetensors", "model.safetensors.index.json", "onnx/model.onnx"),
    )
    chosen = choose(Reference("org/repo"), listed)
    assert chosen.files[0].path == "model.safetensors.index.json"
    assert {file.path for file in chosen.files} == {
        *("config.json", "tokenizer.json", "model.safetensors.index.json"),
        *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    }
    with pytest.raises(SourceError, match="no model that can be loaded"):
        choose(Reference("org/repo"), files("model.safetensors", "README.md"))


async def test_a_pulled_model_lies_as_the_hubs_own_tools_lay_it(hub: Hub, tmp_path: Path) -> None:
    hub.page = 2
    found = await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    digest = hashlib.sha256(BIG).hexdigest()
    root = tmp_path / "models--org--repo"
    assert found.path == root / "snapshots" / COMMIT / "tiny-Q4_K_M.gguf"
    assert found.path.is_symlink()
    assert found.path.resolve() == (root / "blobs" / digest).resolve()
    assert found.path.read_bytes() == BIG
    assert (root / "refs" / "main").read_text() == COMMIT
    assert {path.name for path in (root / "blobs").iterdir()} - {digest} == set()
    assert found.fetched == len(BIG)
    ranges = [asked for path, asked in hub.asked]
    assert len(set(ranges)) == len(BIG) >> 16  # each piece once
    hub.asked.clear()
    again = await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert (again.path, again.fetched, hub.asked) == (found.path, 0, [])
    assert already_here("hf:org/repo:Q4_K_M", tmp_path) == found.path
    assert already_here("hf:org/repo:Q8_0", tmp_path) is None
    assert [model.reference for model in local_models(tmp_path)] == ["hf:org/repo/tiny-Q4_K_M.gguf"]


async def test_files_that_other_tools_fetched_are_used(hub: Hub, tmp_path: Path) -> None:
    repository = Repository(tmp_path, "org/repo")
    blob = repository.blob(hashlib.sha256(BIG).hexdigest())
    blob.parent.mkdir(parents=True)
    blob.write_bytes(BIG)
    found = await pull("hf:org/repo/tiny-Q4_K_M.gguf", client=client(hub), folder=tmp_path)
    assert (found.fetched, hub.asked) == (0, [])
    assert found.path.read_bytes() == BIG


async def test_all_parts_of_a_split_model_are_fetched(hub: Hub, tmp_path: Path) -> None:
    found = await pull("hf:org/repo:F16@v1", client=client(hub), folder=tmp_path)
    assert found.path.read_bytes() == b"one"
    assert found.path.with_name("x-F16-00002-of-00002.gguf").read_bytes() == b"two!"
    assert Repository(tmp_path, "org/repo").commit("v1") == COMMIT


async def test_broken_connections_and_refusals_cost_nothing_twice(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = [1000, 0, 30000, 65535]
    hub.refusals = [(503, {}), (429, {"Retry-After": "0"})]
    found = await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert found.path.read_bytes() == BIG
    assert hub.sent == found.fetched == len(BIG)


async def test_a_pull_that_was_stopped_goes_on_at_the_byte(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = [65536] * 5 + [1234] + [0] * 40
    with pytest.raises(SourceError, match="go on with the same command"):
        await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    first = hub.sent
    assert 0 < first < len(BIG)
    assert already_here("hf:org/repo:Q4_K_M", tmp_path) is None  # half a file is never used
    hub.break_after = []
    found = await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert found.fetched == len(BIG) - first
    assert found.path.read_bytes() == BIG


async def test_a_stopped_pull_leaves_no_thread_writing(hub: Hub, tmp_path: Path) -> None:
    hub.refusals = [(503, {})] * 1000
    patient = client(hub, retries=1000, pause=0.01)
    task = asyncio.ensure_future(pull("hf:org/repo:Q4_K_M", client=patient, folder=tmp_path))
    while not hub.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    hub.refusals = []
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert found.path.read_bytes() == BIG


async def test_a_server_that_ignores_ranges(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    found = await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert found.path.read_bytes() == BIG


async def test_a_damaged_file_is_thrown_away(hub: Hub, tmp_path: Path) -> None:
    hub.damage = True
    with pytest.raises(SourceError, match="arrived damaged"):
        await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 100
    ]
    hub.damage = False
    assert (
        await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    ).path.read_bytes() == BIG


async def test_the_token_goes_to_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    hub.token = "secret"
    with pytest.raises(SourceError, match="HF_TOKEN") as error:
        await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert error.value.details["status"] == 401
    await pull("hf:org/repo:Q4_K_M", client=client(hub, token="secret"), folder=tmp_path)
    assert hub.tokens_seen == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "accept the model's conditions"), (404, "check the name"), (429, "too many requests")],
)
async def test_refusals_say_what_to_do(hub: Hub, tmp_path: Path, status: int, words: str) -> None:
    hub.hub_refusals = [(status, {})] * 5
    with pytest.raises(SourceError, match=words) as error:
        await pull("hf:org/repo", client=client(hub), folder=tmp_path)
    assert error.value.details["status"] == status
    assert len(hub.hub_refusals) == (1 if status == 429 else 4)  # only what may pass is retried


async def test_no_room_is_said_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(SourceError, match="HF_HUB_CACHE"):
        await pull("hf:org/repo:Q4_K_M", client=client(hub), folder=tmp_path)
    assert hub.asked == []


async def test_the_commands_take_references(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run(*arguments: str) -> Any:
        parsed = parser().parse_args(list(arguments))
        await parsed.run(parsed)
        return json.loads(capsys.readouterr().out)

    monkeypatch.setenv("HF_ENDPOINT", hub.hub)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    told = await run("pull", "org/repo:Q8_0", "--quiet")
    assert told["chosen"] == "Q8_0"
    assert told["bytes_fetched"] == len(MODEL)
    (await open_model(told["path"])).close()
    shown = await run("models", "--json")
    assert [model["path"] for model in shown["local"]] == [told["path"]]
    verified = await run("verify", "hf:org/repo:Q8_0")
    assert verified["files"][0]["checksum"] == "matches"
    hub.asked.clear()
    report = await run("inspect", "hf:org/repo:Q8_0", "--json")
    assert report["architecture"] == "qwen3"
    assert hub.asked == []  # it is here, no network is needed
    Path(told["path"]).resolve().write_bytes(MODEL[:-1] + b"?")
    with pytest.raises(Exception, match="is damaged"):
        await run("verify", "hf:org/repo:Q8_0")
