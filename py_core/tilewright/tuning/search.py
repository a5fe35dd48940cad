"""The search for one kernel: verify, time, halve.

The naive candidate comes first, as the reference. Every other one must compute the same before it
is timed; what takes twice the best is dropped after a quarter of a burst; then the better half goes
into the next round with longer bursts, all candidates in turn, until a few are left. Knows a
measuring bench and a subject; no budget beyond a deadline, no records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import KernelError
from . import space
from .bench import Candidate, Measuring
from .workload import Subject

ABORT = 2.0
"""A candidate that takes this many times the best is dropped."""
GAIN = 0.97
"""What replaces the default must take at most this share of its time: less is noise."""
FINALISTS = 3
"""Candidates that are left at the end."""
BURST = 4e-3
"""Seconds of a burst in the first round, about; it doubles with every round."""
_HALVING = 0.3
"""Part of the time that is kept for timing the survivors again: one burst may have met a busy
machine."""
_MOST = 256
"""Instances per burst."""
_AT_LEAST = 3
"""Candidates besides naive and default that a kernel gets which must be finished."""
GRACE = 2.0
"""Seconds by which these may exceed the whole budget."""
_DUELS = 3
"""Times that what would replace the default is timed in turn with it."""
_DUEL_BURST = 0.03
"""Seconds of such a burst, about: the round trip to the device must not count."""
_LONG = 0.05
"""Seconds of a run for verifying that is not timed again."""


@dataclass
class Outcome:
    """What a search found."""

    label: str
    candidates: int
    """Size of the space."""
    tried: int = 0
    """Candidates that were timed."""
    rejected: list[str] = field(default_factory=list)
    """Names of those that were wrong or did not compile."""
    finalists: list[Candidate] = field(default_factory=list)
    """The best first."""
    default: Candidate | None = None
    naive_seconds: float = 0.0

    @property
    def best(self) -> Candidate:
        """The choice."""
        return self.finalists[0]


async def search(
    bench: Measuring,
    subject: Subject,
    default_seconds: float,
    until: float,
    report: Callable[[Outcome], None],
    liked: Sequence[Any] = (),
    must: bool = False,
) -> Outcome:
    """Search a kernel's space until ``bench.left`` falls to ``until`` seconds.

    ``default_seconds``: of one instance, as a first guess; ``liked``: Tunings to try early. Naive
    and default are always timed, and with ``must`` some more, even when ``until`` is reached.
    """
    module, structure, capabilities = subject.module, subject.structure, bench.capabilities
    naive = module.naive(structure)
    default = module.default(structure, capabilities)
    tunings = space.candidates(module, structure, capabilities)
    early = [naive, default, *liked]
    tunings.sort(key=lambda tuning: early.index(tuning) if tuning in early else len(early))
    label = module.kernel(structure, default, capabilities).label
    outcome = Outcome(label, len(tunings))
    count = min(max(round(BURST / max(default_seconds, 1e-7)), 1), _MOST)
    enough = until + _HALVING * (bench.left - until)
    expected = await bench.expected(subject, naive)
    for tuning in tunings:
        required = tuning in (naive, default)
        more = must and bench.left > -GRACE and outcome.tried < 2 + _AT_LEAST
        if bench.left <= enough and not required and not more:
            break
        try:
            candidate = await bench.candidate(subject, tuning)
            correct, seconds = True, expected.seconds
            if tuning != naive:
                verdict = await bench.verdict(subject, expected, tuning)
                correct, seconds = verdict.correct, verdict.seconds
        except KernelError:
            outcome.rejected.append(space.name(tuning))
            continue
        if not correct:
            outcome.rejected.append(space.name(tuning))
            continue
        best = min((found.seconds for found in outcome.finalists), default=math.inf)
        quarter = max(count // 4, 1)
        outcome.tried += 1
        if seconds > _LONG:
            candidate.seconds = seconds
        else:
            seconds = await bench.measure(candidate, quarter)
        if tuning == naive:
            outcome.naive_seconds = seconds
        elif seconds <= ABORT * best or tuning == default:
            await bench.measure(candidate, count)
        if tuning == default:
            outcome.default = candidate
        outcome.finalists.append(candidate)
        outcome.finalists.sort(key=lambda found: found.seconds)
        report(outcome)
    limit = ABORT * outcome.best.seconds
    outcome.finalists = [found for found in outcome.finalists if found.seconds <= limit]
    await _halve(bench, outcome, count, until)
    await _duel(bench, outcome)
    return outcome


async def _halve(bench: Measuring, outcome: Outcome, count: int, until: float) -> None:
    """Time the survivors again in longer bursts, keeping the better half each round."""
    while len(outcome.finalists) > 1 and bench.left > until:
        last = len(outcome.finalists) <= FINALISTS
        keep = FINALISTS if last else max(FINALISTS, len(outcome.finalists) // 2)
        count = min(2 * count, _MOST)
        repeats = 3 if last else 1
        for _ in range(repeats):
            for candidate in outcome.finalists:
                if bench.left <= until:
                    break
                await bench.measure(candidate, count)
        outcome.finalists.sort(key=lambda found: found.seconds)
        del outcome.finalists[keep:]
        if last:
            break


async def _duel(bench: Measuring, outcome: Outcome) -> None:
    """Put the default first unless the best is clearly faster, also in turn with it.

    Earlier bursts of one of them may have met a busy machine.
    """
    best, default = outcome.best, outcome.default
    if default is None or best is default:
        return
    faster = best.seconds < GAIN * default.seconds
    if faster:
        count = min(max(round(_DUEL_BURST / max(default.seconds, 1e-7)), 1), _MOST)
        pairs = [
            (await bench.measure(best, count), await bench.measure(default, count))
            for _ in range(_DUELS)
        ]
        faster = min(pair[0] for pair in pairs) < GAIN * min(pair[1] for pair in pairs)
    if not faster:
        outcome.finalists = [default, *(c for c in outcome.finalists if c is not default)]
