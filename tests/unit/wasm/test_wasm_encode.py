"""Weights encoded in WebAssembly equal the numpy twin's bytes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.dequantize import dequantize
from tests.reference.encode import encode
from tests.reference.quantize import quantize
from tests.unit.wasm.conftest import Machine

from tilewright.formats.quant import BY_NAME
from tilewright.wasm.kernels.encode import SCRATCH_BYTES, add_encode

Floats = NDArray[np.float32]


def weights(rows: int, columns: int) -> Floats:
    """Ordinary weights, and blocks that are zero, constant, tiny, huge, one-sided, tied."""
    generator = np.random.default_rng(7)
    made = generator.standard_normal((rows, columns), np.float32) * np.float32(0.02)
    made[0] = 0
    made[1] = 0.5
    made[2] *= 1e-6
    made[3] *= 1e5
    made[4] = np.abs(made[4])
    made[5] = -np.abs(made[5])
    made[6, ::2], made[6, 1::2] = 0.25, -0.25
    made[7] = np.float32(0)
    made[7, 100] = -3
    return made.astype(np.float32)


@pytest.mark.parametrize("target", ["Q8_0", "Q4_0", "Q4_K"])
@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
def test_bytes_are_the_twins(machine: Machine, source: str, target: str) -> None:
    raw = quantize(BY_NAME[source], weights(64, 512))
    values = dequantize(BY_NAME[source], raw, 64, 512)
    kind = BY_NAME[target]
    size = 64 * kind.row_bytes(512)
    out = machine.room(size + 16)
    arguments = (machine.put(raw), 64 * 512 // kind.block, out, machine.room(SCRATCH_BYTES))
    machine.call(lambda m: add_encode(m, source, target), "encode", *arguments)
    found = machine.memory.read(out, size)
    expected = encode(target, values)
    assert found == expected
    assert machine.memory.read(out + size, 16) == b"\xff" * 16, "nothing behind the last block"


def test_q4_k_is_better_than_the_plain_ranges(machine: Machine) -> None:
    values = np.random.default_rng(3).standard_normal((128, 512)).astype(np.float32)
    kind = BY_NAME["Q4_K"]

    def error(data: bytes) -> float:
        return float(np.square(dequantize(kind, data, 128, 512) - values).mean())

    plain, searched = error(quantize(kind, values)), error(encode("Q4_K", values))
    assert searched < 0.86 * plain
