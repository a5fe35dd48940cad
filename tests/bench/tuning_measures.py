"""What tuning is worth on the device at hand: the same measurements natively and in a page.

``bench_tuning.py`` imports this natively and sends its text to Chromium, so it may use the engine
and nothing else. What is compared is timed turn by turn, so that a busy machine disturbs all alike,
and the least counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tilewright.engine.engine import Engine
from tilewright.engine.runner import ModelRunner
from tilewright.engine.sampling import SamplingParams
from tilewright.engine.tuning import ModelTuning, workloads
from tilewright.errors import CancelledError, KernelError
from tilewright.formats.open import open_model
from tilewright.tuning import space
from tilewright.tuning.bench import Bench
from tilewright.tuning.store import Records
from tilewright.tuning.verify import submit
from tilewright.tuning.workload import Subject, Workload
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import matmul, matvec
from tilewright.webgpu.kernels.kernel import Capabilities
from tilewright.webgpu.lower import Choose, default_choice, naive_choice
from tilewright.webgpu.plan import record

PREFILL = 32
"""Tokens of the prompt whose steps are compared."""
TURNS = 4
SLOW = 3.0
"""Seconds of a kernel that is not timed again."""
WHOLE_SECONDS, WHOLE_TURNS = 15.0, 4
"""For whole steps that are compared, and turns at least."""
BURST = 0.1
"""Seconds of a burst of one kernel, about."""
HOPELESS = 2.5
"""A candidate whose first run takes this many times the best one's is not timed again."""
DECODE = 8
"""Tokens of an answer that is decoded with or without the tuner at work."""
PAIRS = 10
"""Such answers of each kind, at most."""

Line = dict[str, Any]
Clock = Callable[[], float]


def constants_choice(module: Any, structure: Any, capabilities: Capabilities) -> Any:
    """Choose what llama.cpp's WebGPU backend fixes for every device, expressed in our space.

    Matvec: 256 threads, four outputs; matmul: 8x8 threads with 4x4 results each, 32 columns a pass.
    """
    if module is matvec:
        return matvec.LanesTuning(256, 256, 2 if structure.gated else 4)
    if module is matmul:
        return matmul.TileTuning(32, 32, 32, 4)
    return module.default(structure, replace(capabilities, software=False))


def shares(workload: Workload, capabilities: Capabilities) -> list[Subject]:
    """Return a step's kernels, those with the most work first."""

    def work(subject: Subject) -> float:
        cost = subject.cost(subject.module.default(subject.structure, capabilities))
        return subject.instances * (cost.nbytes + cost.flops / 4)

    return sorted(workload.subjects(), key=work, reverse=True)


async def kernel_seconds(
    bench: Bench, subject: Subject, tuning: Any, clock: Clock, turns: int = TURNS
) -> float:
    """Return the seconds of one instance, compiled before: the least of some cold bursts."""
    candidate = await bench.candidate(subject, tuning)
    first = candidate.burst(0, 1)
    # some drivers compile at the first dispatch: let that be a small one
    await submit(bench.device, [replace(dispatch, grid=(1, 1, 1)) for dispatch in first])
    least, count = float("inf"), 1
    for turn in range(turns):
        begun = clock()
        await submit(bench.device, candidate.burst(turn * count, count))
        least = min(least, (clock() - begun) / count)
        if least > SLOW:
            break
        count = min(max(round(BURST / max(least, 1e-6)), 1), 4 * candidate.instances)
    return least


async def compare(
    bench: Bench, workload: Workload, choices: dict[str, Choose], clock: Clock, limit: float
) -> Line:
    """Compare choices by the sums of their kernels' times, and the fast ones by whole steps.

    Naive kernels and foreign constants would take minutes for a whole step: one layer's kernels
    are timed, those with the most work first, for ``limit`` seconds per choice, and what was
    reached is held against the same kernels of the tuned choice (``covered``: their share of it).
    """
    device, capabilities = bench.device, bench.device.capabilities
    await workload.fill()
    workload.use(1 if workload.name == "decode" else PREFILL)
    subjects = shares(workload, capabilities)
    sums: dict[str, dict[Subject, float]] = {}
    for name, choose in reversed(choices.items()):  # tuned first
        sums[name] = found = {}
        end = time.perf_counter() + limit
        for subject in subjects:
            if time.perf_counter() > end:
                break
            tuning = choose(subject.module, subject.structure, capabilities)
            seconds = await kernel_seconds(bench, subject, tuning, clock)
            found[subject] = seconds * subject.instances
            print(f"{name} {subject.instances} x {seconds * 1e3:.3f} ms {space.name(tuning)}")
        print(f"{workload.name} {name}: {len(found)} of {len(subjects)} kernels", flush=True)
    tuned = sums["tuned"]
    line: Line = {"bench": "tuning", "step": workload.name, "tokens": workload.used}
    for name, found in sums.items():
        if name == "tuned":
            continue
        same = sum(tuned[subject] for subject in found if subject in tuned)
        line[f"tuned_to_{name}"] = round(sum(found.values()) / same, 3)
        line[f"covered_{name}"] = round(same / sum(tuned.values()), 3)
    whole = {name: choose for name, choose in choices.items() if name in ("default", "tuned")}
    steps = await whole_steps(device, workload, whole, clock)
    if "default" in steps:  # kernel by kernel, noise adds up
        line["kernels_to_default"] = line["tuned_to_default"]
        line["tuned_to_default"] = round(steps["default"] / steps["tuned"], 3)
    line["seconds"] = {name: round(took, 5) for name, took in steps.items()}
    return line


