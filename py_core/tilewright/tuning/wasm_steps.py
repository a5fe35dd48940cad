"""Tunes the CPU path: the linear maps of a step as workloads, and a bench that runs them.

Real weights, inputs and results in a room of their own, one thread: between two steps nothing that
a generation needs is written. All candidates compute the same integers and add them in the same
order, so that a correct one agrees with the naive kernel to the last bit.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ..graph.ops import ExpertLinear, Graph, Linear, Rows, Weight
from ..wasm.assembler import Module, i32
from ..wasm.host import IMPORTED, SHARED, Instance, Memory
from ..wasm.instructions import without_relaxed
from ..wasm.kernels import linear, quantize
from ..wasm.kernels.packing import Dots, Packing, packing
from ..wasm.scratch import TRIAL_CALLS, TRIAL_TOKENS
from ..webgpu.kernels.kernel import Cost
from . import wasm_linear
from .bench import INSTANCES, Candidate, Measuring
from .verify import Reference, Verdict
from .wasm_linear import CpuCapabilities, CpuKernel, Shape
from .workload import Subject, total_cost

Choose = Callable[[Any, Any, Any], Any]
WARM = 0.02
"""Seconds that a candidate runs before it is timed where engines compile better code meanwhile."""
_OPERANDS = 9
"""Of a linear kernel."""
_MARK = b"\xad\xde\xc0\x7f"
"""A quiet NaN that no kernel computes."""


@dataclass(frozen=True)
class Place:
    """Where a model lies, as far as tuning needs it."""

    memory: Memory
    shared: bool
    matrices: dict[Weight, int]
    room: int
    """Address of ``scratch.trial_bytes``."""
    wide: bool
    """16-bit activations for all formats."""
    warm: bool
    """The engine compiles better code while kernels run."""
    dots: Dots = "seven"
    """The dot products that matrices are laid out for."""


@dataclass(frozen=True, eq=False)
class Run:
    """What is timed: a compiled kernel and its operands."""

    instance: Instance
    values: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a kernel."""

    kernel: CpuKernel
    run: Run
    result: tuple[int, int]
    """Address and bytes of what it writes."""


@dataclass(frozen=True)
class _Matrix:
    """One place of a step."""

    shape: Shape
    weights: int
    rows: int
    columns: int


class WasmStep:
    """The linear maps of one family of steps: ``tuner.Step`` on the CPU."""

    def __init__(
        self, name: str, place: Place, graph: Graph, capabilities: CpuCapabilities, *, many: bool
    ) -> None:
        """``many``: the maps over a prompt's tokens; else those of one token."""
        self.name = name
        self.capacity = TRIAL_TOKENS if many else 1
        self.used = self.capacity
        self._place = place
        self._capabilities = capabilities
        self._matrices = _matrices(graph, place, many=many)
        columns = max((m.columns for m in self._matrices), default=0)
        self._columns = columns
        self._row_bytes = {w: quantize.activation_bytes(columns, wide=w) for w in (False, True)}
        self._scratch = place.room + 4 * _OPERANDS * TRIAL_CALLS
        self._narrow = self._scratch + linear.SCRATCH_BYTES
        self._broad = self._narrow + self.capacity * self._row_bytes[False]
        self.out = self._broad + self.capacity * self._row_bytes[True]
        """Address of the results, f32[tokens][rows]."""
        self._made: dict[tuple[Shape, Any], Instance] = {}
        self._subjects: list[Subject] | None = None

    def use(self, tokens: int) -> None:
        """Let steps have ``tokens`` tokens."""
        self.used = min(tokens, self.capacity)

    async def fill(self) -> None:
        """Quantize random activations."""
        if not self._matrices:
            return
        module = self._module()
        quantize.add_quantize(module)
        quantize.add_quantize_wide(module)
        made = self._place.memory.instantiate(module.assemble())
        chosen = random.Random(1)
        values = array("f", (chosen.gauss(0.0, 1.0) for _ in range(self._columns)))
        # The results' room takes a row of x meanwhile.
        self._place.memory.write(self.out, values.tobytes())
        blocks, size = self._columns // 32, self._row_bytes
        for token in range(self.capacity):
            made.call("quantize", self.out, 0, blocks, 1, self._narrow + token * size[False])
            made.call("quantize_wide", self.out, 0, blocks, 1, self._broad + token * size[True])

    def subjects(self) -> list[Subject]:
        """Return the distinct kernels of the step in the order of their first use."""
        if self._subjects is None:
            places: dict[Shape, list[_Matrix]] = {}
            for matrix in self._matrices:
                places.setdefault(matrix.shape, []).append(matrix)
            self._subjects = [self._subject(shape, found) for shape, found in places.items()]
        return self._subjects

    def _subject(self, shape: Shape, matrices: Sequence[_Matrix]) -> Subject:
        def build(instance: int, tuning: Any) -> list[Call]:
            return [self._call(matrices[instance], tuning)]

        async def prepare() -> None:
            """Nothing: ``fill`` has done it."""

        return Subject(wasm_linear, shape, len(matrices), build, prepare)

    def calls(self, choose: Choose) -> list[Call]:
        """Return the calls of the whole step."""
        return [self._call(m, self._chosen(m, choose)) for m in self._matrices]

    def _chosen(self, matrix: _Matrix, choose: Choose) -> Any:
        return choose(wasm_linear, matrix.shape, self._capabilities)

    def cost(self) -> Cost:
        """Return what the whole step must move and compute."""
        return total_cost(self.calls(lambda module, shape, known: module.default(shape, known)))

    def _call(self, matrix: _Matrix, tuning: Any) -> Call:
        instance = self._instance(matrix.shape, tuning)
        wide, form = matrix.shape.linear.wide, matrix.shape.linear.packing
        x = self._broad if wide else self._narrow
        values = (
            matrix.weights,
            matrix.columns // 32,
            matrix.rows,
            x,
            self._row_bytes[wide],
            self.used,
            self.out,
            4 * matrix.rows,
            self._scratch,
        )
        products = self.capacity * matrix.rows * matrix.columns
        cost = Cost(form.nbytes(matrix.rows, matrix.columns), 2 * products)
        known = wasm_linear.kernel(matrix.shape, tuning, self._capabilities)
        result = self.out, 4 * self.used * matrix.rows
        return Call(replace(known, cost=cost), Run(instance, values), result)

    def _instance(self, shape: Shape, tuning: Any) -> Instance:
        """Return a compiled candidate. Raises KernelError where it does not compile."""
        found = self._made.get((shape, tuning))
        if found is None:
            module = self._module()
            with without_relaxed(not self._capabilities.relaxed):
                product = linear.add_linear(module, "product", shape.linear, tuning)
                f = module.function("burst", ["i32", "i32"])
                table, count = f.parameters
                with f.range(count):
                    operands = [i32.load(table, offset=4 * n) for n in range(_OPERANDS)]
                    f.do(f.call(product, *operands))
                    table.set(table + 4 * _OPERANDS)
                data = module.assemble()
            found = self._made[shape, tuning] = self._place.memory.instantiate(data)
        return found

    def _module(self) -> Module:
        return Module(SHARED if self._place.shared else IMPORTED)

    def release(self) -> None:
        """Forget the kernels."""
        self._made.clear()


