"""``tilewright serve``: what it says before there is a server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tilewright.serve.cli import main


@pytest.mark.parametrize("port", ["taken", "70000"])
def test_a_port_that_cannot_be_had_is_said_before_a_model_is_read(
    port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        wanted = str(other.getsockname()[1]) if port == "taken" else port
        status = main(["serve", str(tmp_path / "no.gguf"), "--port", wanted])
    said = capsys.readouterr()
    assert status != 0
    assert f"Port {wanted} of 127.0.0.1 cannot be used" in said.err + said.out
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (["{model}"], "cannot be opened"),
        (["--model", "{model}"], "cannot be opened"),
        (["--port", "0", "--model={model}"], "cannot be opened"),
        (["{model}", "--model", "{model}"], "not allowed with"),
        (["--port", "0"], "MODEL --model is required"),
    ],
)
def test_the_model_stands_alone_or_behind_its_option(
    form: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(model=tmp_path / "no.gguf") for word in form]
    try:
        status: object = main(["serve", *words])
    except SystemExit as stopped:  # argparse's own
        status = stopped.code
    assert status != 0
    assert said in capsys.readouterr().err