async def whole_steps(
    device: Device, workload: Workload, choices: dict[str, Choose], clock: Clock
) -> dict[str, float]:
    """Time whole steps with each choice, turn by turn; return the least of each, in seconds."""
    least: dict[str, float] = {}
    plans = {}
    for name, choose in choices.items():
        plans[name] = (await record(device, name, workload.calls(choose))).dispatches
        await submit(device, [replace(dispatch, grid=(1, 1, 1)) for dispatch in plans[name]])
    end = clock() + WHOLE_SECONDS
    turn = 0
    while turn < WHOLE_TURNS or clock() < end:
        turn += 1
        for name in sorted(plans, reverse=turn % 2 == 0):  # who is first in a turn is not always
            start = clock()
            await submit(device, plans[name])
            least[name] = min(least.get(name, float("inf")), clock() - start)
    return least


async def exhaustive(bench: Bench, workload: Workload, records: Records, limit: float) -> Line:
    """Time every candidate of a step's largest kernels; how near is the tuner's choice?

    For ``limit`` seconds, by the clock on the wall, as the tuner does. Whole steps with what is
    best by this are then timed turn by turn with those of the tuner: ``share_of_best`` is how near
    these come.
    """
    clock = time.perf_counter
    capabilities = bench.device.capabilities
    await workload.fill()
    workload.use(1 if workload.name == "decode" else PREFILL)
    best: dict[tuple[Any, Any], Any] = {}
    kernels: list[Line] = []
    end = time.perf_counter() + limit
    for subject in shares(workload, capabilities):
        tunings = space.candidates(subject.module, subject.structure, capabilities)
        if len(tunings) < 2:
            continue
        if time.perf_counter() > end:
            break
        chosen = records.choose(subject.module, subject.structure, capabilities)
        # The naive one is hardly ever the best, and compare() times it.
        raced = [t for t in tunings[1:] if t != chosen] + [chosen]
        least: dict[str, float] = {}
        for turn in range(2):
            for tuning in raced:
                name, known = space.name(tuning), min(least.values(), default=float("inf"))
                if turn and least.get(name, float("inf")) > HOPELESS * known:
                    continue
                with contextlib.suppress(KernelError):
                    took = await kernel_seconds(bench, subject, tuning, clock)
                    least[name] = min(least.get(name, took), took)
        fastest = min(least, key=lambda name: least[name])
        best[subject.module, subject.structure] = next(
            tuning for tuning in raced if space.name(tuning) == fastest
        )
        kernels.append(
            {
                "kernel": subject.module.kernel(subject.structure, chosen, capabilities).label,
                "candidates": len(tunings),
                "best": fastest,
                "tuned": space.name(chosen),
                "share_of_best": round(least[fastest] / least[space.name(chosen)], 3),
            }
        )
        print(workload.name, kernels[-1], flush=True)

    def choose(module: Any, structure: Any, capabilities: Capabilities) -> Any:
        found = best.get((module, structure))
        return records.choose(module, structure, capabilities) if found is None else found

    choices: dict[str, Choose] = {"best": choose, "tuned": records.choose}
    took = await whole_steps(bench.device, workload, choices, clock)
    return {
        "bench": "tuning_exhaustive",
        "step": workload.name,
        "seconds": {name: round(seconds, 5) for name, seconds in took.items()},
        "share_of_best": round(took["best"] / took["tuned"], 3),
        "searched": len(kernels),
        "kernels": kernels,
    }


