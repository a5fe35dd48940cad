"""What tuning is worth on the device at hand: the same measurements natively and in a page.

``bench_tuning.py`` imports this natively and sends its text to Chromium, so it may use the engine
and nothing else. Steps are timed turn by turn with each choice, so that a busy machine disturbs all
alike, and the least counts.
"""

from __future__ import annotations

import asyncio
import contextlib
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
"""Seconds of a step that is timed once: then what it took to compile no longer matters."""
DECODE = 32
"""Tokens that are decoded with and without the tuner at work."""

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


async def compare(
    device: Device, workload: Workload, choices: dict[str, Choose], clock: Clock
) -> Line:
    """Time whole steps with each choice, turn by turn; the least of each, in seconds."""
    plans = {
        name: (await record(device, name, workload.calls(choose))).dispatches
        for name, choose in choices.items()
    }
    await workload.fill()
    workload.use(1 if workload.name == "decode" else PREFILL)
    least: dict[str, float] = {}
    for turn in range(TURNS):
        for name, dispatches in plans.items():
            if least.get(name, 0.0) > SLOW or (turn > 1 and name == "constants"):
                continue
            start = clock()
            await submit(device, dispatches)
            took = clock() - start
            if turn or took > SLOW:  # the first compiles
                least[name] = min(least.get(name, took), took)
                print(workload.name, name, round(took, 4), flush=True)
    return {
        "bench": "tuning",
        "step": workload.name,
        "tokens": workload.used,
        "seconds": {name: round(took, 5) for name, took in least.items()},
        **{
            f"tuned_to_{name}": round(least[name] / least["tuned"], 3)
            for name in choices
            if name != "tuned"
        },
    }


async def exhaustive(
    device: Device, bench: Bench, workload: Workload, records: Records, clock: Clock
) -> Line:
    """Time every candidate of a step's largest kernel at length; how near is the chosen one?"""
    subject: Subject = max(
        (s for s in workload.subjects() if hasattr(s.structure, "columns")),
        key=lambda s: s.structure.rows * s.structure.columns * s.instances,
    )
    least: dict[str, float] = {}
    compiled = []
    for tuning in space.candidates(subject.module, subject.structure, device.capabilities):
        try:
            compiled.append(await bench.candidate(subject, tuning))
        except KernelError:
            continue
    for turn in range(TURNS):
        for candidate in compiled:
            start = clock()
            await submit(device, candidate.burst(0, min(8, candidate.instances)))
            name = space.name(candidate.tuning)
            if turn:
                took = clock() - start
                least[name] = min(least.get(name, took), took)
    chosen = space.name(records.choose(subject.module, subject.structure, device.capabilities))
    best = min(least, key=lambda name: least[name])
    return {
        "bench": "tuning_exhaustive",
        "step": workload.name,
        "kernel": subject.module.kernel(
            subject.structure,
            records.choose(subject.module, subject.structure, device.capabilities),
            device.capabilities,
        ).label,
        "candidates": len(least),
        "best": best,
        "chosen": chosen,
        "share_of_best": round(least[best] / least[chosen], 3),
    }


async def decode_loss(runner: ModelRunner) -> Line:
    """Decode with nothing else and with the tuner at work; what does the answer lose?"""
    engine = Engine(runner)
    sampling = SamplingParams(temperature=0.0, max_tokens=DECODE, ignore_eos=True)

    async def answer() -> tuple[float, float]:
        """Return tokens per second after the first, and the seconds until the first."""
        begun = time.perf_counter()
        times = [time.perf_counter() async for _ in engine.generate([3, 9, 27], sampling)]
        return (len(times) - 1) / (times[-1] - times[0]), times[0] - begun

    await answer()  # compiles
    paused = True
    tuning = ModelTuning(runner, None, Records())
    running = tuning.run(budget=60.0, idle=lambda: not paused and not engine.busy)
    task = asyncio.ensure_future(running)
    alone, during = [], []
    for _ in range(3):  # turn by turn, so that a machine that becomes slower disturbs both
        paused = True
        await asyncio.sleep(0.7)
        alone.append(await answer())
        paused = False
        await asyncio.sleep(0.7)
        during.append(await answer())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, CancelledError):
        await task
    await engine.close()
    alone.sort()
    during.sort()
    return {
        "bench": "tuning_decode_loss",
        "tokens_per_s_alone": round(alone[1][0], 2),
        "tokens_per_s_while_tuning": round(during[1][0], 2),
        "loss": round(1 - during[1][0] / alone[1][0], 4),
        "first_token_s_alone": round(sorted(first for _, first in alone)[1], 3),
        "first_token_s_while_tuning": round(sorted(first for _, first in during)[1], 3),
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
    tell: Callable[[Line], None],
) -> None:
    """Load a model, tune it, and tell the lines of the wanted parts.

    ``parts``: some of ``compare``, ``exhaustive``, ``loss``, ``visit`` (a second one); ``without``:
    choices that take too long here.
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
            "wall_s": round(time.perf_counter() - begun, 2),
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
        bench = await Bench.open(device, budget=600.0)
        for workload in workloads(runner):
            if workload.name not in steps:
                workload.release()
                continue
            if "compare" in parts:
                tell({**await compare(device, workload, choices, clock), **common})
            if "exhaustive" in parts:
                found = await exhaustive(device, bench, workload, records, clock)
                tell({**found, **common})
            workload.release()
        bench.release()
        if "loss" in parts:
            runner.use(default_choice)
            tell({**await decode_loss(runner), **common})
    finally:
        await runner.close()
        file.close()
