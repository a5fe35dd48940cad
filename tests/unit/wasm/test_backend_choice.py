"""Which backend is chosen where nobody says: what is there, what is faster, what is remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tilewright.engine import backend
from tilewright.errors import DeviceUnavailableError
from tilewright.wasm import host

GPU, CPU = 1e-3, 3e-3


class Kept:
    """A storage in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def read(self, name: str) -> str | None:
        return self.texts.get(name)

    async def write(self, name: str, text: str) -> None:
        self.texts[name] = text


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose devices and speeds a test chooses."""
    state = SimpleNamespace(software=False, gpu=GPU, cpu=CPU, device=True, wasm=True, measured=0)
    state.opened = state.destroyed = 0

    def destroy() -> None:
        state.destroyed += 1

    async def probed() -> Any:
        if not state.device:
            raise DeviceUnavailableError("No WebGPU adapter was found.")
        return SimpleNamespace(software=state.software, key="some adapter")

    async def opened() -> Any:
        capabilities = await probed()
        state.opened += 1
        handle = SimpleNamespace(destroy=destroy)
        return SimpleNamespace(capabilities=capabilities, name="some", handle=handle)

    async def gpu(device: Any) -> float:
        state.measured += 1
        return float(state.gpu)

    def here() -> host.Host:
        if not state.wasm:
            raise DeviceUnavailableError("wasmtime is missing")
        return host.Host(True, 2, lambda nbytes, shared: None)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(backend.Device, "probe", probed)
    monkeypatch.setattr(backend.Device, "open", opened)
    monkeypatch.setattr(backend, "gpu_seconds", gpu)
    monkeypatch.setattr(backend, "cpu_seconds", lambda machine: state.cpu)
    monkeypatch.setattr(backend, "library", lambda: "wgpu 1")
    monkeypatch.setattr(backend.host, "here", here)
    return state


@pytest.mark.parametrize(
    ("changes", "chosen", "open_", "why"),
    [
        ({}, "webgpu", True, "1.00 ms on the GPU, 3.00"),
        ({"gpu": 4e-3}, "wasm", False, "4.00 ms on the GPU"),
        ({"gpu": float("inf")}, "wasm", False, "inf"),
        ({"software": True}, "wasm", False, "software"),
        ({"device": False}, "wasm", False, "no GPU"),
        ({"wasm": False, "software": True}, "webgpu", True, "not installed"),
    ],
    ids=["faster GPU", "slower GPU", "failing GPU", "software", "no GPU", "no wasmtime"],
)
async def test_choice(
    world: Any, changes: dict[str, Any], chosen: str, open_: bool, why: str
) -> None:
    vars(world).update(changes)
    found = await backend.choose(Kept())
    assert found.backend == chosen
    assert (found.device is not None) == open_
    assert why in found.reason
    assert world.opened - world.destroyed == open_
    # Opening takes long on a software adapter, whose device nobody would use.
    assert world.opened == (world.device and (open_ or not world.software))


async def test_neither(world: Any) -> None:
    world.device = world.wasm = False
    with pytest.raises(DeviceUnavailableError, match="adapter"):
        await backend.choose(Kept())


async def test_the_measurement_is_remembered_and_damage_is_measured_again(world: Any) -> None:
    kept = Kept()
    assert (await backend.choose(kept)).backend == "webgpu"
    world.gpu = 1.0  # would lose now
    assert (await backend.choose(kept)).backend == "webgpu"
    assert world.measured == 1
    assert world.opened == 2
    (name,) = kept.texts
    for damage in ("", "null", "[]", '{"gpu_s": 1}', '{"gpu_s": 0, "cpu_s": 1}', "{"):
        kept.texts[name] = damage
        assert (await backend.choose(kept)).backend == "wasm"
    assert world.measured == 7
    opened = world.opened
    assert (await backend.choose(kept)).backend == "wasm"
    assert world.opened == opened  # known to be slower: not opened


async def test_whether_a_remembered_processor_is_still_right(world: Any) -> None:
    kept = Kept()
    assert not await backend.still_cpu(kept), "a GPU that nobody has measured: choose again"
    world.gpu = 4e-3
    await backend.choose(kept)
    measured = world.measured
    assert await backend.still_cpu(kept)
    world.software = True
    assert await backend.still_cpu(Kept())
    world.device = False
    assert await backend.still_cpu(Kept())
    assert world.measured == measured


def test_the_processor_is_measured() -> None:
    pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")
    # 8 million products: between a thousandth of a second and a second, whatever the machine.
    assert 1e-5 < backend.cpu_seconds(host.here()) < 1
