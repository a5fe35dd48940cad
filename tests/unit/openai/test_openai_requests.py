"""Fields of requests: the table, and every refusal names its field."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.openai.scripted import ScriptedModel, chat, service

from tilewright.serve.openai import fields

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": float("nan")}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"functions": []}, "functions"),
        ({"audio": {}}, "audio"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "", "mood": 1}]}, "messages[0].mood"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
        ),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"usage": 1}}, "stream_options.usage"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
        ),
        ({"grammar": "root ::= ", "response_format": {"type": "json_object"}}, "grammar"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs"),
        ({"model": "other"}, "model"),
        ({"adapter": 3}, "adapter"),
    ],
)
async def test_refusals_name_the_field(given: dict[str, Any], field: str) -> None:
    model = ScriptedModel()
    body = await chat(model, **given)
    error = body["error"]
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"
    assert error["code"] in ("invalid_request", "model_not_found")
    assert not model.prompts


async def test_null_is_the_same_as_left_out() -> None:
    body = await chat(
        ScriptedModel(), **{f.name: None for f in fields.CHAT if f.name != "messages"}
    )
    assert body["choices"][0]["message"]["content"] == "Hello."


async def test_paths_and_bodies() -> None:
    api = service(ScriptedModel())
    assert (await api.handle("GET", "/v1/models")).body["data"][0]["id"] == "scripted"
    assert (await api.handle("GET", "/v1/models/scripted")).status == 200
    assert (await api.handle("GET", "/v1/models/x")).status == 404
    assert (await api.handle("GET", "/v1/none")).body["error"]["code"] == "not_found"
    assert (await api.handle("POST", "/v1/completions", b"{")).status == 400
    assert (await api.handle("POST", "/v1/completions", b"[" * 100_000)).status == 400
    assert (await api.handle("POST", "/v1/completions", b"[]")).status == 400


async def test_sampling_reaches_the_engine() -> None:
    model = ScriptedModel()
    await chat(model, temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, repetition_penalty=1.1,
               frequency_penalty=0.2, presence_penalty=0.3, logit_bias={"7": -3}, seed=11,
               max_completion_tokens=9, adapter="mine")  # fmt: skip
    used = model.samplings[0]
    assert (used.temperature, used.top_p, used.top_k, used.min_p) == (0.5, 0.9, 5, 0.1)
    assert (used.repetition_penalty, used.frequency_penalty) == (1.1, 0.2)
    assert (used.presence_penalty, dict(used.logit_bias)) == (0.3, {7: -3})
    assert (used.seed, used.max_tokens, used.adapter) == (11, 9, "mine")


def test_the_table_documents_every_field() -> None:
    text = fields.markdown()
    for table in fields.ENDPOINTS.values():
        names = [field.name for field in table]
        assert len(set(names)) == len(names)
        for field in table:
            assert f"| `{field.name}` | {field.type.name} | {field.status} |" in text
            assert field.status != "refused" or field.note
