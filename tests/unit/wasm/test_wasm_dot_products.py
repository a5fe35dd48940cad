"""What a relaxed dot product is good for is found out, whatever an engine makes of large bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from tilewright.formats.quant import BY_NAME
from tilewright.wasm import dots, host
from tilewright.wasm.kernels import linear, packing


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def saturated(value: int) -> int:
    return max(-32768, min(32767, value))


Engine = Callable[[bytes, bytes], int]
ENGINES: dict[str, Engine] = {
    "vpdpbusd": lambda a, b: sum(signed(x) * y for x, y in zip(a, b, strict=True)),
    "SDOT": lambda a, b: sum(signed(x) * signed(y) for x, y in zip(a, b, strict=True)),
    "pmaddubsw": lambda a, b: sum(
        saturated(signed(a[n]) * b[n] + signed(a[n + 1]) * b[n + 1]) for n in (0, 2)
    ),
}


@pytest.mark.parametrize(
    ("engine", "kind"), [("vpdpbusd", "unsigned"), ("SDOT", "signed"), ("pmaddubsw", "seven")]
)
def test_an_instruction_is_told_by_its_sums(engine: str, kind: packing.Dots) -> None:
    _, data = dots.probe()
    first, second = data[: dots.NBYTES], data[dots.NBYTES : dots.TOTALS]
    before = struct.unpack(f"<{dots.NBYTES // 4}i", data[dots.TOTALS :])
    sums = [
        start + ENGINES[engine](first[at : at + 4], second[at : at + 4])
        for at, start in zip(range(0, dots.NBYTES, 4), before, strict=True)
    ]
    assert dots.judge(struct.pack(f"<{len(sums)}i", *sums)) == kind


def test_this_engine_is_asked_once() -> None:
    pytest.importorskip("wasmtime")
    asked = []

    def allocate(nbytes: int, shared: bool) -> host.Memory:
        asked.append(nbytes)
        return host.here().allocate(nbytes, shared)

    assert dots.measure(allocate) == dots.measure(allocate) == host.here().dots
    assert asked == [host.PAGE]


@pytest.mark.parametrize("splat", ["load", "shuffle"])
def test_a_tuned_step_shares_its_weights_as_the_default_does(splat: linear.Splat) -> None:
    form = packing.packing(BY_NAME["Q8_0"], "unsigned")
    assert form is not None
    given: dict[str, Any] = {"relaxed": True, "splat": splat, "dots": "unsigned"}
    structure = linear.Structure(form)
    default = linear.default(structure, many=False, **given)
    space = linear.space(structure, many=False, **given)
    assert default in space
    assert {t.tokens for t in space if t.method == default.method} == {default.tokens}
