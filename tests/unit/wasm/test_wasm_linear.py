"""Every format: repacked, embedded and multiplied as the numpy twin does; all candidates equal."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reference.linear import random_weight

from tilewright.formats.quant import BY_NAME
from tilewright.wasm.assembler import Memory, Module
from tilewright.wasm.kernels import (
    block,
    experts,
    floats,
    linear,
    packing,
    quantize,
    repack,
    repack_grids,
)

wasmtime = pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

from tilewright.wasm.native import NativeInstance, NativeMemory, host  # noqa: E402

MEMORY = 9 << 20
RAW, X, PACKED_X, OUT, SCRATCH, IDS, WIDE_X = (i << 20 for i in range(1, 8))


def quantized(x: np.ndarray) -> np.ndarray:
    """float64[T, K]: what int8 with one scale per 32 leaves of x, rounded as the kernel does."""
    blocks = x.astype(np.float32).reshape(len(x), -1, 32)
    top = np.abs(blocks).max(axis=2, keepdims=True)
    scale = (top / np.float32(127)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(top > 0, np.float32(127) / top, np.float32(0)).astype(np.float32)
    return (np.rint(blocks * inverse).astype(np.float64) * scale).reshape(x.shape)


SIGNED = [name for name, form in packing.PACKINGS.items() if form.signed]
LAYOUTS: list[tuple[str, packing.Dots]] = [
    *((quant, "seven") for quant in packing.PACKINGS),
    *((quant, "unsigned") for quant in SIGNED),
    ("Q8_0", "signed"),
]


@pytest.mark.parametrize(("quant", "dots"), LAYOUTS)
def test_every_candidate_is_the_numpy_twin(quant: str, dots: packing.Dots) -> None:
    rng = np.random.default_rng(7)
    rows, columns, tokens = 75, 512 if BY_NAME[quant].block == 256 else 160, 5
    raw, weight = random_weight(rng, BY_NAME[quant], rows, columns)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    x[1, :32] = 0.0
    form = packing.packing(BY_NAME[quant], dots)
    assert form is not None
    expected = quantized(x) @ weight.astype(np.float64).T
    bound = np.abs(quantized(x)) @ np.abs(weight.astype(np.float64)).T

    memory = NativeMemory(MEMORY)
    memory.write(RAW, raw)
    memory.write(X, x.tobytes())
    memory.write(SCRATCH + block.TABLES, repack_grids.tables(quant))
    module = Module(Memory("env", "memory", 1))
    repack.add_repack(module, quant, dots)
    quantize.add_quantize(module)
    experts.add_embed(module, "embed", form)
    setup = memory.instantiate(module.assemble())
    setup.call(f"repack_{quant}", RAW, rows, columns // BY_NAME[quant].block, 64, 0, SCRATCH)
    setup.call("quantize", X, 4 * columns, columns // 32, tokens, PACKED_X)

    ids = np.array([0, 74, 3, 13], np.uint32)
    memory.write(IDS, ids.tobytes())
    setup.call("embed", 64, columns // 32, IDS, len(ids), OUT, 4 * columns, 0.5, rows)
    table = np.frombuffer(memory.read(OUT, 16 * columns), np.float32).reshape(4, -1)
    np.testing.assert_allclose(table, 0.5 * weight[ids], rtol=3e-6, atol=1e-7)

    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    module = Module(Memory("env", "memory", 1))
    quantize.add_quantize_wide(module)
    made = memory.instantiate(module.assemble())
    made.call("quantize_wide", X, 4 * columns, columns // 32, tokens, WIDE_X)

    for wide, at, truth, rounding in (
        (True, WIDE_X, exact, 2e-5),
        (False, PACKED_X, expected, 3e-6),
    ):
        structure = linear.Structure(form, wide)
        seen = []
        splats: tuple[linear.Splat, ...] = ("shuffle", "load")
        tunings = {
            t: None
            for many in (False, True)
            for splat in splats
            for t in (
                linear.default(structure, many=many, relaxed=True, splat=splat, dots=dots),
                *linear.space(structure, many=many, relaxed=True, splat=splat, dots=dots)[
                    : 2 if wide else 99
                ],
            )
            # This engine may not have the dot products; test_wasm_dots.py has Chromium's.
            if form.quants != "eight" or t.method == "dot16" or dots == host().dots
        }
        for tuning in tunings:
            module = Module(Memory("env", "memory", 1))
            linear.add_linear(module, "product", structure, tuning)
            made = memory.instantiate(module.assemble())

            def product(count: int, made: NativeInstance = made, at: int = at) -> np.ndarray:
                memory.write(OUT, b"\xff" * 4 * count * rows)
                size = quantize.activation_bytes(columns, wide=at == WIDE_X)
                made.call(
                    "product", 64, columns // 32, rows, at, size, count, OUT, 4 * rows, SCRATCH
                )
                y = np.frombuffer(memory.read(OUT, 4 * count * rows), np.float32)
                return y.reshape(count, rows)

            y = product(tokens)
            np.testing.assert_array_equal(product(1), y[:1])  # it may take other code
            error = np.abs(y - truth)
            assert np.all(error <= rounding * bound + 1e-7), (tuning, error.max())
            seen.append(y)
        assert all(np.array_equal(seen[0], y) for y in seen[1:])


@pytest.mark.parametrize(
    "quants", ["crumb", "three", "nibble", "five", "six", "seven", "eight", "byte"]
)
def test_the_pieces_of_a_cell_are_all_its_bits(quants: packing.Quants) -> None:
    form = packing.Packing(quants)
    stored = [(p.vector, p.bit + i) for p in form.pieces for i in range(p.count)]
    bits = [(p.run, p.at + i) for p in form.pieces for i in range(p.count)]
    assert sorted(stored) == [(vector, bit) for vector in range(form.bits) for bit in range(8)]
    assert sorted(bits) == [(run, bit) for run in range(packing.RUNS) for bit in range(form.bits)]


@pytest.mark.parametrize("quant", packing.FLOAT_FORMATS)
@pytest.mark.parametrize("columns", [7, 64])
def test_floats(quant: str, columns: int) -> None:
    rng = np.random.default_rng(8)
    rows, tokens = 21, 3
    raw, weight = random_weight(rng, BY_NAME[quant], rows, columns)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    memory = NativeMemory(MEMORY)
    memory.write(RAW, raw)
    memory.write(X, x.tobytes())
    for tile in (1, 2, 4):
        module = Module(Memory("env", "memory", 1))
        repack.add_repack_floats(module, quant)
        floats.add_float_linear(module, "product", rows=8, tokens=tile)
        floats.add_float_embed(module)
        made = memory.instantiate(module.assemble())
        made.call(f"repack_{quant}", RAW, rows, columns, 64, 0, SCRATCH)
        made.call("product", 64, columns, rows, X, 4 * columns, tokens, OUT, 4 * rows, 0)
        y = np.frombuffer(memory.read(OUT, 4 * tokens * rows), np.float32).reshape(tokens, rows)
        np.testing.assert_allclose(y, x @ weight.T, rtol=1e-5, atol=1e-5)
        memory.write(IDS, np.array([20, 4], np.uint32).tobytes())
        made.call("embed_float", 64, columns, IDS, 2, OUT, 4 * columns, 2.0, rows)
        table = np.frombuffer(memory.read(OUT, 8 * columns), np.float32).reshape(2, -1)
        np.testing.assert_array_equal(table, 2 * weight[[20, 4]])
