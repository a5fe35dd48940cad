"""Models that are not known, or whose metadata and tensors make no sense: a typed error each."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.make_models import CONTEXT, MODELS, draw, metadata, tensors

from tilewright.errors import (
    ContextLengthError,
    FormatError,
    InvalidRequestError,
    TilewrightError,
    UnsupportedModelError,
)
from tilewright.formats.model_file import ModelFile, TensorInfo
from tilewright.formats.quant import BY_NAME
from tilewright.graph.ops import Attention
from tilewright.models import (
    build_graph,
    known_architectures,
    original_context,
    required_constants,
    trained_context,
)

FILES: dict[str, ModelFile] = {}


def model_file(name: str) -> ModelFile:
    """The header of a golden model, without the weights."""
    if name not in FILES:
        spec = MODELS[name]
        infos = {
            key: TensorInfo(key, shape, quant, 0, 0, 0)
            for key, (_, shape, quant) in tensors(draw(spec, 0), "F16").items()
        }
        FILES[name] = ModelFile(metadata(spec), infos)
    return FILES[name]


def constants(name: str) -> dict[str, tuple[float, ...]]:
    return dict(MODELS[name].constants)


def changed(name: str, values: Mapping[str, Any]) -> ModelFile:
    """The model with metadata replaced (None: removed); keys lack the architecture."""
    found = model_file(name)
    entries = dict(found.metadata)
    for key, value in values.items():
        entries[f"{MODELS[name].architecture}.{key}"] = value
        if value is None:
            del entries[f"{MODELS[name].architecture}.{key}"]
    return replace(found, metadata=entries)


def test_an_unknown_architecture_is_named_with_the_known_ones() -> None:
    found = model_file("qwen3")
    entries = {**found.metadata, "general.architecture": "mamba7"}
    with pytest.raises(UnsupportedModelError) as error:
        build_graph(replace(found, metadata=entries), context_length=8)
    assert "mamba7" in error.value.message
    assert all(name in error.value.message for name in known_architectures())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("qwen3", {"block_count": 0}),
        ("qwen3", {"block_count": 10**9}),
        ("qwen3", {"block_count": 3}),
        ("qwen3", {"embedding_length": None}),
        ("qwen3", {"embedding_length": -32}),
        ("qwen3", {"embedding_length": True}),
        ("qwen3", {"embedding_length": "32"}),
        ("qwen3", {"attention.head_count": 0}),
        ("qwen3", {"attention.head_count": 3}),
        ("qwen3", {"attention.head_count": [4]}),
        ("qwen3", {"attention.head_count": [4, 0]}),
        ("qwen3", {"attention.head_count_kv": 3}),
        ("qwen3", {"attention.key_length": 15, "rope.dimension_count": 15}),
        ("qwen3", {"attention.key_length": 2**31}),
        ("qwen3", {"attention.layer_norm_rms_epsilon": math.nan}),
        ("qwen3", {"attention.layer_norm_rms_epsilon": -1.0}),
        ("qwen3", {"attention.layer_norm_rms_epsilon": None}),
        ("qwen3", {"attention.causal": 1}),
        ("qwen3", {"rope.freq_base": 0.0}),
        ("qwen3", {"rope.freq_base": math.inf}),
        ("qwen3", {"rope.dimension_count": 18}),
        ("qwen3", {"rope.scaling.type": "magic"}),
        ("qwen3", {"rope.scaling.factor": 1e-30}),
        ("qwen3", {"rope.scaling.factor": -2.0}),
        ("qwen3", {"context_length": None}),
        ("llama-biases", {"attention.head_count": 5}),
        ("qwen3moe", {"expert_count": 0}),
        ("qwen3moe", {"expert_used_count": 6}),
        ("qwen3moe", {"expert_used_count": 0}),
        ("qwen3moe", {"expert_count": 2**31 - 1}),
        ("gemma3-linear", {"attention.sliding_window_pattern": [True]}),
        ("gemma3-linear", {"attention.sliding_window": -1}),
        ("granitemoe", {"logit_scale": 0.0}),
        ("granitemoe", {"logit_scale": None}),
        ("bert-cls", {"feed_forward_length": -1}),
    ],
)
def test_absurd_metadata(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        build_graph(changed(name, values), context_length=8, constants=constants(name))


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_needed_in_its_shape(name: str) -> None:
    found = model_file(name)
    build_graph(found, context_length=8, constants=constants(name))
    for key, info in found.tensors.items():
        if key in MODELS[name].constants:
            continue
        wrong = replace(info, shape=(*info.shape[:-1], info.shape[-1] + 1))
        with pytest.raises(FormatError):
            build_graph(
                replace(found, tensors={**found.tensors, key: wrong}),
                context_length=8,
                constants=constants(name),
            )


def test_quantized_norms_are_refused() -> None:
    found = model_file("qwen3")
    info = replace(found.tensors["output_norm.weight"], quant=BY_NAME["Q8_0"])
    with pytest.raises(FormatError, match="Q8_0"):
        build_graph(replace(found, tensors={**found.tensors, info.name: info}), context_length=8)


def test_constants_must_be_given_and_sound() -> None:
    found = model_file("llama-llama3")
    assert required_constants(found) == ["rope_freqs.weight"]
    with pytest.raises(InvalidRequestError):
        build_graph(found, context_length=8)
    for values in ([1.0], [1.0, 2.0, math.nan, 4.0], [0.0, 1.0, 1.0, 1.0]):
        with pytest.raises(FormatError):
            build_graph(found, context_length=8, constants={"rope_freqs.weight": values})


def test_huge_constants_are_not_read() -> None:
    found = model_file("llama-llama3")
    huge = replace(found.tensors["rope_freqs.weight"], shape=(2**40,))
    with pytest.raises(FormatError, match="too large"):
        required_constants(replace(found, tensors={**found.tensors, huge.name: huge}))


def test_learned_positions_end() -> None:
    assert trained_context(model_file("gpt2")) == CONTEXT
    with pytest.raises(ContextLengthError):
        build_graph(model_file("gpt2"), context_length=CONTEXT + 1)
    with pytest.raises(InvalidRequestError):
        build_graph(model_file("qwen3"), context_length=0)


def test_contexts_that_keep_the_short_factors() -> None:
    assert original_context(model_file("phi3-partial")) == 100
    assert original_context(model_file("qwen3")) == CONTEXT


@pytest.mark.parametrize(
    ("pattern", "windows"),
    [(None, (12, 0)), (0, (12, 12)), (1, (0, 0)), ([False, True], (0, 12)), (3, (12, 12))],
)
def test_window_patterns(pattern: Any, windows: tuple[int, ...]) -> None:
    file = model_file("gemma2")
    if pattern is not None:
        file = changed("gemma2", {"attention.sliding_window_pattern": pattern})
    ops = build_graph(file, context_length=8).ops
    assert tuple(op.window for op in ops if isinstance(op, Attention)) == windows


def test_a_rerankers_head_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="reranker"):
        build_graph(changed("bert-cls", {"pooling_type": 4}), context_length=8)


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**64),
    st.integers(0, 70),
    st.floats(),
    st.booleans(),
    st.text(max_size=4),
    st.lists(st.integers(-1, 9), max_size=5),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_metadata_never_escapes_as_another_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MODELS)))
    found = model_file(name)
    entries = dict(found.metadata)
    for key in data.draw(st.lists(st.sampled_from(sorted(entries)), min_size=1, max_size=3)):
        entries[key] = data.draw(VALUES)
    for key in ("attention.scale", "rope.scaling.type", "attention.sliding_window_pattern"):
        if data.draw(st.integers(0, 9)) == 0:
            entries[f"{MODELS[name].architecture}.{key}"] = data.draw(VALUES)
    with contextlib.suppress(TilewrightError):
        build_graph(replace(found, metadata=entries), context_length=8, constants=constants(name))
