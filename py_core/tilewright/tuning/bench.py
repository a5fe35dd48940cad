"""The measuring bench: compiles candidates, verifies them, times them, and keeps the time budget.

Every measurement is one short burst, after which the event loop runs, and before which the bench
waits until the device is free. Knows subjects (``workload.py``); not how candidates are chosen.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CancelledError
from ..webgpu.device import Device
from ..webgpu.kernels.kernel import EXACT, Capabilities
from ..webgpu.plan import Call, Dispatch, record
from .stopwatch import Stopwatch, stopwatch
from .verify import Reference, Verdict, Verifier
from .workload import Subject

INSTANCES = 32
"""Layers that a candidate is bound to: enough to be cold."""
_PAUSE = 0.02
"""Seconds between two looks at whether the device is free again."""


@dataclass(eq=False)
class Candidate:
    """One way to run a kernel, compiled and bound to the weights of several layers."""

    tuning: Any
    dispatches: tuple[Any, ...]
    """Instance after instance: the GPU's dispatches, or calls of a CPU's kernel."""
    instances: int
    seconds: float = float("inf")
    """Of one instance, at best."""

    def burst(self, first: int, count: int) -> list[Any]:
        """Return the dispatches of ``count`` instances from ``first`` on, around and around."""
        each = len(self.dispatches) // self.instances
        found: list[Any] = []
        for number in range(first, first + count):
            at = number % self.instances * each
            found += self.dispatches[at : at + each]
        return found


class Measuring(ABC):
    """What the search asks of a bench, and the budget of seconds; knows no device."""

    def __init__(
        self,
        capabilities: Capabilities,
        *,
        budget: float,
        share: float = 1.0,
        idle: Callable[[], bool] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """``share``: of the time that may be used while ``idle()``; waiting costs no budget."""
        self.capabilities = capabilities
        self.bursts = 0
        """Bursts that were timed."""
        self._budget = budget
        self._share = min(max(share, 0.01), 1.0)
        self._idle = idle
        self._cancelled = cancelled
        self._turn = 0
        self._since = time.perf_counter()

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget - (time.perf_counter() - self._since)

    async def breathe(self) -> None:
        """Let others run and wait until the device is free; CancelledError when stopped."""
        now = time.perf_counter()
        spent = now - self._since
        self._budget -= spent
        self._since = now
        await asyncio.sleep(spent * (1 / self._share - 1))
        while True:
            if self._cancelled is not None and self._cancelled():
                raise CancelledError("Tuning was stopped.")
            if self._idle is None or self._idle():
                break
            await asyncio.sleep(_PAUSE)
        self._since = time.perf_counter()

    async def measure(self, candidate: Candidate, count: int) -> float:
        """Time ``count`` instances, other layers each time; return the seconds of one."""
        self._turn += count
        seconds = await self.time(candidate.burst(self._turn, count)) / count
        candidate.seconds = min(candidate.seconds, seconds)
        return seconds

    @abstractmethod
    async def record(self, label: str, calls: Sequence[Any]) -> tuple[Any, ...]:
        """Make what ``time`` takes; KernelError where that fails."""

    @abstractmethod
    async def candidate(self, subject: Subject, tuning: Any) -> Candidate:
        """Return a Tuning ready to be timed; KernelError where it does not compile."""

    @abstractmethod
    async def time(self, dispatches: Sequence[Any]) -> float:
        """Return the seconds of one burst."""

    @abstractmethod
    async def expected(self, subject: Subject, naive: Any) -> Reference:
        """Run the naive kernel on the inputs that the step before it leaves."""

    @abstractmethod
    async def verdict(self, subject: Subject, expected: Reference, tuning: Any) -> Verdict:
        """Hold a Tuning's results against the naive kernel's."""

    @abstractmethod
    def release(self) -> None:
        """Free what it holds."""


class Bench(Measuring):
    """Measures on one GPU within a budget of seconds."""

    def __init__(self, device: Device, watch: Stopwatch, **options: Any) -> None:
        super().__init__(device.capabilities, **options)
        self.device = device
        self._watch = watch
        self._verifier = Verifier(device)

    @classmethod
    async def open(cls, device: Device, **options: Any) -> Bench:
        """Make a bench with the best stopwatch of the device."""
        return cls(device, await stopwatch(device), **options)

    async def record(self, label: str, calls: Sequence[Call]) -> tuple[Dispatch, ...]:
        """Compile and bind; KernelError where that fails."""
        plan = await record(self.device, label, calls)
        await self.breathe()
        return plan.dispatches

    async def candidate(self, subject: Subject, tuning: Any) -> Candidate:
        """Return a Tuning ready to be timed; KernelError where it does not compile."""
        instances = min(subject.instances, INSTANCES)
        calls: list[Call] = []
        for instance in range(instances):
            calls += self._verifier.redirect("found", subject.build(instance, tuning))[0]
        return Candidate(tuning, await self.record("tuning", calls), instances)

    async def time(self, dispatches: Sequence[Dispatch]) -> float:
        """Return the seconds of one burst."""
        self.bursts += 1
        seconds = await self._watch.time(dispatches)
        await self.breathe()
        return seconds

    async def expected(self, subject: Subject, naive: Any) -> Reference:
        """Run the naive kernel on the inputs that the step before it leaves."""
        await subject.prepare()
        found = await self._verifier.run("expected", subject.build(0, naive))
        await self.breathe()
        return found

    async def verdict(self, subject: Subject, expected: Reference, tuning: Any) -> Verdict:
        """Hold a Tuning's results against the naive kernel's."""
        found = await self._verifier.run("found", subject.build(0, tuning))
        tolerance = getattr(subject.structure, "tolerance", EXACT)
        verdict = await self._verifier.compare(expected, found, tolerance)
        await self.breathe()
        return verdict

    def release(self) -> None:
        """Free what it holds on the device."""
        self._watch.release()
        self._verifier.release()
