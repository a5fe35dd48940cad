"""The list of models that the page and the command line offer."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema


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
