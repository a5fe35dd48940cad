"""Answers: whole and streamed, reasoning, tools in three dialects, constraints, logprobs."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.unit.openai.scripted import TEMPLATE, ScriptedModel, chat, service

from tilewright.serve.openai.answer import Answer
from tilewright.serve.openai.tools import Hermes, Llama, Mistral, MistralNamed, dialect_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"enum": [1, 2, 3]}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'


def joined(events: list[Any], key: str, number: int = 0) -> str:
    return "".join(
        choice["delta"].get(key) or ""
        for event in events
        for choice in event["choices"]
        if choice["index"] == number
    )


async def test_whole_and_streamed_answers_agree() -> None:
    model = ScriptedModel("Grüße 😀!")
    whole = await chat(model)
    choice = whole["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Grüße 😀!", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == len("Grüße 😀!".encode()) + 1
    assert whole["usage"]["x_tilewright"]["time_to_first_token_s"] == 0.5
    assert whole["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    events = await chat(model, stream=True, stream_options={"include_usage": True})
    assert joined(events, "content") == "Grüße 😀!"
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]][-1] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert all(event["usage"] is None for event in events[:-1])
    assert model.prompts[0] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


async def test_several_choices_have_their_own_seeds() -> None:
    model = ScriptedModel()
    body = await chat(model, n=3, seed=5)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [sampling.seed for sampling in model.samplings] == [5, 6, 7]
    assert body["usage"]["completion_tokens"] == 3 * 7
    assert body["usage"]["prompt_tokens"] == len(
        model.tokenizer.encode(model.prompts[0], parse_special=True)
    )
    events = await chat(model, n=2, stream=True)
    assert joined(events, "content", 1) == "Hello."


async def test_stop_strings_and_length() -> None:
    body = await chat(ScriptedModel("one two three"), stop=[" th", "xyz"])
    assert body["choices"][0]["message"]["content"] == "one two"
    body = await chat(ScriptedModel("one two three"), max_tokens=3)
    assert body["choices"][0]["finish_reason"] == "length"


async def test_logprobs() -> None:
    body = await chat(ScriptedModel("ab"), logprobs=True, top_logprobs=2)
    content = body["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["a", "b"]
    assert content[0]["bytes"] == [97]
    assert [top["token"] for top in content[0]["top_logprobs"]] == ["a", "b"]
    assert content[0]["top_logprobs"][1]["logprob"] == -1.25


async def test_control_tokens_in_messages_stay_text() -> None:
    model = ScriptedModel()
    await chat(
        model, messages=[{"role": "user", "content": [{"type": "text", "text": "<|im_end|>"}]}]
    )
    assert len(model.prompts[0]) == len(
        "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )


async def test_reasoning_is_separated() -> None:
    template = TEMPLATE + "{# <think> </think> #}"
    body = await chat(ScriptedModel("<think>\nHm.</think>\n\nYes.", template))
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == "\nHm."
    assert message["content"] == "Yes."
    opened = TEMPLATE + "{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}"
    events = await chat(ScriptedModel("Hm.</think>Yes.", opened), stream=True)
    assert joined(events, "reasoning_content") == "Hm."
    assert joined(events, "content") == "Yes."
    body = await chat(ScriptedModel("No <think> here.", template))
    assert body["choices"][0]["message"]["content"] == "No <think> here."


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_are_parsed(stream: bool) -> None:
    model = ScriptedModel(f"Let me see.\n{CALL}\n{CALL}")
    body = await chat(model, tools=[WEATHER, CLOCK], stream=stream)
    assert '"get_weather"' in model.prompts[0]
    if stream:
        calls = [c for e in body for c in e["choices"][0]["delta"].get("tool_calls", [])]
        assert [call["index"] for call in calls] == [0, 1]
        assert joined(body, "content") == "Let me see.\n"
        reason = body[-1]["choices"][0]["finish_reason"]
    else:
        message = body["choices"][0]["message"]
        calls, reason = message["tool_calls"], body["choices"][0]["finish_reason"]
        assert message["content"] == "Let me see.\n"
    assert reason == "tool_calls"
    assert len({call["id"] for call in calls}) == 2
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Köln"}
    one = await chat(model, tools=[WEATHER], parallel_tool_calls=False)
    assert len(one["choices"][0]["message"]["tool_calls"]) == 1
    none = await chat(model, tools=[WEATHER], tool_choice="none")
    assert "tool_calls" not in none["choices"][0]["message"]
    assert "get_weather" not in model.prompts[-1]


async def test_past_calls_reach_the_template() -> None:
    model = ScriptedModel()
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": '{"a": 1}'}}
    await chat(model, tools=[CLOCK], messages=[
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "12"},
    ])  # fmt: skip
    assert '<tool_call>{"name": "clock", "arguments": {"a": 1}}</tool_call>' in model.prompts[0]


HERMES, REASONING = TEMPLATE, TEMPLATE + "{# <think></think> #}"
MISTRAL = TEMPLATE.replace("<tool_call>", "[TOOL_CALLS]").replace("</tool_call>", "")
MISTRAL_NAMED = TEMPLATE.replace("<tool_call>", "[TOOL_CALLS]").replace("</tool_call>", "[ARGS]")
LLAMA = TEMPLATE.replace("<tool_call>", "ipython").replace("</tool_call>", "")


@pytest.mark.parametrize(
    "template",
    [HERMES, MISTRAL, MISTRAL_NAMED, LLAMA, REASONING],
    ids=["hermes", "mistral", "mistral with names", "llama", "hermes, reasoning"],
)
async def test_required_calls_always_validate(template: str) -> None:
    schema = WEATHER["function"]["parameters"]  # type: ignore[index]
    for seed in range(6):
        model = ScriptedModel(template=template)
        body = await chat(model, tools=[WEATHER, CLOCK], tool_choice="required", seed=seed,
                          max_tokens=400)  # fmt: skip
        calls = body["choices"][0]["message"]["tool_calls"]
        assert body["choices"][0]["finish_reason"] == "tool_calls"
        for call in calls:
            arguments = json.loads(call["function"]["arguments"])
            if call["function"]["name"] == "get_weather":
                jsonschema.validate(arguments, schema)
            else:
                assert arguments == {}
    named = {"type": "function", "function": {"name": "clock"}}
    body = await chat(ScriptedModel(template=template), tools=[WEATHER, CLOCK], tool_choice=named,
                      parallel_tool_calls=False, max_tokens=400)  # fmt: skip
    calls = body["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["clock"]


TOWN = '{"name": "get_weather", "arguments": {"town": "Köln", "days": 7}}'


@pytest.mark.parametrize(
    ("template", "before", "call"),
    [
        (HERMES, "So < be it.\n", f"<tool_call>\n{TOWN}\n</tool_call>"),
        (REASONING, "<think>It</think>\n", f"<tool_call>\n{TOWN}\n</tool_call>"),
        (MISTRAL, "Well. ", f"[TOOL_CALLS][{TOWN}]"),
        (MISTRAL_NAMED, "", '[TOOL_CALLS]get_weather[ARGS]{"town": "Köln"}'),
        (LLAMA, "", TOWN.replace("arguments", "parameters")),
    ],
    ids=["hermes", "hermes, reasoning", "mistral", "mistral with names", "llama"],
)
async def test_calls_of_strict_tools_validate_and_text_stays_free(
    template: str, before: str, call: str
) -> None:
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    schema = WEATHER["function"]["parameters"]  # type: ignore[index]
    for seed in range(4):
        asked = {"seed": seed, "max_tokens": 400}
        model = ScriptedModel(before + call, template, willing=True)
        body = await chat(model, tools=[strict, CLOCK], **asked)
        message = body["choices"][0]["message"]
        assert message["tool_calls"][0]["function"]["name"] == "get_weather"
        for made in message["tool_calls"]:
            if made["function"]["name"] == "get_weather":
                jsonschema.validate(json.loads(made["function"]["arguments"]), schema)
        if "think" not in before:
            assert (message["content"] or "") == before
        model = ScriptedModel(before + call, template, willing=True)
        body = await chat(model, tools=[WEATHER, CLOCK], **asked)
        arguments = body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(arguments)["town"] == "Köln"
        text = "\n 7 < 8, [TOOL] and <tool_ are text; {} too."
        body = await chat(ScriptedModel(text, template, willing=True), tools=[strict], **asked)
        assert body["choices"][0]["message"]["content"] == text
        assert body["choices"][0]["finish_reason"] == "stop"


async def test_a_tool_that_is_not_strict_stays_free_beside_one_that_is() -> None:
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    call = '<tool_call>\n{"name": "clock", "arguments": {"zone": [1, null]}}\n</tool_call>'
    body = await chat(ScriptedModel(call, willing=True), tools=[strict, CLOCK], max_tokens=400)
    made = body["choices"][0]["message"]["tool_calls"][0]["function"]
    assert made == {"name": "clock", "arguments": '{"zone": [1, null]}'}
    wrong = {**CLOCK, "function": {"name": "clock", "strict": "yes"}}
    body = await chat(ScriptedModel(), tools=[wrong])
    assert body["error"]["param"] == "tools[0].function.strict"


async def test_a_strict_call_may_take_the_tokens_that_it_was_given() -> None:
    """Free text costs nothing to complete, a call much: that must not close calls early."""
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    model = ScriptedModel(CALL, willing=True)
    room = len(model.tokenizer.encode(CALL, parse_special=True)) + 8
    body = await chat(model, tools=[strict], max_tokens=2 * room)
    made = body["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in made] == [{"city": "Köln"}]


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (None, {}),
        ({"type": "object", "properties": {}}, {}),
        ({"properties": {}, "required": [], "title": "Nothing"}, {}),
        ({"type": "object"}, {"a": 1}),
        ({"type": "object", "properties": {}, "additionalProperties": True}, {"a": 1}),
    ],
)
async def test_a_strict_tool_that_declares_no_parameters_gets_none(
    parameters: dict[str, Any] | None, arguments: dict[str, Any]
) -> None:
    function = {"name": "ping", "strict": True, "parameters": parameters}
    if parameters is None:
        del function["parameters"]
    call = '<tool_call>\n{"name": "ping", "arguments": {"a": 1}}\n</tool_call>'
    tools = [{"type": "function", "function": function}]
    body = await chat(ScriptedModel(call, willing=True), tools=tools, max_tokens=400)
    made = body["choices"][0]["message"]["tool_calls"][0]["function"]
    assert made["name"] == "ping"
    assert json.loads(made["arguments"]) == arguments


async def test_response_formats_constrain() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for seed in range(4):
        body = await chat(ScriptedModel(), response_format=named, seed=seed, max_tokens=100)
        jsonschema.validate(json.loads(body["choices"][0]["message"]["content"]), schema)
        body = await chat(ScriptedModel(), response_format={"type": "json_object"}, seed=seed,
                          max_tokens=100)  # fmt: skip
        assert isinstance(json.loads(body["choices"][0]["message"]["content"]), dict)
        body = await chat(ScriptedModel(), grammar='root ::= "yes" | "no"', seed=seed)
        assert body["choices"][0]["message"]["content"] in ("yes", "no")
    body = await chat(ScriptedModel(), response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}})  # fmt: skip
    assert body["error"]["param"] == "schema"


def test_dialects_read_what_models_write() -> None:
    assert Hermes().parse(CALL.removesuffix("</tool_call>")) is not None
    assert Hermes().parse("<tool_call>nonsense</tool_call>") is None
    two = '{"name": "a", "parameters": {"x": 1}}; {"name": "b", "parameters": {}}'
    assert [call.name for call in Llama().parse(two) or []] == ["a", "b"]
    assert Llama().parse('{"answer": 42}') is None
    mistral = '[TOOL_CALLS][{"name": "a", "arguments": {"x": 1}}]'
    assert [call.arguments for call in Mistral().parse(mistral) or []] == ['{"x": 1}']
    named = '[TOOL_CALLS]a[ARGS]{"x": 1}[TOOL_CALLS]b[CALL_ID]1[ARGS]{}'
    assert [call.name for call in MistralNamed().parse(named) or []] == ["a", "b"]


def test_text_that_only_looks_like_a_call_is_text() -> None:
    answer = Answer(Llama())
    pieces = [answer.push('{"a": '), answer.push("1}"), answer.finish()]
    assert "".join(piece.get("content") or "" for piece in pieces) == '{"a": 1}'
    assert not answer.called
    answer = Answer(Hermes())
    pieces = [answer.push("a <tool"), answer.push("_box>"), answer.finish()]
    assert "".join(piece.get("content") or "" for piece in pieces) == "a <tool_box>"


def test_dialects_of_real_templates(oracle: Path) -> None:
    wanted = {
        "Qwen-Qwen2.5-7B-Instruct": Hermes,
        "Qwen-Qwen3-0.6B": Hermes,
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": Hermes,
        "meta-llama-Llama-3.1-8B-Instruct": Llama,
        "mistralai-Mistral-Nemo-Instruct-2407": Mistral,
        "Mistral-Small-3.2-24B-Instruct-2506": MistralNamed,
        "google-gemma-2-2b-it": type(None),
        "Cohere2MoE": type(None),
    }
    for name, dialect in wanted.items():
        template = (oracle / "templates" / f"{name}.jinja").read_text()
        assert type(dialect_of(template)) is dialect, name


async def test_completions() -> None:
    model = ScriptedModel("bc")
    api = service(model)
    body = {"prompt": ["a", "x"], "n": 2, "echo": True, "max_tokens": 5}
    reply = await api.handle("POST", "/v1/completions", json.dumps(body))
    assert [choice["text"] for choice in reply.body["choices"]] == ["abc", "abc", "xbc", "xbc"]
    reply = await api.handle("POST", "/v1/completions", {"prompt": [70, 71], "logprobs": 1})
    found = reply.body["choices"][0]["logprobs"]
    assert found["tokens"] == ["b", "c"]
    assert found["text_offset"] == [0, 1]
    assert found["top_logprobs"][0] == {"b": -0.25}
    reply = await api.handle("POST", "/v1/completions", {"prompt": "a", "stream": True})
    assert reply.events is not None
    events = [event async for event in reply.events]
    assert "".join(event["choices"][0]["text"] for event in events) == "bc"


async def test_embeddings() -> None:
    api = service(ScriptedModel())
    reply = await api.handle("POST", "/v1/embeddings", {"input": ["a", "bb"], "dimensions": 2})
    assert reply.body["data"][1]["embedding"] == [0.6, 0.8]
    reply = await api.handle(
        "POST", "/v1/embeddings", {"input": [70], "encoding_format": "base64", "dimensions": 2}
    )
    packed = base64.b64decode(reply.body["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == pytest.approx((0.6, 0.8))
    reply = await api.handle("POST", "/v1/embeddings", {"input": "a", "dimensions": 9})
    assert reply.body["error"]["param"] == "dimensions"


async def test_closing_a_stream_stops_all_its_answers() -> None:
    model = ScriptedModel("a long answer")
    reply = await service(model).handle(
        "POST", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "x"}], "stream": True, "n": 3},
    )  # fmt: skip
    assert reply.events is not None
    await anext(reply.events)
    assert model.running > 0
    await reply.events.aclose()  # type: ignore[attr-defined]
    assert model.running == 0
