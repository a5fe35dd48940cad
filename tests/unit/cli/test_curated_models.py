"""The list of models that the page and the command line offer."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tilewright.serve.cli import parser


def read(name: str) -> Any:
    return json.loads(resources.files("tilewright.serve").joinpath(name).read_text())


def test_the_list_follows_its_schema() -> None:
    jsonschema.validate(read("curated_models.json"), read("curated_models.schema.json"))


def test_models_are_named_once_and_sorted_by_size() -> None:
    models = read("curated_models.json")["models"]
    assert len({model["reference"] for model in models}) == len(models)
    sizes = [model["bytes"] for model in models if model["task"] != "embedding"]
    assert sizes == sorted(sizes)
    for model in models:
        # the quantization is the one in the file's name, at a plausible size
        assert model["quantization"].lower() in model["reference"].lower()
        assert 0.4 < model["bytes"] / model["parameters"] < 2.2


async def test_the_command_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = read("curated_models.json")["models"]
    plain = parser().parse_args(["models", "--folder", str(tmp_path)])
    await plain.run(plain)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * len(models)
    for number, model in enumerate(models):
        first, reference, good_at = lines[3 * number : 3 * number + 3]
        assert first.split(" MB  ") == [
            f"{model['bytes'] / 1e6:7.0f}",
            f"{model['name']} ({model['license']})",
        ]
        assert (reference.strip(), good_at.strip()) == (model["reference"], model["good_at"])
    as_json = parser().parse_args(["models", "--folder", str(tmp_path), "--json"])
    await as_json.run(as_json)
    assert json.loads(capsys.readouterr().out) == {"curated": models, "local": []}
    local = parser().parse_args(["models", "--folder", str(tmp_path), "--local"])
    await local.run(local)
    assert capsys.readouterr().out == ""
