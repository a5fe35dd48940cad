"""Every architecture, with unusual settings, against llama.cpp's logits and embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference import interpreter as reference
from tests.reference.golden_models import CONTEXT, FOLDER, NAMES, expected, load_model
from tests.reference.interpreter import Interpreter, Result
from tests.reference.make_models import MODELS

from tilewright.models import build_graph, known_architectures

exact_gelu = reference.ACTIVATIONS["gelu"]


def tabled_gelu(x: NDArray[Any]) -> NDArray[Any]:
    """GELU as llama.cpp's CPU path has it: argument and result in half precision."""
    rounded = x.astype(np.float32).astype(np.float16).astype(np.float32)
    table = exact_gelu(rounded).astype(np.float16)
    return np.where(x <= -10, 0.0, np.where(x >= 10, x, table))


def outputs(result: Result) -> dict[str, NDArray[Any]]:
    if result.logits is not None:
        return {"logits": result.logits}
    assert result.hidden is not None
    assert result.pooled is not None
    return {"tokens": result.hidden, "pooled": result.pooled[0]}


def test_every_architecture_has_a_model() -> None:
    assert set(NAMES) == set(MODELS)
    assert {spec.architecture for spec in MODELS.values()} == set(known_architectures())


@pytest.mark.parametrize("name", NAMES)
async def test_matches_llama_cpp(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reference.ACTIVATIONS, "gelu", tabled_gelu)
    model, answer = await load_model(FOLDER / f"{name}.gguf"), expected(name)
    result = Interpreter(model.graph, model.tensors).run(answer["ids"].tolist())
    for key, value in outputs(result).items():
        difference = np.abs(value - answer[f"llama_cpp_{key}"])
        # A table entry off by one, where the two round differently, shows as 1e-3 at one position.
        assert difference.max() < 1e-3, key
        assert difference.mean() < 1e-5, key


@pytest.mark.parametrize("name", NAMES)
async def test_exact_values_are_the_interpreters(name: str) -> None:
    model, answer = await load_model(FOLDER / f"{name}.gguf"), expected(name)
    result = Interpreter(model.graph, model.tensors).run(answer["ids"].tolist())
    for key, value in outputs(result).items():
        np.testing.assert_allclose(value, answer[key], atol=1e-6)


SETTINGS = [
    (name, key)
    for name, spec in MODELS.items()
    for key in spec.keys
    if key.rpartition(".")[2]
    in {
        "attn_factor",
        "attn_logit_softcapping",
        "dimension_count",
        "embedding_scale",
        "factor",
        "final_logit_softcapping",
        "finetuned",
        "freq_base",
        "freq_base_swa",
        "residual_scale",
        "scale",
        "sliding_window",
        "sliding_window_pattern",
        "type",
    }
    and (name, key) != ("mistral", "attention.sliding_window")
    and not (name == "phi3-partial" and key == "rope.dimension_count")
]


@pytest.mark.parametrize(("name", "key"), SETTINGS)
async def test_every_setting_counts(name: str, key: str) -> None:
    """Without the setting the outputs are off by far more than the tolerance."""
    model, answer = await load_model(FOLDER / f"{name}.gguf"), expected(name)
    metadata = dict(model.model_file.metadata)
    del metadata[f"{MODELS[name].architecture}.{key}"]
    changed = replace(model.model_file, metadata=metadata)
    graph = build_graph(changed, context_length=CONTEXT, constants=model.constants)
    found = outputs(Interpreter(graph, model.tensors).run(answer["ids"].tolist()))
    assert max(np.abs(value - answer[key]).max() for key, value in found.items()) > 1e-2


@pytest.mark.parametrize("name", ["gemma2", "olmo2", "qwen2moe", "smollm3", "stablelm"])
async def test_steps_equal_the_whole(name: str) -> None:
    """A prompt in chunks, then tokens one by one, two sequences interleaved."""
    model, answer = await load_model(FOLDER / f"{name}.gguf"), expected(name)
    ids = answer["ids"].tolist()
    interpreter = Interpreter(model.graph, model.tensors)
    found = []
    for first, last in [(0, 7), (7, 20), *((at, at + 1) for at in range(20, len(ids)))]:
        count = last - first
        result = interpreter.run(
            ids[first:last] + ids[:count][::-1],
            positions=[*range(first, last)] * 2,
            slots=[0] * count + [5] * count,
            outputs=list(range(count)),
        )
        assert result.logits is not None
        found.append(result.logits)
    np.testing.assert_allclose(np.concatenate(found), answer["logits"], atol=1e-6)


async def test_pooling_keeps_sequences_apart() -> None:
    model, answer = await load_model(FOLDER / "bert-cls.gguf"), expected("bert-cls")
    ids = answer["ids"].tolist()
    interpreter = Interpreter(model.graph, model.tensors)
    result = interpreter.run(
        ids[:9] + ids, positions=[*range(9), *range(40)], slots=[0] * 9 + [1] * 40
    )
    assert result.pooled is not None
    assert result.pooled.shape == (2, 32)
    np.testing.assert_allclose(result.pooled[1], answer["pooled"], atol=1e-6)
    alone = Interpreter(model.graph, model.tensors).run(ids[:9]).pooled
    assert alone is not None
    np.testing.assert_allclose(result.pooled[0], alone[0], atol=1e-6)


async def test_a_decoder_that_pools_gives_embeddings_and_logits() -> None:
    model, answer = await load_model(FOLDER / "qwen3.gguf"), expected("qwen3")
    metadata = {**model.model_file.metadata, "qwen3.pooling_type": 3}
    graph = build_graph(replace(model.model_file, metadata=metadata), context_length=CONTEXT)
    result = Interpreter(graph, model.tensors).run(answer["ids"].tolist())
    assert result.hidden is not None
    assert result.pooled is not None
    np.testing.assert_array_equal(result.pooled[0], result.hidden[-1])
    np.testing.assert_allclose(result.logits, answer["logits"], atol=1e-6)
    output = model.tensors["output.weight"].astype(np.float64)
    np.testing.assert_allclose(result.hidden @ output.T, answer["logits"], atol=1e-6)


async def test_the_context_length_chooses_rope_factors() -> None:
    short = await load_model(FOLDER / "phi3-partial.gguf", context_length=100)
    long = await load_model(FOLDER / "phi3-partial.gguf", context_length=101)
    answer = expected("phi3-partial")
    found = [
        Interpreter(model.graph, model.tensors).run(answer["ids"].tolist()).logits
        for model in (short, long)
    ]
    assert found[0] is not None
    assert found[1] is not None
    np.testing.assert_allclose(found[1], answer["logits"], atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-2
