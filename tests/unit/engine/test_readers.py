"""What a reader gets that comes late: all that is there, and nothing behind the end."""

from __future__ import annotations

import asyncio

import pytest
from tests.reference import golden_models
from tests.reference.gguf_writer import gguf_bytes

from tilewright.engine.generation import Generation
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.sequence import Sequence, TokenOutput
from tilewright.errors import BusyError
from tilewright.formats.open import open_model
from tilewright.formats.source import MemorySource
from tilewright.serve.chat import ChatModel, Delta, LoadOptions


def generation() -> Generation:
    return Generation(Sequence(1, [1], 1, SamplingParams(), 9), lambda sequence: None)


async def test_a_late_reader_finds_all_tokens_in_order() -> None:
    made = generation()
    for token in (5, 6, 7):
        made.deliver(TokenOutput(token))
    assert (await anext(made)).id == 5
    assert [token.id for token in made.at_hand()] == [6, 7]
    assert made.at_hand() == []
    made.deliver(TokenOutput(8, finish_reason="length"))
    assert [token.id for token in made.at_hand()] == [8]
    with pytest.raises(StopAsyncIteration):
        await anext(made)


async def test_an_error_is_left_for_the_one_who_awaits() -> None:
    made = generation()
    made.deliver(TokenOutput(5))
    made.fail(BusyError("no"))
    assert [token.id for token in made.at_hand()] == [5]
    with pytest.raises(BusyError):
        await anext(made)


def joined(run: list[Delta]) -> tuple[str, list[int], str | None, int]:
    """Return an answer's text, ids, end, and how many tokens were counted."""
    ids = [token.id for delta in run for token in delta.tokens]
    usage = run[-1].usage
    assert usage is not None
    return (
        "".join(delta.text for delta in run),
        ids,
        run[-1].finish_reason,
        usage.completion_tokens,
    )


async def with_letters() -> MemorySource:
    """Return a golden model whose ids are letters."""
    file = await open_model(golden_models.FOLDER / "qwen2.gguf")
    tensors = {}
    for tensor in file.tensors.values():
        raw = await file.sources[tensor.source].read(tensor.offset, tensor.nbytes)
        tensors[tensor.name] = (bytes(raw), tensor.shape, tensor.quant)
    count = file.tensors["token_embd.weight"].rows
    words = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [chr(33 + n % 94) + "x" * (n // 94) for n in range(count)],
        "tokenizer.ggml.token_type": [1] * count,
        "tokenizer.ggml.merges": ["a b"],
    }
    file.close()
    return MemorySource(gguf_bytes({**file.metadata, **words}, tensors), "letters.gguf")


async def test_a_slow_reader_gets_the_same_text_and_the_same_end() -> None:
    pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
    options = LoadOptions(context_length=64, backend="wasm", threads=1)
    model = await ChatModel.load(await with_letters(), options=options)
    sampling = SamplingParams(temperature=0.9, seed=4, max_tokens=24, ignore_eos=True)

    async def read(pause: float, stop: list[str]) -> list[Delta]:
        found = []
        async for delta in model.complete([3, 4, 5], sampling, stop=stop):
            found.append(delta)
            await asyncio.sleep(pause)
        return found

    whole = "".join(delta.text for delta in await read(0.0, []))
    for stop in ([], [whole[len(whole) // 2 :][:2]]):
        quick, slow = await read(0.0, stop), await read(0.02, stop)
        assert any(len(delta.tokens) > 1 for delta in slow)
        assert joined(slow) == joined(quick)
        assert joined(slow)[2] == ("stop" if stop else "length")
    await model.close()