def _matrices(graph: Graph, place: Place, *, many: bool) -> list[_Matrix]:
    """Return the places whose kernel is the one for many tokens, or for few."""
    found: list[_Matrix] = []
    for op in graph.ops:
        if not isinstance(op, Linear | ExpertLinear):
            continue
        form = packing(op.weight.quant, place.dots)
        over_tokens = isinstance(op, Linear) and op.out.rows is Rows.TOKENS
        if form is None or (many and not over_tokens) or op.weight not in place.matrices:
            continue
        shape = Shape(linear.Structure(form, _is_wide(form, place)), many)
        rows = op.expert_rows if isinstance(op, ExpertLinear) else op.weight.rows
        found.append(_Matrix(shape, place.matrices[op.weight], rows, op.weight.columns))
    return found


def _is_wide(form: Packing, place: Place) -> bool:
    return place.wide or form.quants == "byte"


class WasmBench(Measuring):
    """Measures on one thread of the CPU."""

    def __init__(self, place: Place, capabilities: CpuCapabilities, **options: Any) -> None:
        super().__init__(capabilities, **options)
        self._place = place

    async def record(self, label: str, calls: Sequence[Any]) -> tuple[Any, ...]:
        """Return what runs the calls."""
        await self.breathe()
        return tuple(call.run for call in calls)

    async def candidate(self, subject: Subject, tuning: Any) -> Candidate:
        """Compile a Tuning, and run it until the engine has made good code of it."""
        instances = min(subject.instances, INSTANCES)
        calls = [call for i in range(instances) for call in subject.build(i, tuning)]
        found = Candidate(tuning, await self.record("tuning", calls), instances)
        if self._place.warm:
            end = time.perf_counter() + WARM
            while time.perf_counter() < end:
                self._run(found.dispatches[:4])
        return found

    async def time(self, dispatches: Sequence[Any]) -> float:
        """Return the seconds of one burst."""
        self.bursts += 1
        seconds = self._run(dispatches)
        await self.breathe()
        return max(seconds, 1e-9)

    def _run(self, runs: Sequence[Run]) -> float:
        """Run all; those of one kernel in one call, which costs as much as a small matrix."""
        seconds = 0.0
        for _, group in groupby(runs, key=lambda run: id(run.instance)):
            found = list(group)
            for first in range(0, len(found), TRIAL_CALLS):
                piece = found[first : first + TRIAL_CALLS]
                table = array("I", (value for run in piece for value in run.values))
                self._place.memory.write(self._place.room, table.tobytes())
                begun = time.perf_counter()
                piece[0].instance.call("burst", self._place.room, len(piece))
                seconds += time.perf_counter() - begun
        return seconds

    async def expected(self, subject: Subject, naive: Any) -> Reference:
        """Return what the naive kernel writes."""
        await subject.prepare()
        return Reference(await self._results(subject, naive))

    async def verdict(self, subject: Subject, expected: Reference, tuning: Any) -> Verdict:
        """Hold a Tuning's results against the naive kernel's: they must be the same bits."""
        same = await self._results(subject, tuning) == expected.results
        return Verdict(same, 0.0 if same else float("inf"))

    async def _results(self, subject: Subject, tuning: Any) -> bytes:
        """Run a kernel with its results marked before."""
        (call,) = subject.build(0, tuning)
        at, length = call.result
        self._place.memory.write(at, _MARK * (length // 4))
        self._run([call.run])
        found = self._place.memory.read(at, length)
        await self.breathe()
        return found

    def release(self) -> None:
        """Nothing is held."""
