"""Ready callbacks share a task of the browser, in order, and leave it its turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tilewright.serve.ready_queue import TURN_SECONDS, ReadyQueue


class Browser:
    """Keeps the tasks that a loop has asked for; a test runs them."""

    def __init__(self) -> None:
        self.tasks: list[Callable[[], None]] = []
        self.now = 0.0
        self.told: list[dict[str, Any]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        assert delay == 0
        self.tasks.append(callback)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.told.append(context)

    def get_debug(self) -> bool:
        return False

    def run(self) -> int:
        count = 0
        while self.tasks:
            self.tasks.pop(0)()
            count += 1
        return count


@pytest.fixture
def browser() -> Browser:
    return Browser()


@pytest.fixture
def queue(browser: Browser) -> ReadyQueue:
    return ReadyQueue(browser, lambda: browser.now)  # type: ignore[arg-type]


def test_one_task_runs_all_in_order(browser: Browser, queue: ReadyQueue) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        queue.call_soon(seen.append, "made ready")

    queue.call_soon(first)
    gone = queue.call_soon(seen.append, "cancelled")
    queue.call_soon(seen.append, "second")
    gone.cancel()
    assert seen == []
    assert browser.run() == 1
    assert seen == ["first", "second", "made ready"]
    queue.call_soon(seen.append, "later")
    assert browser.run() == 1
    assert seen[-1] == "later"


def test_the_browser_has_its_turn(browser: Browser, queue: ReadyQueue) -> None:
    left = 10

    def again() -> None:
        nonlocal left
        browser.now += TURN_SECONDS / 4
        left -= 1
        if left:
            queue.call_soon(again)

    queue.call_soon(again)
    assert browser.run() == 3
    assert left == 0


def test_a_failure_is_told_and_a_stop_leaves_the_others_due(
    browser: Browser, queue: ReadyQueue
) -> None:
    seen: list[str] = []

    def fail(error: BaseException) -> None:
        raise error

    queue.call_soon(fail, ValueError("one"))
    queue.call_soon(fail, KeyboardInterrupt())
    queue.call_soon(seen.append, "still")
    with pytest.raises(KeyboardInterrupt):
        browser.run()
    assert browser.run() == 1
    assert seen == ["still"]
    assert [type(context["exception"]) for context in browser.told] == [ValueError]


def test_tasks_and_futures_run_on_it() -> None:
    loop = asyncio.new_event_loop()
    own = loop.call_soon
    ReadyQueue(loop).install()
    assert loop.call_soon != own

    async def relay(source: asyncio.Queue[int], target: asyncio.Queue[int]) -> None:
        for _ in range(50):
            target.put_nowait(await source.get() + 1)
            await asyncio.sleep(0)

    async def main() -> list[int]:
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(4)]
        tasks = [asyncio.ensure_future(relay(*pair)) for pair in itertools.pairwise(queues)]
        for number in range(50):
            queues[0].put_nowait(number)
        await asyncio.gather(*tasks)
        return [queues[-1].get_nowait() for _ in range(50)]

    try:
        assert loop.run_until_complete(main()) == list(range(3, 53))
    finally:
        loop.close()
