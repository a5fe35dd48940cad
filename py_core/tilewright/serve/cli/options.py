"""Arguments and helpers that several subcommands share."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

from ...engine.sampling import SamplingParams
from ...errors import InvalidRequestError
from ...formats.requantized import TARGETS
from ...webgpu.kernels.linear import ARITHMETICS
from ...webgpu.memory import Progress
from ..chat import ChatModel, LoadOptions

_MODEL = "a .gguf file (the first of a split set), a folder, or hf:org/repo[:QUANT|/file]"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add MODEL and how it is loaded."""
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    add_loading(parser)


def add_either_model(parser: argparse.ArgumentParser) -> None:
    """Add MODEL or --model MODEL, for a command without other positional arguments."""
    either = parser.add_mutually_exclusive_group(required=True)
    unset: Any = argparse.SUPPRESS  # a default would undo the other form
    either.add_argument("model", nargs="?", metavar="MODEL", default=unset, help=_MODEL)
    either.add_argument("--model", metavar="MODEL", default=unset, help="the same")
    add_loading(parser)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Add how a model is loaded."""
    parser.add_argument("--context", type=int, help="positions per sequence")
    parser.add_argument(
        "--kv",
        choices=("f32", "f16", "q8_0"),
        help="format of the KV cache (default: f32 where that is small, else f16)",
    )
    parser.add_argument(
        "--arithmetic",
        choices=ARITHMETICS,
        default="f32",
        help="of products on the GPU; int8, f16: activations rounded (Q4_0, Q4_K, Q8_0 weights)",
    )
    parser.add_argument(
        "--quantize", choices=TARGETS, help="encode F32, F16 and BF16 matrices while loading"
    )
    parser.add_argument(
        "--memory-budget",
        type=int,
        metavar="MB",
        help="device memory to keep to: layers beyond it are read for every token",
    )
    parser.add_argument(
        "--adapter", metavar="PATH", help="a LoRA adapter: a .gguf file or a PEFT folder"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the choice between GPU and CPU."""
    parser.add_argument(
        "--backend",
        choices=("webgpu", "wasm"),
        help="webgpu, or wasm: the CPU, through wasmtime (pip install 'tilewright[cpu]'); "
        "default: what there is, else what a short measurement finds faster",
    )
    parser.add_argument("--threads", type=int, help="of the CPU backend (default: as suits)")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the sampling parameters."""
    add = parser.add_argument
    add("--max-tokens", type=int, default=256)
    add("--temperature", type=float, default=0.8, help="0: always the likeliest token")
    add("--top-k", type=int, default=0, help="0: off")
    add("--top-p", type=float, default=1.0)
    add("--min-p", type=float, default=0.0)
    add("--repetition-penalty", type=float, default=1.0)
    add("--frequency-penalty", type=float, default=0.0)
    add("--presence-penalty", type=float, default=0.0)
    add("--seed", type=int, help="the same seed gives the same text")
    add("--logprobs", type=int, metavar="N", help="log-probabilities of the N likeliest tokens")
    add("--stop", action="append", default=[], metavar="TEXT", help="ends the answer")
    add("--ignore-eos", action="store_true", help="go on after the model's end token")


def sampling_of(arguments: argparse.Namespace) -> SamplingParams:
    """Build the sampling parameters of a command line."""
    return SamplingParams(
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        frequency_penalty=arguments.frequency_penalty,
        presence_penalty=arguments.presence_penalty,
        seed=random.getrandbits(32) if arguments.seed is None else arguments.seed,
        logprobs=arguments.logprobs,
        max_tokens=arguments.max_tokens,
        ignore_eos=arguments.ignore_eos,
        adapter=None if arguments.adapter is None else Path(arguments.adapter).stem,
    )


async def load(arguments: argparse.Namespace, **changes: Any) -> ChatModel:
    """Load MODEL with a progress bar on standard error."""
    given: dict[str, Any] = {
        "context_length": arguments.context,
        "kv": arguments.kv,
        "quantize": arguments.quantize,
        "arithmetic": arguments.arithmetic,
        "memory_budget": arguments.memory_budget and arguments.memory_budget * 1_000_000,
        "backend": getattr(arguments, "backend", None),
        "threads": getattr(arguments, "threads", None),
    }
    given.update(changes)
    bar = ProgressBar(enabled=sys.stderr.isatty() and not arguments.quiet)
    path = await local_path(arguments.model, quiet=arguments.quiet)
    model = await ChatModel.load(path, options=LoadOptions(**given), on_progress=bar.show)
    bar.close()
    if arguments.adapter is not None:
        try:
            await model.add_adapter(arguments.adapter)
        except BaseException:
            await model.close()
            raise
    return model


class ProgressBar:
    """One line on standard error: bytes, speed and seconds left."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._last = 0.0

    def show(self, progress: Progress) -> None:
        """Redraw, at most ten times a second."""
        now = time.perf_counter()
        if not self._enabled or (now - self._last < 0.1 and progress.done < progress.total):
            return
        self._last = now
        share = progress.done / progress.total if progress.total else 1.0
        speed = progress.done / progress.seconds if progress.seconds else 0.0
        left = (progress.total - progress.done) / speed if speed else 0.0
        bar = "#" * int(30 * share)
        print(
            f"\r{progress.phase} [{bar:<30}] {progress.done / 1e6:.1f}/{progress.total / 1e6:.1f} "
            f"MB  {speed / 1e6:.0f} MB/s  {left:.0f} s left ",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Clear the line."""
        if self._enabled and self._last:
            print("\r" + " " * 79 + "\r", end="", file=sys.stderr, flush=True)


async def local_path(model: str, *, quiet: bool = True) -> str:
    """Return where MODEL lies on this machine; what ``hf:`` names is fetched where it is not."""
    if not model.startswith("hf:"):
        return model
    from ..hub.pull import on_this_machine

    bar = ProgressBar(enabled=sys.stderr.isatty() and not quiet)
    try:
        return str(await on_this_machine(model, bar.show))
    finally:
        bar.close()


def read_text(path: str) -> str:
    """Return the text of a file, or of standard input for ``-``."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(
            f"{path} cannot be read ({error.strerror}): check the path."
        ) from error
    return data.decode("utf-8", errors="replace")
