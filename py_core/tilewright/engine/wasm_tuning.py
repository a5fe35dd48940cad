"""What tuning means on the CPU path: where a model lies, its steps, its records."""

from __future__ import annotations

from ..tuning import wasm_linear
from ..tuning.store import FolderStorage, Records, Storage, Store
from ..tuning.wasm_linear import CpuCapabilities, Shape
from ..tuning.wasm_steps import Place, WasmStep
from ..wasm import host, kernel_set
from ..wasm.kernels import linear
from .wasm_program import Family
from .wasm_runner import WasmRunner


def capabilities_of(machine: host.Host) -> CpuCapabilities:
    """Return what kernels and records know of a machine."""
    key = f"wasm|{machine.cores}|{'relaxed' if machine.relaxed else 'plain'}"
    return CpuCapabilities(key=key, relaxed=machine.relaxed, splat=machine.splat)


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
    return Place(
        runner.memory,
        runner.threads > 1,
        dict(runner.plan.own.weights.matrices),
        runner.plan.trial,
        runner.wide,
        runner.machine.tiers,
    )


def steps(runner: WasmRunner) -> list[WasmStep]:
    """Return the steps that are worth tuning."""
    place, capabilities = place_of(runner), capabilities_of(runner.machine)
    graphs = runner.graphs
    made = []
    if "decode" in graphs:
        made.append(WasmStep("decode", place, graphs["decode"], capabilities, many=False))
    family: Family = "prefill" if "prefill" in graphs else "embed"
    made.append(WasmStep(family, place, graphs[family], capabilities, many=True))
    return made
