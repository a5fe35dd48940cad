"""Chooses what no single kernel shows: fusion of decode steps, steps in flight, size of a chunk.

Times whole tokens after the kernels are tuned. The choice is one more record, under a key that also
covers the model's graph; ids do not depend on it. Knows runners and records; no sequences.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import KernelError, OutOfMemoryError
from ..graph.fuse import FusionPlan
from ..graph.ops import Graph, Rows
from ..tuning import space
from ..tuning.bench import Bench
from ..tuning.search import GAIN
from ..tuning.store import Record, Records
from ..tuning.tuner import Tuner
from ..tuning.workload import Workload
from ..webgpu.plan import Plan, record
from ..webgpu.replay import replayer
from .families import PREFILL_BUCKETS, Family
from .runner import ModelRunner

MODULE = "whole_tokens"
"""What a record of this kind says in the place of a kernel module."""
_DEPTHS = (3, 1, 2, 4, 6)
"""The first is the default."""
_TURNS = 3
"""Times that each is timed, in turn."""
_TOKENS = 6
"""Tokens of one run with steps in flight."""
_TILE = 8
"""Tokens of a prompt that cost about what a decode step does, on a slow device."""
_PATIENCE = 1.0
"""Seconds of a chunk from which on a smaller one is taken without measuring: others, and who wants
to stop, wait for its end."""


@dataclass(frozen=True)
class TokenTuning:
    """How whole tokens are computed."""

    norm: bool = True
    """Decode: norms are computed in the matrices that read them."""
    post_norm: bool = True
    """Decode: sums with a norm of what is added, likewise."""
    depth: int = _DEPTHS[0]
    """Decode steps in flight."""
    chunk: int = PREFILL_BUCKETS[-1]
    """Most tokens of a prompt in one step."""


def candidates() -> list[TokenTuning]:
    """Return all that a record may name."""
    fusions = ((True, True), (True, False), (False, False))
    chunks = PREFILL_BUCKETS[1:]
    return [TokenTuning(*f, depth, chunk) for f in fusions for depth in _DEPTHS for chunk in chunks]


def key(runner: ModelRunner, records: Records) -> str:
    """Return the complete key: environment, device, the graph as it is without a choice."""
    parts = {
        "version": space.RECORD_VERSION,
        "environment": records.environment,
        "capabilities": asdict(runner.device.capabilities),
        "module": MODULE,
        "arithmetic": runner.state.arithmetic,
        "graph": hashlib.sha256(repr(_default_graphs(runner)["decode"].ops).encode()).hexdigest(),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _default_graphs(runner: ModelRunner) -> Mapping[Family, Graph]:
    return runner.graphs if runner.fused is None else runner.fused(FusionPlan())


def tunable(runner: ModelRunner) -> bool:
    """Return whether there is anything to choose: not for encoders, nor while layers stream in."""
    return not runner.encoder and runner.fused is not None and runner.streamer is None


def chosen(runner: ModelRunner, records: Records) -> TokenTuning | None:
    """Return what is recorded for this model, or None."""
    if not len(records) or not tunable(runner):
        return None
    wanted = key(runner, records)
    kept = next((found for found in records if found.key == wanted), None)
    if kept is None:
        return None
    return next((t for t in candidates() if space.name(t) == kept.tuning), None)


def use(runner: ModelRunner, tuning: TokenTuning) -> None:
    """Let a runner compute decode steps so, from the next step on."""
    if runner.fused is not None:
        graphs = runner.fused(_fusion(tuning))
        runner.use_graphs({"decode": graphs["decode"]})


def decode_graph(runner: ModelRunner, records: Records) -> Graph:
    """Return the graph by which decode steps are computed from the next one on."""
    found = chosen(runner, records)
    if found is None or runner.fused is None:
        return runner.graphs["decode"]
    return runner.fused(_fusion(found))["decode"]


def _fusion(tuning: TokenTuning) -> FusionPlan:
    return FusionPlan(norm=tuning.norm, post_norm=tuning.post_norm)


async def tune(runner: ModelRunner, records: Records, bench: Bench, tuner: Tuner) -> None:
    """Time whole tokens and record the best way, unless it is known or no kernel was timed."""
    if not tunable(runner) or not bench.bursts or chosen(runner, records) is not None:
        return
    best = TokenTuning()
    if bench.left <= 0:  # as it is, so that the next visit measures nothing
        records.put(_record(runner, records, bench, best, 0.0, 0.0))
        return
    best, seconds, default = await _fusions(runner, records, bench, tuner, best)
    depth = await _depth(runner, records, bench, best, seconds)
    chunk = await _chunk(runner, records, bench, seconds)
    found = replace(best, depth=depth, chunk=chunk)
    records.put(_record(runner, records, bench, found, seconds, default))


def _record(
    runner: ModelRunner,
    records: Records,
    bench: Bench,
    found: TokenTuning,
    seconds: float,
    default: float,
) -> Record:
    return Record(
        key=key(runner, records),
        module=MODULE,
        label=f"whole tokens of {runner.graphs['decode'].layers} layers",
        tuning=space.name(found),
        seconds=seconds,
        default_seconds=default,
        naive_seconds=default,
        tried=len(_DEPTHS) if seconds else 0,
        candidates=len(candidates()),
        adapter=bench.capabilities.key,
    )


def _decode(runner: ModelRunner, graph: Graph) -> Workload:
    rows = dict.fromkeys(Rows, 1)
    found = Workload("decode", runner.device, graph, runner.state, rows, runner.context_length)
    found.use(1)
    return found


async def _fusions(
    runner: ModelRunner, records: Records, bench: Bench, tuner: Tuner, best: TokenTuning
) -> tuple[TokenTuning, float, float]:
    """Return the best fusion, the seconds of its token, and of one with the default."""
    graphs: dict[TokenTuning, Graph] = {}
    assert runner.fused is not None
    for tuning in candidates():
        candidate = replace(tuning, depth=best.depth, chunk=best.chunk)
        graph = runner.fused(_fusion(candidate))["decode"]
        if graph not in graphs.values():
            graphs[candidate] = graph
    least: dict[TokenTuning, float] = {}
    steps: dict[TokenTuning, Workload] = {}
    try:
        plans = {}
        for candidate, graph in graphs.items():
            try:
                steps[candidate] = _decode(runner, graph)
                calls = steps[candidate].calls(records.choose)
                plans[candidate] = await bench.record("whole token", calls)
            except (KernelError, OutOfMemoryError):
                if candidate == best:
                    raise
        for turn in range(1 + _TURNS):
            for candidate, dispatches in plans.items():
                took = await bench.time(dispatches)
                if turn or candidate == best:  # the first may compile
                    least[candidate] = min(least.get(candidate, took), took)
                if bench.left < len(plans) * least[best]:
                    break
            if bench.left < len(plans) * least[best]:
                break
        default = least[best]
        found = min(least, key=lambda candidate: least[candidate])
        if least[found] >= GAIN * default:
            found = best
        if found != best:
            await tuner.tune([steps[found]], bench.left / 2)
            tuner.keep_defaults(steps[found])
        return found, least[found], default
    finally:
        for step in steps.values():
            step.release()


async def _depth(
    runner: ModelRunner, records: Records, bench: Bench, best: TokenTuning, seconds: float
) -> int:
    """Return the least steps in flight that are as fast as any."""
    device = runner.device
    if bench.left < 2 * len(_DEPTHS) * _TOKENS * seconds or runner.fused is None:
        return best.depth
    step = _decode(runner, runner.fused(_fusion(best))["decode"])
    replay = replayer(device, 256, max(_DEPTHS))
    try:
        plan = await record(device, "steps in flight", step.calls(records.choose))
        least: dict[int, float] = {}
        for _ in range(2):
            for depth in _DEPTHS:
                began = time.perf_counter()
                await _tokens(replay, plan, step, depth)
                took = time.perf_counter() - began
                await bench.breathe()
                least[depth] = min(least.get(depth, took), took)
        enough = min(least.values()) / GAIN
        if least[best.depth] <= enough:
            return best.depth
        return min(depth for depth, took in least.items() if took <= enough)
    finally:
        replay.release()
        step.release()


async def _tokens(replay: Any, plan: Plan, step: Workload, depth: int) -> None:
    """Compute some tokens with ``depth`` read-backs on their way."""
    for _ in range(_TOKENS):
        if replay.pending >= depth:
            await replay.fetch()
        replay.submit([plan], step.result)
    while replay.pending:
        await replay.fetch()


async def _chunk(runner: ModelRunner, records: Records, bench: Bench, token: float) -> int:
    """Return the size of a chunk with the least time per token; the least where all take long.

    ``token``: seconds of a decode step, at least as many as a prompt's token takes in a chunk.
    """
    sizes = [size for size in PREFILL_BUCKETS[1:] if size <= runner.prefill_chunk]
    if len(sizes) < 2:
        return PREFILL_BUCKETS[-1]
    if sizes[0] * token / _TILE > min(_PATIENCE, bench.left / 3):
        return sizes[0]
    each: dict[int, float] = {}
    for size in sizes:
        if each and min(each.values()) * size > min(_PATIENCE, bench.left / 3):
            break
        rows = {**dict.fromkeys(Rows, 1), Rows.TOKENS: size}
        graph = runner.graphs["prefill"]
        step = Workload("prefill", runner.device, graph, runner.state, rows, runner.context_length)
        try:
            step.use(size)
            plan = await bench.record("whole chunk", step.calls(records.choose))
            times = [await bench.time(plan)]
            if times[0] < bench.left:
                times += [await bench.time(plan)]
            each[size] = min(times) / size
        finally:
            step.release()
    # the larger one has to be worth the wait
    return min(each, key=lambda size: each[size] * (1 if size == sizes[0] else 1 / GAIN))
