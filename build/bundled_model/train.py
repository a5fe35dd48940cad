"""Training: streams the corpus through the model for a given time, resumable at any point.

Schedule: warm-up, then a linear decay (a constant rate before it where DECAY_SHARE is below 1:
such a run can be lengthened from the checkpoint before the decay, ``stable.pt``).
Time is the budget, not steps, because the same command runs on two shared cores and on a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from . import checkpoint
from .batches import CALL, IGNORED, POOL, Pools
from .config import Config
from .model import Model, fuse, has_fast_bf16
from .optimizer import Optimizer
from .scoring import held_out_chats, refusal_id, score
from .tokenizer import Tokenizer

Pair = tuple[torch.Tensor, torch.Tensor]
WARM_UP_STEPS = 60
PEAK = 1.0
DECAY_SHARE = 0.6
FLOOR = 0.02
DECISION, NAME = 6.0, 3.0
"""Weights of an answer's first token and of the first token of a function's name."""
CALL_HEAD = 6
"""The tokens from <tool_call> to the name."""
SAVE_SECONDS = 120.0
HARD, CHANCE = 0.3, 0.1
"""Shares of the conversations that are learned from (:func:`hardest`)."""


def rate(step: int, progress: float) -> float:
    """The learning-rate factor in [0, 1]."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    decay = max(FLOOR, min(1.0, (1.0 - progress) / DECAY_SHARE))
    return PEAK * warm * decay


@dataclass(frozen=True)
class Machine:
    """What a device takes at a time."""

    device: torch.device
    tokens: int
    """Of a micro-batch, before the hardest are chosen."""
    accumulate: int
    """Micro-batches of a step."""
    makers: int = 0
    """Processes that make the corpus beforehand."""
    pool: int = POOL
    """Conversations among which those of like length are put together."""
    score_seconds: float = 600.0
    """Between two scores on the held-out conversations."""


def this_machine() -> Machine:
    """A GPU with all cores making its corpus, or the cores."""
    if torch.cuda.is_available():
        makers = max(1, len(os.sched_getaffinity(0)) - 1)
        return Machine(torch.device("cuda"), 32768, 1, makers, 4 * POOL, 45.0)
    if has_fast_bf16("cpu"):
        return Machine(torch.device("cpu"), 10240, 2, 1, 2 * POOL)
    return Machine(torch.device("cpu"), 2560, 6, 1)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill in the middle leaves the old one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def save_compact(path: Path, model: Model, progress: dict[str, Any]) -> None:
    """Weights only, in bf16: small enough for the repository, good enough to go on from."""
    weights = {name: tensor.float().cpu().numpy() for name, tensor in model.state_dict().items()}
    checkpoint.save(path, weights, {"config": model.config.as_dict(), **progress})


def compact(folder: Path, path: Path, tokenizer: Tokenizer) -> None:
    """Write the compact form of ``folder/last.pt``."""
    saved = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    model = Model(Config(vocabulary=len(tokenizer.tokens)))
    model.load_state_dict(saved["model"])
    save_compact(path, model, saved["state"])


def train(
    folder: Path,
    vocabulary: Path,
    minutes: float,
    seed: int = 1,
    start: Path | None = None,
    pause: float | None = None,
) -> None:
    """Train until ``minutes`` of training time are spent; earlier runs' time counts.

    After ``pause`` minutes of this run it stops, to be gone on with, where a machine is lent for
    less time than the schedule has.

    ``folder/last.pt`` is continued where it exists; otherwise weights come from ``start`` (a
    compact checkpoint) or from chance.  ``vocabulary`` is the tokenizer's file.
    """
    torch.manual_seed(seed)
    machine = this_machine()
    device, tokenizer = machine.device, Tokenizer.load(vocabulary)
    pools = Pools(vocabulary, machine.tokens, machine.makers, machine.pool)
    workers = None
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(cores)
        if has_fast_bf16("cpu") and shutil.which("g++"):
            fuse()
        else:
            workers = ThreadPoolExecutor(cores, initializer=lambda: torch.set_num_threads(1))
    model = Model(Config(vocabulary=len(tokenizer.tokens))).to(device)
    optimizer = Optimizer(model)
    state: dict[str, Any] = {
        "step": 0,
        "seconds": 0.0,
        "tokens": 0,
        "seen": 0,
        "pool": seed * 1_000_000,
    }
    last = folder / "last.pt"
    folder.mkdir(parents=True, exist_ok=True)
    if last.exists():
        saved = torch.load(last, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = saved["state"]
        state["pool"] += 1  # the interrupted pool was seen in part: do not learn it twice
    elif start is not None:
        weights, notes = checkpoint.load(start)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        state["pool"] = notes["pool"]
    log = (folder / "log.jsonl").open("a", encoding="utf-8")
    check = held_out_chats(tokenizer, 60)
    refusal = refusal_id(tokenizer)
    budget = minutes * 60
    begun = time.monotonic() - state["seconds"]
    until = min(budget, state["seconds"] + pause * 60) if pause else budget
    saved_at = scored_at = time.monotonic()
    stable_saved = False
    losses: list[float] = []
    for _ in count():
        if state["seconds"] >= until:
            break
        pending: list[Pair] = []
        for pair in pools.take(state["pool"], min(1.0, state["seconds"] / budget)):
            pending.append(pair)
            if len(pending) < machine.accumulate:
                continue
            progress = state["seconds"] / budget
            loss, tokens = _step(
                model, optimizer, pending, device, rate(state["step"], progress), workers
            )
            losses.append(loss)
            state["tokens"] += tokens
            state["seen"] += sum(inputs.numel() for inputs, _ in pending)
            pending = []
            state["step"] += 1
            now = time.monotonic()
            state["seconds"] = now - begun
            if state["step"] % 25 == 0:
                line = {
                    "step": state["step"],
                    "seconds": round(state["seconds"]),
                    "tokens": state["tokens"],
                    "seen": state["seen"],
                    "loss": round(sum(losses) / len(losses), 4),
                    "rate": round(rate(state["step"], progress), 3),
                }
                losses = []
                log.write(json.dumps(line) + "\n")
                log.flush()
            if DECAY_SHARE < 1 and not stable_saved and progress > 1 - DECAY_SHARE:
                save(
                    folder / "stable.pt",
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "state": state,
                    },
                )
                stable_saved = True
            if now - scored_at > machine.score_seconds:
                scored_at = now
                log.write(
                    json.dumps(
                        {
                            "step": state["step"],
                            "seconds": round(state["seconds"]),
                            "held_out": score(model, check, device, refusal),
                        }
                    )
                    + "\n"
                )
                log.flush()
            if now - saved_at > SAVE_SECONDS:
                saved_at = now
                save(
                    last,
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "state": state,
                    },
                )
            if state["seconds"] >= until:
                break
        state["pool"] += 1
    save(last, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state})
    log.write(
        json.dumps(
            {
                "step": state["step"],
                "seconds": round(state["seconds"]),
                "held_out": score(model, check, device, refusal),
            }
        )
        + "\n"
    )
    log.close()
    pools.close()


