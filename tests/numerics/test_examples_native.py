"""The native examples, run as a reader runs them, and the model that one of them needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from tests.numerics.check_minilm import LIMITS, MODELS, cosine

from tilewright.serve.chat import ChatModel
from tilewright.webgpu.device import Device

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "web" / "public" / "models" / "tilewright-tiny.gguf"


def run_example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "py_core")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_native_streams_an_answer(device: Device) -> None:
    if not BUNDLED.is_file():
        pytest.skip("the bundled model is not in web/public/models: python3 build model export")
    done = run_example("native.py")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 20
    assert "tokens/s" in done.stderr
    again = run_example("native.py")
    assert again.stdout == done.stdout, "the same seed, another story"


def test_openai_client_is_answered_by_the_server(device: Device) -> None:
    if not BUNDLED.is_file():
        pytest.skip("the bundled model is not in web/public/models: python3 build model export")
    done = run_example("openai_server.py")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 20


async def test_minilm_tells_meanings_apart(device: Device) -> None:
    path = MODELS / "all-MiniLM-L6-v2-q8_0.gguf"
    if not path.is_file():
        pytest.skip("the embedding model is a download: python3 build models minilm")
    model = await ChatModel.load(path, device=device)
    texts = ["A cat sleeps.", "The kitten is napping.", "Interest is paid every quarter."]
    cat, kitten, money = (await model.embed(texts)).vectors
    alone = (await model.embed(texts[1:2])).vectors[0]
    await model.close()
    assert cosine(cat, kitten) > 0.5 > 0.2 > cosine(cat, money)
    assert cosine(kitten, alone) > LIMITS["q8_0"], "a text's vector depends on its neighbours"


def test_the_notebook_runs(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel of its own: the engine answers, the widget is a widget."""
    del device
    if not BUNDLED.is_file():
        pytest.skip("the bundled model is not in web/public/models")
    folder = ROOT / "examples" / "notebook"
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "py_core"))
    monkeypatch.setenv("TILEWRIGHT_RUNTIME_URL", "https://example.org/tilewright")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    nbclient.NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    printed, shown, messages = (notebook.cells[at]["outputs"] for at in (3, 5, 6))
    assert len("".join(piece["text"] for piece in printed).split()) >= 10
    assert "application/vnd.jupyter.widget-view+json" in shown[0]["data"]
    assert messages[0]["data"]["text/plain"] == "[]"
