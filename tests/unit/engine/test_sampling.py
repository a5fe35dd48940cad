"""Validation of sampling parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tilewright.engine.sampling import SamplingParams
from tilewright.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "1"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 1.01),
        ("top_p", -0.01),
        ("min_p", 2),
        ("repetition_penalty", 0.0),
        ("frequency_penalty", None),
        ("presence_penalty", 1e9),
        ("logit_bias", {1: "x"}),
        ("logit_bias", {"1": 2.0}),
        ("logit_bias", {-1: 2.0}),
        ("logit_bias", [1]),
        ("logit_bias", dict.fromkeys(range(5000), 1.0)),
        ("seed", 1.0),
        ("logprobs", 21),
        ("logprobs", -1),
        ("max_tokens", 0),
        ("stop_ids", frozenset({-3})),
        ("stop_ids", frozenset({"a"})),
        ("ignore_eos", 1),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=field) as caught:
        SamplingParams(**{field: value})
    assert caught.value.details["field"] == field


def test_extremes_are_accepted() -> None:
    SamplingParams(temperature=0, top_k=10**9, top_p=0, min_p=1, seed=-(2**70), logprobs=20)
    assert SamplingParams(temperature=0, top_k=5).filtered is False
    assert SamplingParams(top_k=5).filtered
    assert SamplingParams(presence_penalty=0.1).penalised
    assert not SamplingParams().penalised
