"""The engine over a toy model whose answers depend on every id in its paged cache."""

from __future__ import annotations

import asyncio
import random
import struct
from itertools import pairwise

import pytest
from tests.unit.engine.toy_runner import ToyRunner, choose, reference

from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams
from tilewright.errors import (
    BusyError,
    CancelledError,
    ContextLengthError,
    DeviceLostError,
    InvalidRequestError,
    KernelError,
)

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


def prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(97), k=length)


async def answer(engine: Engine, ids: list[int], sampling: SamplingParams) -> list[int]:
    return [output.id async for output in engine.generate(ids, sampling)]


async def settle(engine: Engine) -> None:
    """Wait until the engine has nothing left to do."""
    for _ in range(1000):
        if engine._task is None or engine._task.done():
            return
        await asyncio.sleep(0)
    raise AssertionError("the engine does not come to rest")


def expected(ids: list[int], sampling: SamplingParams, limit: int = 64) -> list[int]:
    return reference(ids, sampling, 97, limit)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, 31, 63])
async def test_one_sequence_answers_as_the_plain_loop(length: int) -> None:
    engine = Engine(ToyRunner())
    outputs = [o async for o in engine.generate(prompt(length), GREEDY)]
    assert [o.id for o in outputs] == expected(prompt(length), GREEDY)
    assert [o.finish_reason for o in outputs] == [None] * (len(outputs) - 1) + ["length"]
    await settle(engine)
    assert engine.stats().blocks.held == 0


async def test_several_steps_are_in_flight_and_none_is_lost() -> None:
    runner = ToyRunner()
    assert await answer(Engine(runner, depth=3), prompt(5), GREEDY) == expected(prompt(5), GREEDY)
    assert runner.most_in_flight == 3


@pytest.mark.parametrize("depth", [1, 2, 4])
async def test_batched_equals_single(depth: int) -> None:
    engine = Engine(ToyRunner(max_sequences=4), depth=depth)
    requests = [
        (prompt(1 + 5 * n, n), SamplingParams(temperature=n % 2, seed=n, max_tokens=3 + 2 * n))
        for n in range(9)
    ]
    answers = await asyncio.gather(*(answer(engine, ids, s) for ids, s in requests))
    assert answers == [expected(ids, s) for ids, s in requests]
    stats = engine.stats()
    assert stats.decode_steps < sum(len(a) for a in answers) - len(answers)
    assert stats.generated_tokens == sum(len(a) for a in answers)


async def test_stop_id_ends_the_answer_and_is_its_last_token() -> None:
    whole = expected(prompt(6), GREEDY)
    stopping = SamplingParams(temperature=0.0, max_tokens=12, stop_ids=frozenset({whole[4]}))
    engine = Engine(ToyRunner())
    outputs = [o async for o in engine.generate(prompt(6), stopping)]
    assert [o.id for o in outputs] == whole[: whole.index(whole[4]) + 1]
    assert outputs[-1].finish_reason == "stop"
    await settle(engine)
    assert engine.stats().discarded_tokens > 0, "steps beyond the stop were in flight"
    past = SamplingParams(
        temperature=0.0, max_tokens=12, stop_ids=frozenset({whole[4]}), ignore_eos=True
    )
    assert await answer(engine, prompt(6), past) == whole


async def test_answer_ends_where_the_context_does() -> None:
    endless = SamplingParams(temperature=0.0)
    engine = Engine(ToyRunner(context_length=20))
    outputs = [o async for o in engine.generate(prompt(6), endless)]
    assert [o.id for o in outputs] == expected(prompt(6), endless, 20)
    assert len(outputs) == 14
    assert outputs[-1].finish_reason == "length"


async def test_prefix_in_the_cache_is_not_computed_again() -> None:
    runner = ToyRunner()
    engine = Engine(runner)
    first = await answer(engine, prompt(30), GREEDY)
    turn = prompt(30) + first + prompt(3, 1)
    generation = engine.submit(turn, GREEDY)
    assert [o.id async for o in generation] == expected(turn, GREEDY)
    # 30 + 12 ids are known, the last of them was never computed: 41 // 4 blocks.
    assert generation.cached_tokens == 40
    prefilled = sum(entry[2] for entry in runner.log if entry[0] == "prefill")
    assert prefilled == 30 + len(turn) - 40


async def test_same_prompt_again_leaves_one_block_to_compute() -> None:
    engine = Engine(ToyRunner())
    for cached in (0, 12):
        generation = engine.submit(prompt(16), GREEDY)
        assert [o.id async for o in generation] == expected(prompt(16), GREEDY)
        assert generation.cached_tokens == cached


async def test_several_answers_to_one_prompt_share_its_blocks() -> None:
    engine = Engine(ToyRunner())
    sampling = SamplingParams(seed=5, max_tokens=7)
    made = engine.submit_many(prompt(21), sampling, 3)
    answers = [[o.id async for o in generation] for generation in made]
    seeded = [SamplingParams(seed=5 + n, max_tokens=7) for n in range(3)]
    assert answers == [expected(prompt(21), s) for s in seeded]
    assert [g.cached_tokens for g in made] == [0, 20, 20]


