"""Tunes every kernel of a model's steps: what is searched, in which order, and what is recorded.

Kernels come in the order of their share of a step, each with its part of the budget; a kernel whose
record is there is left alone. At the end the winners are timed as whole steps against the defaults,
and runners-up in their place. Knows workloads and records; no sequences.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .. import settings
from ..webgpu.kernels.kernel import Cost
from . import space
from .bench import Candidate, Measuring
from .search import GAIN, GRACE, Outcome, search
from .store import Record, Records
from .workload import Subject

FEW_TOKENS = 32
"""Tokens of the steps that are timed where a chunk of the full capacity is slow."""
_FEWEST_TOKENS = 8
_VERY_SLOW = 0.1
"""Seconds of a dispatch over ``FEW_TOKENS`` from which on ``_FEWEST_TOKENS`` have to do."""
_SLOW = 4e-3
"""Seconds of a dispatch over ``FEW_TOKENS`` from which on the rest of a chunk is left out."""
_FINAL_SHARE = 0.2
"""Of the budget, for whole steps."""
_ENOUGH = 0.2
"""Seconds of a burst that times a default."""
_TIMED_SHARE = 0.25
"""Of a step's budget, for timing the defaults; what is not timed by then is estimated."""
_WHOLE_STEPS = 8
"""Whole steps that there must be time for; else what won alone is taken."""
_LEAST = 20
"""Times of the default that a search takes at least, the naive kernel included."""
_SMALL = 0.005
"""Kernels with a smaller share of a step keep their default without a search."""


@dataclass(frozen=True)
class Event:
    """Progress: a kernel, or (``kernel`` empty) a whole step."""

    workload: str
    kernel: str
    tuning: str
    """The choice so far."""
    tried: int
    candidates: int
    rejected: int
    """Wrong ones, and such as did not compile."""
    seconds: float
    """Of one dispatch with the choice so far, or of the whole step."""
    default_seconds: float
    naive_seconds: float
    share: float
    """Of the whole step, with defaults; 0: not measured."""
    bytes_per_s: float
    """At least moved with the choice so far, while the step has its full capacity."""
    flops_per_s: float
    done: bool
    total: int = 0
    """Kernels of all steps together."""
    known: bool = False
    """The record was there already: nothing was measured."""


class Step(Protocol):
    """A family of a model's steps on some device, as material for tuning."""

    name: str
    capacity: int
    """Most tokens of a step."""
    used: int
    """Tokens of the steps that are timed."""

    def subjects(self) -> list[Subject]:
        """Return the distinct kernels of the step."""
        ...

    def use(self, tokens: int) -> None:
        """Let steps have ``tokens`` tokens."""
        ...

    async def fill(self) -> None:
        """Fill the inputs with random numbers."""
        ...

    def calls(self, choose: Any) -> list[Any]:
        """Return the calls of the whole step, with the Tunings of ``choose``."""
        ...

    def cost(self) -> Cost:
        """Return what the whole step must move and compute."""
        ...


