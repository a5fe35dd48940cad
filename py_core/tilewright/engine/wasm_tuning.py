"""What tuning means on the CPU path: where a model lies, its steps, its records."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph.ops import Graph
from ..tuning import wasm_linear
from ..tuning.store import FolderStorage, Records, Storage, Store
from ..tuning.wasm_linear import CpuCapabilities, Shape
from ..tuning.wasm_steps import Place, WasmStep
from ..wasm import host, kernel_set
from ..wasm.kernels import linear
from .families import Family
from .wasm_program import Plan
from .wasm_runner import WasmRunner


def capabilities_of(machine: host.Host) -> CpuCapabilities:
    """Return what kernels and records know of a machine."""
    key = f"wasm|{machine.cores}|{'relaxed' if machine.relaxed else 'plain'}|{machine.dots}"
    return CpuCapabilities(key=key, relaxed=machine.relaxed, splat=machine.splat, dots=machine.dots)


def default_store(machine: host.Host, storage: Storage | None = None) -> Store:
    """Return the store of this machine, by default in the cache folder of the settings."""
    return Store(storage or FolderStorage(), capabilities_of(machine), machine.engine)


def chooser(records: Records, machine: host.Host) -> kernel_set.ChooseTuning:
    """Return the lowering's choice: what is recorded, else the default."""
    capabilities = capabilities_of(machine)
    known: dict[tuple[linear.Structure, bool], linear.Tuning] = {}

    def choose(structure: linear.Structure, many: bool) -> linear.Tuning:
        if (structure, many) not in known:
            shape = Shape(structure, many)
            known[structure, many] = records.choose(wasm_linear, shape, capabilities)
        return known[structure, many]

    return choose


def place_of(runner: WasmRunner) -> Place:
    """Return where the model lies."""
    return place(runner.memory, runner.plan, runner.machine, wide=runner.wide)


def place(memory: host.Memory, plan: Plan, machine: host.Host, *, wide: bool) -> Place:
    """Return where a model of this plan lies."""
    weights = plan.own.weights
    matrices, shared = dict(weights.matrices), plan.threads > 1
    return Place(memory, shared, matrices, plan.trial, wide, machine.tiers, weights.dots)


def steps(runner: WasmRunner) -> list[WasmStep]:
    """Return the steps that are worth tuning."""
    return steps_of(runner.graphs, place_of(runner), runner.machine)


def steps_of(graphs: Mapping[Family, Graph], place: Place, machine: host.Host) -> list[WasmStep]:
    """Return the steps that are worth tuning, as far as their matrices have a place."""
    capabilities = capabilities_of(machine)
    made = []
    if "decode" in graphs:
        made.append(WasmStep("decode", place, graphs["decode"], capabilities, many=False))
    family: Family = "prefill" if "prefill" in graphs else "embed"
    made.append(WasmStep(family, place, graphs[family], capabilities, many=True))
    return made