async def test_decode_goes_on_between_the_chunks_of_a_long_prompt() -> None:
    runner = ToyRunner(prefill_chunk=4)
    engine = Engine(runner)
    short = asyncio.create_task(answer(engine, prompt(3), SamplingParams(max_tokens=30)))
    for _ in range(20):
        await asyncio.sleep(0)
    runner.log.clear()
    await answer(engine, prompt(40, 2), SamplingParams(max_tokens=1))
    await short
    steps = [entry[0] for entry in runner.log if entry[0] in ("prefill", "decode")]
    first, last = steps.index("prefill"), len(steps) - steps[::-1].index("prefill")
    assert "prefill prefill" not in " ".join(steps[first:last])


async def test_short_prompts_that_came_together_are_read_before_they_decode() -> None:
    runner = ToyRunner(prefill_chunk=8)
    engine = Engine(runner, depth=2)
    prompts = [prompt(2, seed) for seed in range(4)]
    answers = await asyncio.gather(*(answer(engine, ids, GREEDY) for ids in prompts))
    assert answers == [expected(ids, GREEDY) for ids in prompts]
    steps = [entry[0] for entry in runner.log if entry[0] in ("prefill", "decode")]
    assert steps[:5] == ["prefill"] * 4 + ["decode"]
    assert steps.count("decode") == 11  # the first token of each came with its prompt


async def test_preempted_sequences_answer_as_if_they_had_not_been() -> None:
    engine = Engine(ToyRunner(kv_blocks=17, max_sequences=4))
    sampling = SamplingParams(temperature=0.0, max_tokens=30)
    requests = [prompt(9 + n, n) for n in range(6)]
    answers = await asyncio.gather(*(answer(engine, ids, sampling) for ids in requests))
    assert answers == [expected(ids, sampling) for ids in requests]
    assert engine.stats().preemptions > 0


async def test_cancel_at_any_moment() -> None:
    for moment in range(40):
        runner = ToyRunner(prefill_chunk=4)
        engine = Engine(runner)
        other = asyncio.create_task(answer(engine, prompt(10, 1), GREEDY))
        generation = engine.submit(prompt(20), SamplingParams(max_tokens=30))
        for _ in range(moment):
            await asyncio.sleep(0)
        generation.cancel()
        assert [o async for o in generation] == []
        later = asyncio.create_task(answer(engine, prompt(12, 3), GREEDY))
        assert await other == expected(prompt(10, 1), GREEDY)
        assert await later == expected(prompt(12, 3), GREEDY)
        await settle(engine)
        assert generation.finish_reason == "cancelled"
        assert engine.stats().blocks.held == 0
        assert engine.stats().running == engine.stats().waiting == 0


async def test_closing_the_iterator_cancels() -> None:
    engine = Engine(ToyRunner())
    stream = engine.generate(prompt(4), SamplingParams())
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    await settle(engine)
    assert engine.stats().blocks.held == 0
    assert engine.stats().generated_tokens < 20


@pytest.mark.parametrize("pauses", [False, True])
async def test_tokens_are_read_while_later_ones_are_computed(pauses: bool) -> None:
    """Also where every result is there at once and no method of the runner ever suspends."""
    engine = Engine(ToyRunner(pauses=pauses))
    stream = engine.generate(prompt(4), SamplingParams(temperature=0.0))
    for _ in range(3):
        await anext(stream)
    assert engine.stats().generated_tokens < 10
    await stream.aclose()  # type: ignore[attr-defined]
    await settle(engine)


async def test_logprobs_only_where_asked_for() -> None:
    engine = Engine(ToyRunner())
    plain = [o async for o in engine.generate(prompt(4), GREEDY)]
    assert {(o.logprob, o.top) for o in plain} == {(None, ())}
    asked = SamplingParams(temperature=0.0, max_tokens=2, logprobs=2)
    for output in [o async for o in engine.generate(prompt(4), asked)]:
        assert output.logprob == -1.0 - output.id
        assert output.top == ((0, 0.0), (1, -1.0))


async def test_requests_that_cannot_be_served_are_refused() -> None:
    engine = Engine(ToyRunner(kv_blocks=8), max_waiting=2)
    with pytest.raises(InvalidRequestError):
        engine.submit([], GREEDY)
    with pytest.raises(InvalidRequestError):
        engine.submit([97], GREEDY)
    with pytest.raises(InvalidRequestError):
        engine.submit([-1], GREEDY)
    with pytest.raises(InvalidRequestError, match="stop_ids"):
        engine.submit([1], SamplingParams(stop_ids=frozenset({97})))
    with pytest.raises(ContextLengthError):
        engine.submit(prompt(32), GREEDY)  # the cache holds 32 positions: no room for an answer
    engine.submit(prompt(3), GREEDY)
    engine.submit(prompt(3), GREEDY)
    with pytest.raises(BusyError):
        engine.submit(prompt(3), GREEDY)
    await engine.close()


