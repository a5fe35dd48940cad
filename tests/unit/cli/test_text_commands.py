"""The commands that need no GPU: tokenize, detokenize, render, inspect; and how errors look."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tilewright import settings
from tilewright.errors import DeviceUnavailableError
from tilewright.serve.cli import main
from tilewright.serve.cli.numbers import read_ids, write_npy
from tilewright.webgpu.device import Device

MODELS = Path(__file__).resolve().parents[2] / "golden" / "models"


class Standard(io.TextIOWrapper):
    """Standard input of given bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    *arguments: str,
    given: bytes = b"",
) -> tuple[int, bytes, str]:
    monkeypatch.setattr(sys, "stdin", Standard(given))
    status = main(arguments)
    out, err = capsysbinary.readouterr()
    return status, out, err.decode()


@pytest.fixture
def vocabulary(oracle: Path) -> str:
    return str(oracle / "tokenizers" / "ggml-vocab-gpt-2.gguf")


def test_tokenize_and_detokenize_are_inverse(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], vocabulary: str
) -> None:
    text = "Hällo wörld 🦙\n".encode()
    status, out, _ = run(monkeypatch, capsysbinary, "tokenize", vocabulary, given=text)
    assert status == 0
    status, back, _ = run(monkeypatch, capsysbinary, "detokenize", vocabulary, given=out)
    assert status == 0
    assert back == text


def test_tokenize_takes_the_reference_datas_cases(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], vocabulary: str
) -> None:
    cases = Path(vocabulary).with_suffix(".strings.jsonl").read_bytes()
    status, out, _ = run(monkeypatch, capsysbinary, "tokenize", vocabulary, "--jsonl", given=cases)
    assert status == 0
    wanted = [json.loads(line)["ids"] for line in cases.splitlines()]
    assert [json.loads(line)["ids"] for line in out.splitlines()] == wanted


def test_render_takes_the_reference_datas_cases(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], oracle: Path
) -> None:
    cases = (oracle / "templates" / "cases.jsonl").read_bytes()
    status, out, _ = run(
        monkeypatch, capsysbinary, "render", str(oracle / "templates"), "--jsonl", given=cases
    )
    assert status == 0
    answers = [json.loads(line) for line in out.splitlines()]
    for line, answer in zip(cases.splitlines(), answers, strict=True):
        case = json.loads(line)
        if "rendered" in case:
            assert answer["rendered"] == case["rendered"]
        else:
            assert "error" in answer


def test_render_of_one_template(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    template, messages = tmp_path / "t.jinja", tmp_path / "m.json"
    template.write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    messages.write_text('[{"role": "user", "content": "hi"}]')
    status, out, _ = run(
        monkeypatch, capsysbinary, "render", str(template), "--messages", str(messages)
    )
    assert (status, out) == (0, b"[user]hi")


def test_inspect_tells_what_the_device_needs(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    model = str(MODELS / "qwen3.gguf")
    status, out, _ = run(monkeypatch, capsysbinary, "inspect", model, "--json", "--context", "100")
    assert status == 0
    report = json.loads(out)
    assert report["architecture"] == "qwen3"
    assert report["fit"]["context_length"] == 100
    assert report["fit"]["total"] > report["fit"]["weights"] > 0
    assert {t["name"] for t in report["tensors"]} >= {"token_embd.weight", "blk.0.attn_q.weight"}


def test_inspect_needs_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def none() -> None:
        raise DeviceUnavailableError("There is no adapter.")

    monkeypatch.setattr(Device, "probe", none)
    pytest.importorskip("wasmtime", reason="without it and without a GPU nothing runs")
    model = str(MODELS / "qwen3.gguf")
    with settings.scope(backend=""):
        status, out, _ = run(monkeypatch, capsysbinary, "inspect", model, "--json", "--budget", "1")
    report = json.loads(out)
    assert (status, report["backend"]) == (0, "wasm")
    assert report["fit"]["fits"] is False
    assert "1 MB" in report["fit"]["message"]
    # A format of the cache asks for the GPU: told with the limits that all of them have.
    status, out, _ = run(monkeypatch, capsysbinary, "inspect", model, "--json", "--kv", "f16")
    report = json.loads(out)
    assert (status, report["backend"], report["fit"]["kv"]) == (0, "webgpu", "f16")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("inspect", "nowhere.gguf"), "source_unavailable"),
        (("tokenize", __file__), "bad_model_file"),
        (("render", "nowhere.jinja", "--messages", "x"), "invalid_request"),
    ],
)
def test_an_error_is_one_sentence_with_its_code_and_status_2(
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    arguments: tuple[str, ...],
    code: str,
) -> None:
    status, out, err = run(monkeypatch, capsysbinary, *arguments)
    assert status == 2
    assert out == b""
    assert err.count("\n") == 1
    assert f"[{code}]" in err


def test_ids_are_read_as_json_or_as_words(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    for text in ("[1, 2, 30]", "1 2 30", "1,2,30\n"):
        path.write_text(text)
        assert read_ids(str(path)) == [1, 2, 30]


def test_npy_files_are_numpys(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    wanted = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_npy(str(tmp_path / "a.npy"), wanted.tobytes(), (3, 4))
    assert np.array_equal(np.load(tmp_path / "a.npy"), wanted)
