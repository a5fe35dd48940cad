"""Random workloads over scarce blocks: every answer is the plain loop's, nothing leaks or hangs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.toy_runner import ToyRunner, reference

from tilewright.engine.engine import Engine
from tilewright.engine.sampling import SamplingParams

VOCABULARY = 11


@dataclass(frozen=True)
class Job:
    prompt: list[int]
    sampling: SamplingParams
    delay: int
    """Turns of the event loop before it is submitted."""
    cancel_after: int | None
    """Tokens after which the reader leaves."""


jobs = st.builds(
    Job,
    # Few ids and common beginnings, so that prefixes are shared.
    prompt=st.builds(
        lambda start, rest: [1, 2, 3, 4, 5, 6, 7, 8][:start] + rest,
        st.integers(0, 8),
        st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=16),
    ),
    sampling=st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 1.0]),
        seed=st.integers(0, 3),
        max_tokens=st.none() | st.integers(1, 20),
        stop_ids=st.frozensets(st.integers(0, VOCABULARY - 1), max_size=2),
    ),
    delay=st.integers(0, 60),
    cancel_after=st.none() | st.integers(0, 6),
)


@settings(max_examples=120, deadline=None)
@given(
    jobs=st.lists(jobs, min_size=1, max_size=8),
    block=st.integers(1, 5),
    spare=st.integers(0, 40),
    chunk=st.integers(1, 12),
    slots=st.integers(1, 4),
    depth=st.integers(1, 4),
)
def test_any_workload_answers_as_the_plain_loop(
    jobs: list[Job], block: int, spare: int, chunk: int, slots: int, depth: int
) -> None:
    context = 32
    runner = ToyRunner(
        vocabulary=VOCABULARY,
        context_length=context,
        kv_block=block,
        kv_blocks=-(-context // block) + spare // block,
        prefill_chunk=chunk,
        max_sequences=slots,
    )

    async def run(engine: Engine, job: Job) -> None:
        for _ in range(job.delay):
            await asyncio.sleep(0)
        wanted = reference(job.prompt, job.sampling, VOCABULARY, context)
        read: list[int] = []
        generation = engine.submit(job.prompt, job.sampling)
        while job.cancel_after is None or len(read) < job.cancel_after:
            output = await anext(generation, None)
            if output is None:
                break
            read.append(output.id)
        if job.cancel_after is None:
            assert read == wanted
            assert generation.finish_reason in ("stop", "length")
        else:
            generation.cancel()
            assert read == wanted[: job.cancel_after]

    async def main() -> None:
        engine = Engine(runner, depth=depth)
        async with asyncio.timeout(20):
            await asyncio.gather(*(run(engine, job) for job in jobs))
            while engine._task is not None and not engine._task.done():
                await asyncio.sleep(0)
        stats = engine.stats()
        assert stats.blocks.held == stats.running == stats.waiting == 0
        assert runner.most_in_flight <= depth
        assert not runner.results
        assert not engine._generations

    asyncio.run(main())