def emphasis(targets: torch.Tensor) -> torch.Tensor:
    """The weight of each token's loss, f32[B, T] from targets i64[B, T].

    What decides an answer is one token of thirty: its first one (a call or a refusal) and the first
    one of a function's name.  Without emphasis refusals were not learned at all.
    """
    first = _first(targets)
    name = torch.zeros_like(first)
    name[:, CALL_HEAD:] = (first & (targets == CALL))[:, :-CALL_HEAD]
    return 1.0 + (DECISION - 1.0) * first + (NAME - 1.0) * name


def _first(targets: torch.Tensor) -> torch.Tensor:
    """bool[B, T]: where an answer begins."""
    first = targets != IGNORED
    first[:, 1:] &= targets[:, :-1] == IGNORED
    return first


def hardest(model: Model, pair: Pair, device: torch.device) -> Pair:
    """HARD of a micro-batch's conversations, with the most to learn, and CHANCE of the others.

    Where most answers are right already, a forward pass finds those that are not for a third of
    what learning from them costs (Jiang et al. 2019, "Accelerating deep learning by focusing on
    the biggest losers").  Only conversations with calls are compared: the loss of a story says how
    free its words are, not what was missed.  First tokens do not count, so that refusals keep their
    share.
    """
    inputs, targets = pair[0].to(device), pair[1].to(device)
    amount = round(len(inputs) * HARD)
    scores = torch.zeros(len(inputs), device=device)
    wanted = targets != IGNORED
    if bool((targets == CALL).any()):
        with torch.no_grad():
            losses = torch.zeros(targets.shape, device=device)
            losses[wanted] = _losses(model, inputs, targets)
        scores = (losses * ~_first(targets)).sum(1)
    order = scores.argsort(descending=True)
    rest = order[amount:]
    drawn = rest[torch.randperm(len(rest), device=device)[: max(1, round(len(inputs) * CHANCE))]]
    kept = torch.cat((order[:amount], drawn))
    length = -(-int(wanted[kept].nonzero()[:, 1].max() + 1) // 8) * 8
    return inputs[kept, :length], targets[kept, :length]


def _losses(model: Model, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """f32[W]: the emphasized loss of each learned token."""
    kind = inputs.device.type
    wanted = targets != IGNORED
    with torch.autocast(kind, torch.bfloat16, enabled=has_fast_bf16(kind)):
        logits = model.logits(model(inputs, wanted=wanted))
    losses = functional.cross_entropy(logits.float(), targets[wanted], reduction="none")
    return losses * emphasis(targets)[wanted]


@dataclass(frozen=True)
class _Part:
    """What one micro-batch gives: sums over its learned tokens."""

    loss: float
    learned: int
    tokens: int
    """Of the inputs that were learned from."""
    gradients: tuple[torch.Tensor, ...]
    """In parameter order."""


def _gradients(model: Model, pair: Pair, device: torch.device) -> _Part:
    """Loss and gradients of the hardest conversations of one micro-batch."""
    inputs, targets = hardest(model, pair, device)
    losses = _losses(model, inputs, targets)
    gradients = torch.autograd.grad(losses.sum(), list(model.parameters()))
    return _Part(float(losses.detach().sum()), len(losses), inputs.numel(), gradients)


def _step(
    model: Model,
    optimizer: Optimizer,
    pairs: list[Pair],
    device: torch.device,
    scale: float,
    workers: ThreadPoolExecutor | None,
) -> tuple[float, int]:
    """One update over micro-batches: (mean emphasized loss of what was learned from, its tokens).

    On a CPU each micro-batch runs on a thread of its own that computes with one core: nothing waits
    for a preempted neighbour but the end of the step, which matters on a shared machine.
    """

    def one(pair: Pair) -> _Part:
        return _gradients(model, pair, device)

    parts = list(workers.map(one, pairs) if workers else map(one, pairs))
    learned = sum(part.learned for part in parts)
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = parts[0].gradients[index]
        for part in parts[1:]:
            parameter.grad += part.gradients[index]
        parameter.grad /= learned
    optimizer.step(scale, workers)
    return sum(part.loss for part in parts) / learned, sum(part.tokens for part in parts)
