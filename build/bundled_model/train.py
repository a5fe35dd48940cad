"""Training: streams the corpus through the model for a given time, resumable at any point.

Schedule: warm-up, constant rate, then a linear decay over the last third (warm-up, stable,
decay: a run can be lengthened by going on from the checkpoint before the decay, ``stable.pt``).
Time is the budget, not steps, because the same command runs on two shared cores and on a GPU.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from .batches import IGNORED, batches
from .model import Config, Model
from .optimizer import Optimizer
from .scoring import held_out_chats, score
from .tokenizer import Tokenizer

Pair = tuple[torch.Tensor, torch.Tensor]
WARM_UP_STEPS = 60
DECAY_SHARE = 0.35
FLOOR = 0.03
SAVE_SECONDS = 180.0
SCORE_SECONDS = 600.0


def rate(step: int, progress: float) -> float:
    """The learning-rate factor in [0, 1]."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    decay = max(FLOOR, min(1.0, (1.0 - progress) / DECAY_SHARE))
    return warm * decay


def device_and_batch() -> tuple[torch.device, int, int]:
    """(device, tokens per micro-batch, micro-batches per step)."""
    if torch.cuda.is_available():
        return torch.device("cuda"), 32768, 1
    return torch.device("cpu"), 1792, 2


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill in the middle leaves the old one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def save_compact(path: Path, model: Model, progress: dict[str, Any]) -> None:
    """Weights only, in bf16: small enough for the repository, good enough to go on from."""
    weights = {name: tensor.to(torch.bfloat16).cpu() for name, tensor in model.state_dict().items()}
    torch.save({"weights": weights, "config": model.config.as_dict(), **progress}, path)


def train(
    folder: Path, tokenizer: Tokenizer, minutes: float, seed: int = 1, start: Path | None = None
) -> None:
    """Train until ``minutes`` of training time are spent; earlier runs' time counts.

    ``folder/last.pt`` is continued where it exists; otherwise weights come from ``start`` (a
    compact checkpoint) or from chance.
    """
    torch.manual_seed(seed)
    device, tokens, accumulate = device_and_batch()
    workers = None
    if device.type == "cpu":
        torch.set_num_threads(accumulate)
        workers = ThreadPoolExecutor(accumulate, initializer=lambda: torch.set_num_threads(1))
    model = Model(Config(vocabulary=len(tokenizer.tokens))).to(device)
    optimizer = Optimizer(model)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "pool": seed * 1_000_000}
    last = folder / "last.pt"
    folder.mkdir(parents=True, exist_ok=True)
    if last.exists():
        saved = torch.load(last, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = saved["state"]
        state["pool"] += 1  # the interrupted pool was seen in part: do not learn it twice
    elif start is not None:
        saved = torch.load(start, map_location=device, weights_only=True)
        model.load_state_dict(saved["weights"])
        state["pool"] = saved["pool"]
    log = (folder / "log.jsonl").open("a", encoding="utf-8")
    check = held_out_chats(tokenizer, 60)
    budget = minutes * 60
    begun = time.monotonic() - state["seconds"]
    saved_at = scored_at = time.monotonic()
    stable_saved = False
    losses: list[float] = []
    for _ in count():
        if state["seconds"] >= budget:
            break
        pending: list[Pair] = []
        for pair in batches(tokenizer, state["pool"], min(1.0, state["seconds"] / budget), tokens):
            pending.append(pair)
            if len(pending) < accumulate:
                continue
            progress = state["seconds"] / budget
            losses.append(
                _step(model, optimizer, pending, device, rate(state["step"], progress), workers)
            )
            state["tokens"] += sum(inputs.numel() for inputs, _ in pending)
            pending = []
            state["step"] += 1
            now = time.monotonic()
            state["seconds"] = now - begun
            if state["step"] % 25 == 0:
                line = {
                    "step": state["step"],
                    "seconds": round(state["seconds"]),
                    "tokens": state["tokens"],
                    "loss": round(sum(losses) / len(losses), 4),
                    "rate": round(rate(state["step"], progress), 3),
                }
                losses = []
                log.write(json.dumps(line) + "\n")
                log.flush()
            if not stable_saved and progress > 1 - DECAY_SHARE:
                save(
                    folder / "stable.pt",
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "state": state,
                    },
                )
                stable_saved = True
            if now - scored_at > SCORE_SECONDS:
                scored_at = now
                log.write(
                    json.dumps(
                        {
                            "step": state["step"],
                            "seconds": round(state["seconds"]),
                            "held_out": score(model, check, device),
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
            if state["seconds"] >= budget:
                break
        state["pool"] += 1
    save(last, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state})
    log.write(
        json.dumps(
            {
                "step": state["step"],
                "seconds": round(state["seconds"]),
                "held_out": score(model, check, device),
            }
        )
        + "\n"
    )
    log.close()


def _gradients(
    model: Model, pair: Pair, learned: int, device: torch.device
) -> tuple[float, tuple[torch.Tensor, ...]]:
    """(loss, gradients in parameter order) of one micro-batch, its share of ``learned`` tokens."""
    inputs, targets = pair[0].to(device), pair[1].to(device)
    with torch.autocast(device.type, torch.bfloat16):
        hidden = model(inputs)
        wanted = targets != IGNORED
        logits = model.logits(hidden[wanted])
    loss = functional.cross_entropy(logits.float(), targets[wanted], reduction="sum") / learned
    return float(loss.detach()), torch.autograd.grad(loss, list(model.parameters()))


def _step(
    model: Model,
    optimizer: Optimizer,
    pairs: list[Pair],
    device: torch.device,
    scale: float,
    workers: ThreadPoolExecutor | None,
) -> float:
    """Forward, backward and update over micro-batches; the mean loss per learned token.

    On a CPU each micro-batch runs on a thread of its own that computes with one core: nothing waits
    for a preempted neighbour but the end of the step, which matters on a shared machine.
    """
    learned = sum(int((targets != IGNORED).sum()) for _, targets in pairs)

    def one(pair: Pair) -> tuple[float, tuple[torch.Tensor, ...]]:
        return _gradients(model, pair, learned, device)

    results = list(workers.map(one, pairs) if workers else map(one, pairs))
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = results[0][1][index]
        for _, gradients in results[1:]:
            parameter.grad += gradients[index]
    optimizer.step(scale)
    return sum(loss for loss, _ in results)
