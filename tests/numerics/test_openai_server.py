"""The official ``openai`` client against the server with tiny random models: a scripted tour."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest
import pytest_asyncio
import uvicorn
from tests.browser.npm_bundle import bundled
from tests.reference.chat_model import TEMPLATE

from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.serve.openai.app import create_openai_app
from tilewright.text.chat_template import ChatTemplate
from tilewright.webgpu.device import Device

HI: list[Any] = [{"role": "user", "content": "Hi"}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
TOUR = Path(__file__).resolve().parents[1] / "browser" / "openai_tour.mjs"
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


@asynccontextmanager
async def serving(model: ChatModel, **options: Any) -> AsyncIterator[str]:
    app = create_openai_app(model, **options)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    )
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(device: Device, oracle: Path) -> AsyncIterator[ChatModel]:
    loaded = await ChatModel.load(
        str(oracle / "models_and_logits" / "models" / "qwen3.F16.gguf"),
        options=LoadOptions(context_length=512, max_sequences=4),
        device=device,
    )
    loaded.template = ChatTemplate(TEMPLATE)
    yield loaded
    await loaded.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(model: ChatModel) -> AsyncIterator[str]:
    async with serving(model, name="tiny", api_key="key", cors="https://example.org") as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(server: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="key", max_retries=0) as made:
        yield made


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [item.id async for item in client.models.list()] == ["tiny"]
    assert (await client.models.retrieve("tiny")).owned_by == "tilewright"


async def test_chat_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": HI, "max_tokens": 12, "seed": 7,
                             "temperature": 0.8, "top_p": 0.95, "frequency_penalty": 0.1,
                             "extra_body": {"top_k": 40, "min_p": 0.01}}  # fmt: skip
    whole = await client.chat.completions.create(**asked)
    again = await client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert text == again.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.model_extra
    assert whole.usage.model_extra["x_tilewright"]["tokens_per_second"] > 0
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


async def test_choices_logprobs_bias_and_stop(client: openai.AsyncOpenAI) -> None:
    made = await client.chat.completions.create(
        model="tiny", messages=HI, n=3, max_tokens=6, logprobs=True, top_logprobs=4, seed=1
    )
    assert len({choice.message.content for choice in made.choices}) > 1
    for choice in made.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content
        for token in choice.logprobs.content:
            assert token.logprob <= 0
            values = [top.logprob for top in token.top_logprobs]
            assert values == sorted(values, reverse=True)
            assert sum(map(math.exp, values)) <= 1.001
            assert len(values) == 4
    biased = await client.chat.completions.create(
        model="tiny", messages=HI, max_tokens=4, logit_bias={"50": 100}, temperature=0
    )
    assert biased.choices[0].message.content == "SSSS"
    stopped = await client.chat.completions.create(
        model="tiny", messages=HI, max_tokens=4, logit_bias={"50": 100}, temperature=0, stop="SS"
    )
    assert stopped.choices[0].message.content == ""
    assert stopped.choices[0].finish_reason == "stop"


async def test_structured_answers_validate(client: openai.AsyncOpenAI) -> None:
    named: Any = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}

    async def one(seed: int) -> None:
        made = await client.chat.completions.create(
            model="tiny", messages=HI, response_format=named, seed=seed, max_tokens=120
        )
        assert made.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(made.choices[0].message.content or ""), PERSON)

    await asyncio.gather(*[one(seed) for seed in range(4)])
    made = await client.chat.completions.create(
        model="tiny", messages=HI, response_format={"type": "json_object"}, max_tokens=60
    )
    assert isinstance(json.loads(made.choices[0].message.content or ""), dict)
    made = await client.chat.completions.create(
        model="tiny", messages=HI, extra_body={"grammar": 'root ::= [a-c]{4} "!"'}, logprobs=True
    )
    text = made.choices[0].message.content or ""
    assert len(text) == 5
    assert set(text) <= set("abc!")


async def test_tools(client: openai.AsyncOpenAI) -> None:
    made = await client.chat.completions.create(
        model="tiny", messages=HI, tools=[WEATHER], tool_choice="required", max_tokens=100
    )
    calls: Any = made.choices[0].message.tool_calls
    assert made.choices[0].finish_reason == "tool_calls"
    assert json.loads(calls[0].function.arguments)["city"] in ("Rome", "Oslo")
    stream = await client.chat.completions.create(
        model="tiny", messages=HI, tools=[WEATHER], stream=True, max_tokens=100,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
    )  # fmt: skip
    found = [c async for chunk in stream for c in chunk.choices[0].delta.tool_calls or []]
    assert [call.function.name for call in found if call.function] == ["weather"]


async def test_completions(client: openai.AsyncOpenAI) -> None:
    made = await client.completions.create(
        model="tiny", prompt=["Once", "Twice"], max_tokens=5, logprobs=2, temperature=0
    )
    assert len(made.choices) == 2
    assert made.choices[0].logprobs is not None
    assert len(made.choices[0].logprobs.token_logprobs or []) == 5
    stream = await client.completions.create(
        model="tiny", prompt="Once", max_tokens=5, temperature=0, stream=True
    )
    text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text == made.choices[0].text


async def test_errors_have_openai_classes(client: openai.AsyncOpenAI, server: str) -> None:
    with pytest.raises(openai.NotFoundError, match="not loaded"):
        await client.chat.completions.create(model="gpt-5", messages=HI)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="tiny", messages=HI, extra_body={"temprature": 1}
        )
    assert caught.value.param == "temprature"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="tiny", prompt="x" * 3000, stream=True)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="no pooled"):
        await client.embeddings.create(model="tiny", input="x")
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="no", max_retries=0) as other:
        with pytest.raises(openai.AuthenticationError):
            await other.models.list()


async def test_the_official_npm_client_passes_the_same_tour_as_in_the_page(
    server: str, tmp_path: Path
) -> None:
    script = tmp_path / "tour.mjs"
    script.write_text(
        bundled(TOUR, "openai", "node")
        + f"\nconst told = await tour({{ baseURL: {server + '/v1'!r}, model: 'tiny' }});"
        + "\nconsole.log(JSON.stringify(told));\n"
    )
    node = await asyncio.create_subprocess_exec("node", str(script), stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(node.communicate(), 120)
    told = json.loads(output)
    assert told["failed"] == []
    assert len(told["passed"]) == 10


async def test_a_client_that_goes_away_stops_the_answer(
    client: openai.AsyncOpenAI, model: ChatModel, server: str
) -> None:
    before = model.engine.stats().generated_tokens
    stream = await client.chat.completions.create(
        model="tiny", messages=HI, stream=True, max_tokens=400, extra_body={"ignore_eos": True}
    )
    async for _chunk in stream:
        break
    await stream.close()
    headers = {"Authorization": "Bearer key"}
    body = {"messages": HI, "max_tokens": 400, "ignore_eos": True}
    async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=0.2)) as impatient:
        with pytest.raises(httpx.ReadTimeout):
            await impatient.post(f"{server}/v1/chat/completions", json=body, headers=headers)
    for _ in range(200):
        if model.engine.stats().running == 0:
            break
        await asyncio.sleep(0.02)
    assert model.engine.stats().running == 0
    assert model.engine.stats().generated_tokens - before < 800


async def test_health_metrics_and_cors(server: str) -> None:
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{server}/health")).json()["status"] == "ok"
        assert "tilewright_generated_tokens " in (await http.get(f"{server}/metrics")).text
        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        reply = await http.options(f"{server}/v1/models", headers=asked)
        assert reply.headers["access-control-allow-origin"] == "https://example.org"


async def test_embeddings(device: Device, oracle: Path) -> None:
    path = oracle / "models_and_logits" / "models" / "bert.F16.gguf"
    encoder = await ChatModel.load(str(path), device=device)
    try:
        async with (
            serving(encoder, name="bert") as address,
            openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client,
        ):
            packed = await client.embeddings.create(model="bert", input=["one", "h п"])
            plain = await client.embeddings.create(
                model="bert", input="one", encoding_format="float"
            )
            short = await client.embeddings.create(model="bert", input="one", dimensions=8)
    finally:
        await encoder.close()
    first, second = (item.embedding for item in packed.data)
    assert first == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert first != pytest.approx(second, abs=1e-3)
    for vector in (first, second, short.data[0].embedding):
        assert math.fsum(x * x for x in vector) == pytest.approx(1, abs=1e-5)
    assert len(short.data[0].embedding) == 8