@pytest.mark.parametrize("method", ["prefill", "sample", "decode", "fetch"])
async def test_failed_step_fails_its_sequences_only(method: str) -> None:
    runner = ToyRunner(max_sequences=1)
    engine = Engine(runner)
    runner.fail_next[method] = KernelError("broken")
    first = engine.submit(prompt(9), GREEDY)
    second = engine.submit(prompt(9), GREEDY)
    with pytest.raises(KernelError):
        async for _ in first:
            pass
    assert first.finish_reason == "error"
    if method == "fetch":
        runner.results.clear()  # the toy keeps what the failed read did not take
        await engine.close()
        return
    assert [o.id async for o in second] == expected(prompt(9), GREEDY)
    assert second.cached_tokens == 0, "blocks of a failed step are not trusted"


async def test_lost_device_fails_everything() -> None:
    runner = ToyRunner(max_sequences=2)
    engine = Engine(runner)
    made = [engine.submit(prompt(9, n), SamplingParams()) for n in range(4)]
    async for _ in made[0]:
        break
    runner.fail_next["fetch"] = DeviceLostError("gone")
    for generation in made:
        with pytest.raises(DeviceLostError):
            async for _ in generation:
                pass
    with pytest.raises(DeviceLostError):
        engine.submit(prompt(3), GREEDY)


@pytest.mark.parametrize("method", ["prefill", "sample", "decode", "fetch"])
async def test_lost_device_is_replaced_and_generation_goes_on(method: str) -> None:
    runners = [ToyRunner(max_sequences=2)]

    async def recover() -> ToyRunner:
        runners.append(ToyRunner(max_sequences=2))
        return runners[-1]

    engine = Engine(runners[0], recover=recover)
    runners[0].fail_next[method] = DeviceLostError("gone")
    answers = await asyncio.gather(*(answer(engine, prompt(9, n), GREEDY) for n in range(4)))
    assert answers == [expected(prompt(9, n), GREEDY) for n in range(4)]
    assert len(runners) == 2


async def test_close_ends_waiting_and_running_requests() -> None:
    engine = Engine(ToyRunner(max_sequences=1))
    made = [engine.submit(prompt(9, n), SamplingParams()) for n in range(3)]
    async for _ in made[0]:
        break
    await engine.close()
    for generation in made:
        with pytest.raises(CancelledError):
            async for _ in generation:
                pass
    with pytest.raises(CancelledError):
        engine.submit(prompt(3), GREEDY)


async def test_logits_of_all_positions_beside_a_generation() -> None:
    engine = Engine(ToyRunner())
    ids = prompt(11, 4)
    other = asyncio.create_task(answer(engine, prompt(10, 1), GREEDY))
    data = b"".join([piece async for piece in engine.logits(ids)])
    wanted = [choose(ids[: p + 1], 1000, 0) for p in range(11)]
    assert list(struct.unpack("<11f", data)) == wanted
    assert await other == expected(prompt(10, 1), GREEDY)
    with pytest.raises(ContextLengthError):
        _ = [piece async for piece in engine.logits(prompt(65))]
    assert len([piece async for piece in engine.logits(prompt(64))]) == 16
    await settle(engine)
    assert engine.stats().blocks.held == 0


async def test_embeddings() -> None:
    engine = Engine(ToyRunner(max_sequences=1))
    texts = [prompt(n, n) for n in (3, 8, 1)]
    assert await engine.embed(texts) == [[float(sum(t)), float(len(t))] for t in texts]
    with pytest.raises(InvalidRequestError):
        await engine.embed([prompt(9)])
    with pytest.raises(InvalidRequestError):
        await Engine(ToyRunner(vocabulary=98)).embed([prompt(2)])


class Alternating:
    """Even ids after odd ones and the reverse; after a multiple of 10 come 1, 2, 3."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.sampled = 0

    def forced(self) -> list[int]:
        if self.seen and self.seen[-1] % 10 == 0:
            self.seen += [1, 2, 3]
            return [1, 2, 3]
        return []

    def mask(self) -> bytes:
        even = bool(self.seen) and self.seen[-1] % 2 == 1
        return bytes([0b01010101 if even else 0b10101010]) * 16

    def accept(self, token: int) -> None:
        self.seen.append(token)
        self.sampled += 1


async def test_constraint_sees_every_token_and_may_force_some() -> None:
    engine = Engine(ToyRunner(), depth=3)
    constraint = Alternating()
    other = asyncio.create_task(answer(engine, prompt(10, 1), GREEDY))
    sampling = SamplingParams(temperature=0.0, max_tokens=40)
    ids = [o.id async for o in engine.generate(prompt(5), sampling, constraint=constraint)]
    assert len(ids) == 40
    assert len(constraint.seen) >= 39
    assert constraint.seen[:39] == ids[:39]
    assert constraint.sampled < 40, "some were forced"
    text = [a % 10 == 0 or (a + b) % 2 == 1 for a, b in pairwise(ids)]
    assert all(text)
    assert await other == expected(prompt(10, 1), GREEDY)


async def test_constraint_that_allows_nothing_is_an_error() -> None:
    class Nothing(Alternating):
        def mask(self) -> bytes:
            return bytes(16)

    with pytest.raises(InvalidRequestError):
        _ = [o async for o in Engine(ToyRunner()).generate([1], GREEDY, constraint=Nothing())]
