"""A load on the CPU path that begins with what an earlier one left beside the stored model.

Kept are the plan, the module, and how the memory is filled; in a page the store fills it while
Python starts (``web/src/store/prepared.ts``, which also answers for key and wholeness). Natively
nothing is kept. What is read back makes nothing but this package's own dataclasses and numbers:
anything else is refused.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..errors import SourceError
from ..formats.model_file import ModelFile
from ..wasm import host, recipe, weights
from ..wasm.state import rope_table_bytes
from .wasm_program import Plan, Program

if TYPE_CHECKING:
    from .wasm_runner import WasmRunner

_PACKAGE = __name__.rpartition(".engine.")[0] + "."


@dataclass(frozen=True)
class Prepared:
    """What an earlier load left."""

    plan: Plan
    program: Program
    memory: host.Memory | None
    """Being filled; None where it must be made and filled as ever."""
    filled: Callable[[], Awaitable[int | None]]
    """Bytes of the file read for it, after a moment; None once it is filled."""

    async def weights_are_there(self, report: weights.Report | None = None) -> bool:
        """Wait for the memory; whether it was filled. Raises CancelledError, SourceError."""
        if self.memory is None:
            return False
        begun, total = time.perf_counter(), self.plan.weights_bytes
        try:
            while (done := await self.filled()) is not None:
                if report is not None:
                    report(min(done, total), total, time.perf_counter() - begun)
        except SourceError:
            return False  # read in the usual way, which says what is wrong
        if report is not None:
            report(total, total, time.perf_counter() - begun)
        return True


def restore(file: ModelFile) -> Prepared | None:
    """Return what was kept for a file; None where there is nothing, or nothing sound."""
    begun = getattr(file.sources[0], "begun", None)
    if begun is None:
        return None
    with contextlib.suppress(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError):
        plan, calls, functions, tunings = _Reader(io.BytesIO(begun.python)).load()
        if isinstance(plan, Plan):
            program = Program(begun.program, calls, functions, tunings)
            memory = None if begun.js_memory is None else _adopted(begun.js_memory)
            return Prepared(plan, program, memory, begun.filled)
    return None


async def forget(file: ModelFile) -> None:
    """Let the next load of a file begin with nothing."""
    prepare = getattr(file.sources[0], "prepare", None)
    if prepare is not None:
        await prepare("")


def _adopted(js_memory: Any) -> host.Memory:
    from ..wasm.browser import BrowserMemory

    return BrowserMemory.adopt(js_memory)


async def keep(file: ModelFile, runner: WasmRunner) -> bool:
    """Keep what a load found out, where the file is stored; whether it was kept.

    Not of models of several files, nor of those whose layers are streamed.
    """
    prepare = getattr(file.sources[0], "prepare", None)
    plan = runner.plan
    if prepare is None or runner.restored or len(file.sources) > 1 or runner.streamer:
        return False
    loader = weights.Loader(runner.memory, plan.own.weights, file, shared=plan.threads > 1)
    context = plan.own.context_length
    ropes = [(at, len(rope_table_bytes(t, context))) for t, at in plan.own.ropes.items()]
    written = recipe.write_recipe(loader, ropes, shared=plan.threads > 1)
    program = runner.first_program
    python = pickle.dumps((plan, program.calls, program.functions, program.tunings), 5)
    parts = written.layout, written.data, program.module, python
    return bool(await prepare(written.text, *parts))


class _Reader(pickle.Unpickler):
    """Reads what is made of dataclasses and enumerations of this package only."""

    def find_class(self, module: str, name: str) -> Any:
        """Return such a class. Raises UnpicklingError for everything else."""
        if module.startswith(_PACKAGE) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum)):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a plan")