class Tuner:
    """Tunes the steps of one model on one device."""

    def __init__(
        self,
        bench: Measuring,
        records: Records,
        on_event: Callable[[Event], None] | None = None,
        *,
        thorough: bool = False,
    ) -> None:
        """``thorough``: kernels that kept their default without a search count as missing."""
        self._bench = bench
        self._thorough = thorough
        self._records = records
        self._on_event = on_event
        self._liked: dict[Any, Sequence[Any]] = {}
        self._total = 0
        self._told: set[str] = set()
        """Keys of the kernels that are done."""

    def missing(self, workloads: Sequence[Step]) -> int:
        """Return how many kernels have no record yet."""
        capabilities = self._bench.capabilities
        return sum(
            not self._kept(self._records.find(subject.module, subject.structure, capabilities))
            for workload in workloads
            for subject in workload.subjects()
        )

    def _kept(self, record: Record | None) -> bool:
        """Return whether a record leaves nothing to do."""
        if record is None:
            return False
        return record.tried > 0 or record.candidates == 1 or not self._thorough

    async def tune(self, workloads: Sequence[Step], floor: float = 0.0) -> None:
        """Tune every step; ``records`` holds what was found, also when cancelled on the way.

        ``floor``: seconds of the budget to leave over. Raises CancelledError when the bench is
        stopped.
        """
        capabilities = self._bench.capabilities
        self._total = len(self._told) + sum(
            self._records.key(subject.module, subject.structure, capabilities) not in self._told
            for workload in workloads
            for subject in workload.subjects()
        )
        if self._bench.left <= floor:
            for workload in workloads:  # what is recorded is told, also where nothing is measured
                for subject in workload.subjects():
                    self._known(workload, subject)
            return
        for number, workload in enumerate(workloads):
            left = self._bench.left - floor
            await self._workload(workload, floor + left - left / (len(workloads) - number))

    def keep_defaults(self, workload: Step) -> None:
        """Record the defaults of a step's kernels that have no record."""
        for subject in workload.subjects():
            if self._records.find(subject.module, subject.structure, self._bench.capabilities):
                continue
            self._records.put(self._default_record(subject, 0.0))

    async def _workload(self, workload: Step, floor: float) -> None:
        """Tune one step until ``bench.left`` falls to ``floor``."""
        missing = [subject for subject in workload.subjects() if not self._known(workload, subject)]
        if not missing:
            return
        await workload.fill()
        times = await self._default_times(workload, floor)
        whole = sum(times.values())
        missing.sort(key=lambda subject: -times[subject])
        end = floor + (self._bench.left - floor) * _FINAL_SHARE
        outcomes: dict[Subject, Outcome] = {}
        for number, subject in enumerate(missing):
            share = times[subject] / whole
            if share < _SMALL or subject.choices(self._bench.capabilities) == 1:
                self._keep_default(workload, subject, share, times[subject])
                continue
            left = self._bench.left - end
            each = times[subject] / subject.instances
            # the largest kernel of a step is finished, unless not even its naive form has time
            if (left <= 0 and outcomes) or self._bench.left + GRACE < _LEAST * each:
                break
            left = max(left, 0.0)
            rest = sum(times[s] for s in missing[number:])
            # at least half a fair piece: small kernels compile as slowly as large ones
            part = left * max(times[subject] / rest, 0.5 / (len(missing) - number))
            until = self._bench.left - part
            outcomes[subject] = await self._subject(
                workload, subject, share, times[subject], until, must=not outcomes
            )
        await self._whole_step(workload, outcomes, floor)

    async def _default_times(self, workload: Step, floor: float) -> dict[Subject, float]:
        """Return the seconds of all instances of every kernel; shorten steps that are slow.

        What should take longest comes first. A slow device has no time for all: the others are
        estimated by their cost and the median rate of those that were timed.
        """
        workload.use(FEW_TOKENS)
        end = self._bench.left - (self._bench.left - floor) * _TIMED_SHARE
        subjects = workload.subjects()
        work = {s: _work(s.cost(self._default(s))) * s.instances for s in subjects}
        found: dict[Subject, float] = {}
        slow = False
        for subject in sorted(subjects, key=lambda subject: -work[subject]):
            if found and self._bench.left < end:
                break
            candidate = await self._bench.candidate(subject, self._default(subject))
            await self._bench.measure(candidate, 1)  # drivers compile at the first dispatch
            if candidate.seconds > _VERY_SLOW and workload.used > _FEWEST_TOKENS:
                workload.use(_FEWEST_TOKENS)
                candidate.seconds = math.inf
            count = min(4, subject.instances, max(round(_ENOUGH / candidate.seconds), 1))
            await self._bench.measure(candidate, count)
            found[subject] = candidate.seconds * subject.instances
            slow = slow or candidate.seconds > _SLOW
        if not slow:
            workload.use(workload.capacity)
        rate = statistics.median(found[subject] / work[subject] for subject in found)
        return {s: found[s] if s in found else rate * work[s] for s in subjects}

    def _default(self, subject: Subject) -> Any:
        return subject.module.default(subject.structure, self._bench.capabilities)

    # -- one kernel ------------------------------------------------------------------------------

    def _known(self, workload: Step, subject: Subject) -> bool:
        """Report a kernel whose record is there."""
        capabilities = self._bench.capabilities
        record = self._records.find(subject.module, subject.structure, capabilities)
        if record is None or not self._kept(record):
            return False
        if record.key not in self._told:
            self._tell_record(workload, subject, record, 0.0, known=True)
        return True

    async def _subject(
        self,
        workload: Step,
        subject: Subject,
        share: float,
        seconds: float,
        until: float,
        *,
        must: bool,
    ) -> Outcome:
        def report(outcome: Outcome) -> None:
            record = self._record(subject, outcome)
            self._tell_record(workload, subject, record, share, outcome=outcome, done=False)

        each = seconds / subject.instances
        liked = self._liked.get(subject.module, ())
        outcome = await search(self._bench, subject, each, until, report, liked, must)
        # What won for one shape is tried first for the next.
        self._liked[subject.module] = [candidate.tuning for candidate in outcome.finalists]
        record = self._record(subject, outcome)
        self._records.put(record)
        self._tell_record(workload, subject, record, share, outcome=outcome)
        return outcome

    def _record(self, subject: Subject, outcome: Outcome) -> Record:
        capabilities = self._bench.capabilities
        default = outcome.default
        return Record(
            key=self._records.key(subject.module, subject.structure, capabilities),
            module=space.module_name(subject.module),
            label=outcome.label,
            tuning=space.name(outcome.best.tuning),
            seconds=outcome.best.seconds,
            default_seconds=outcome.best.seconds if default is None else default.seconds,
            naive_seconds=outcome.naive_seconds,
            tried=outcome.tried,
            candidates=outcome.candidates,
            adapter=capabilities.key,
        )

    def _keep_default(self, workload: Step, subject: Subject, share: float, seconds: float) -> None:
        """Record the default of a kernel that is not worth a search."""
        record = self._default_record(subject, seconds)
        self._records.put(record)
        self._tell_record(workload, subject, record, share)

    def _default_record(self, subject: Subject, seconds: float) -> Record:
        default = self._default(subject)
        kernel = subject.module.kernel(subject.structure, default, self._bench.capabilities)
        candidate = Candidate(default, (), 1, seconds / subject.instances)
        outcome = Outcome(kernel.label, subject.choices(self._bench.capabilities))
        outcome.finalists, outcome.default = [candidate], candidate
        return self._record(subject, outcome)

    # -- whole steps -----------------------------------------------------------------------------

    async def _whole_step(
        self, workload: Step, outcomes: dict[Subject, Outcome], floor: float
    ) -> None:
        """Time whole steps with the winners, then with each close runner-up in its place."""
        bench = self._bench
        chosen = {subject: outcome.best for subject, outcome in outcomes.items()}
        if all(outcome.best is outcome.default for outcome in outcomes.values()):
            return
        alone = sum(s.instances * outcome.best.seconds for s, outcome in outcomes.items())
        if bench.left - floor < _WHOLE_STEPS * alone:
            return
        tuned = await self._step(workload, {s: c.tuning for s, c in chosen.items()})
        plain = await self._step(workload, {s: self._default(s) for s in chosen})
        pairs = [(await bench.time(tuned), await bench.time(plain)) for _ in range(2)]
        seconds, default_seconds = min(p[0] for p in pairs), min(p[1] for p in pairs)
        for subject, outcome in outcomes.items():
            for candidate in outcome.finalists[1:]:
                if candidate.seconds > 1.05 * outcome.best.seconds:
                    continue
                if bench.left - floor < 5 * seconds:
                    break
                tunings = {s: c.tuning for s, c in chosen.items()}
                other = await self._step(workload, {**tunings, subject: candidate.tuning})
                pairs = [(await bench.time(other), await bench.time(tuned)) for _ in range(2)]
                took, seconds = min(p[0] for p in pairs), min(seconds, *(p[1] for p in pairs))
                if took < GAIN * seconds:
                    chosen[subject], tuned, seconds = candidate, other, took
        if seconds > default_seconds / GAIN:
            # Each won alone; where they lose together, the defaults stay.
            defaults = {s: o.default for s, o in outcomes.items() if o.default is not None}
            chosen.update(defaults)
            seconds = default_seconds
        for subject, candidate in chosen.items():
            record = self._record(subject, outcomes[subject])
            name = space.name(candidate.tuning)
            self._records.put(replace(record, tuning=name, seconds=candidate.seconds))
        rates = _rates(workload.cost(), seconds, workload)
        self._tell(
            Event(
                workload=workload.name,
                kernel="",
                tuning="",
                tried=0,
                candidates=0,
                rejected=0,
                seconds=seconds,
                default_seconds=default_seconds,
                naive_seconds=0.0,
                share=1.0,
                bytes_per_s=rates[0],
                flops_per_s=rates[1],
                done=True,
            )
        )

    async def _step(self, workload: Step, tunings: dict[Subject, Any]) -> tuple[Any, ...]:
        """Record a whole step with these Tunings and those in the records."""
        chosen = {(s.module, s.structure): tuning for s, tuning in tunings.items()}

        def choose(module: Any, structure: Any, capabilities: Any) -> Any:
            found = chosen.get((module, structure))
            if found is None:
                found = self._records.choice(module, structure, capabilities)
            return module.default(structure, capabilities) if found is None else found

        return await self._bench.record(f"tuning {workload.name}", workload.calls(choose))

    # -- progress --------------------------------------------------------------------------------

    def _tell_record(
        self,
        workload: Step,
        subject: Subject,
        record: Record,
        share: float,
        *,
        outcome: Outcome | None = None,
        done: bool = True,
        known: bool = False,
    ) -> None:
        if done:
            self._told.add(record.key)
        rates = _rates(subject.cost(self._default(subject)), record.seconds, workload)
        self._tell(
            Event(
                workload=workload.name,
                kernel=record.label,
                tuning=record.tuning,
                tried=record.tried,
                candidates=record.candidates,
                rejected=0 if outcome is None else len(outcome.rejected),
                seconds=record.seconds,
                default_seconds=record.default_seconds,
                naive_seconds=record.naive_seconds,
                share=share,
                bytes_per_s=rates[0],
                flops_per_s=rates[1],
                done=done,
                known=known,
            )
        )

    def _tell(self, event: Event) -> None:
        if event.done and settings.current().debug >= 3:
            print(
                f"tuning: {event.workload} {event.kernel or 'whole step'}: {event.tuning} "
                f"{event.seconds * 1e3:.3f} ms, default {event.default_seconds * 1e3:.3f} ms"
            )
        if self._on_event is not None:
            self._on_event(replace(event, total=self._total))


def _work(cost: Cost) -> float:
    """Return how much a dispatch has to do, in bytes: a FLOP counts as a quarter of one."""
    return max(cost.nbytes + cost.flops / 4, 1.0)


def _rates(cost: Cost, seconds: float, workload: Step) -> tuple[float, float]:
    """Return bytes and FLOPs per second; products are in proportion to the tokens in use."""
    if seconds <= 0:
        return 0.0, 0.0
    part = workload.used / workload.capacity
    return cost.nbytes / seconds, cost.flops * part / seconds