async def decode_loss(runner: ModelRunner, clock: Clock, limit: float) -> Line:
    """Decode with nothing else and with the tuner at work, in turn; what does the answer lose?

    Short answers in pairs whose order changes, so that a machine that becomes slower or faster
    disturbs both alike; the medians count. ``clock``: natively the processor's time, which holds
    what the tuner used while the answer was on its way.
    """
    engine = Engine(runner)
    sampling = SamplingParams(temperature=0.0, max_tokens=DECODE, ignore_eos=True)

    async def answer() -> dict[str, float]:
        """Return the seconds of a token after the first, also by ``clock``, and of the first."""
        begun = time.perf_counter()
        wall, used = [], []
        async for _ in engine.generate([3, 9, 27], sampling):
            wall.append(time.perf_counter())
            used.append(clock())
        count = len(wall) - 1
        return {
            "token_s": (wall[-1] - wall[0]) / count,
            "clock_s": (used[-1] - used[0]) / count,
            "first_s": wall[0] - begun,
        }

    await answer()  # compiles
    paused = True
    tuning = ModelTuning(runner, None, Records())
    running = tuning.run(budget=60.0, idle=lambda: not paused and not engine.busy)
    task = asyncio.ensure_future(running)
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    end = time.perf_counter() + limit
    for pair in range(PAIRS):
        if pair > 2 and time.perf_counter() > end:
            break
        for at_work in (False, True) if pair % 2 else (True, False):
            paused = not at_work
            await asyncio.sleep(0.5)  # the tuner stops, or begins
            found[at_work].append(await answer())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, CancelledError):
        await task
    await engine.close()

    def median(name: str, at_work: bool) -> float:
        return statistics.median(one[name] for one in found[at_work])

    return {
        "bench": "tuning_decode_loss",
        "pairs": len(found[True]),
        "tokens_per_s_alone": round(1 / median("token_s", False), 2),
        "tokens_per_s_while_tuning": round(1 / median("token_s", True), 2),
        "loss": round(1 - median("token_s", False) / median("token_s", True), 4),
        "loss_by_clock": round(1 - median("clock_s", False) / median("clock_s", True), 4),
        "first_token_s_alone": round(median("first_s", False), 3),
        "first_token_s_while_tuning": round(median("first_s", True), 3),
    }


async def everything(
    source: Any,
    name: str,
    *,
    budget: float,
    parts: Sequence[str],
    steps: Sequence[str] = ("decode", "prefill"),
    without: Sequence[str] = (),
    clock: Clock = time.perf_counter,
    limit: float = 60.0,
    tell: Callable[[Line], None],
) -> None:
    """Load a model, tune it, and tell the lines of the wanted parts.

    ``parts``: some of ``compare``, ``exhaustive``, ``loss``, ``visit`` (a second one); ``without``:
    choices that take too long here; ``limit``: seconds for each choice that is compared, for
    the exhaustive search of a step, and for decoding beside the tuner.
    """
    device = await Device.open()
    common = {"model": name, "where": f"{device.name} {device.capabilities.key}".strip()}
    file = await open_model(source)
    runner = await ModelRunner.load(device, file, context_length=512, max_sequences=1)
    try:
        records = Records()
        begun = time.perf_counter()
        result = await ModelTuning(runner, None, records).run(budget=budget)
        line = {
            "bench": "tuning_time",
            "wall_s": round(time.perf_counter() - begun, 2),  # compiling included
            "bursts": result.bursts,
            "records": len(records),
            "searched": sum(record.tried > 0 for record in records),
        }
        if "visit" in parts:
            begun = time.perf_counter()
            again = await ModelTuning(runner, None, records).run(budget=budget)
            line["second_visit_bursts"] = again.bursts
            line["second_visit_s"] = round(time.perf_counter() - begun, 2)
        tell({**line, **common})
        choices: dict[str, Choose] = {
            "naive": naive_choice,
            "constants": constants_choice,
            "default": default_choice,
            "tuned": records.choose,
        }
        choices = {name: choose for name, choose in choices.items() if name not in without}
        bench = await Bench.open(device, budget=3600.0)
        for workload in workloads(runner):
            if workload.name not in steps:
                workload.release()
                continue
            if "compare" in parts:
                tell({**await compare(bench, workload, choices, clock, limit), **common})
            if "exhaustive" in parts:
                found = await exhaustive(bench, workload, records, limit)
                tell({**found, **common})
            workload.release()
        bench.release()
        if "loss" in parts:
            runner.use(default_choice)
            tell({**await decode_loss(runner, clock, limit), **common})
    finally:
        await runner.close()
        file.close()
