"""Relaxed dot products in Chromium: what they are good for, and kernels that rely on it.

Natively another compiler makes them: the same modules run here once more, against the numpy twin.
"""

from __future__ import annotations

import base64

import numpy as np
import pytest
from playwright.async_api import Page
from tests.reference.linear import random_weight

from conftest import Watched
from tilewright.formats.quant import BY_NAME
from tilewright.wasm import dots
from tilewright.wasm.assembler import Memory, Module
from tilewright.wasm.kernels import linear, packing, quantize, repack

RUN = """async ([modules, writes, calls, at, length]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const memory = new WebAssembly.Memory({ initial: 64 });
  const exports = {};
  for (const text of modules) {
    const made = await WebAssembly.instantiate(bytes(text), { env: { memory } });
    Object.assign(exports, made.instance.exports);
  }
  for (const [where, text] of writes) new Uint8Array(memory.buffer).set(bytes(text), where);
  for (const [name, ...values] of calls) exports[name](...values);
  return btoa(String.fromCharCode(...new Uint8Array(memory.buffer, at, length)));
}"""
WEIGHTS, RAW, X, PACKED, OUT, SCRATCH = 64, 1 << 20, 2 << 20, 5 << 19, 3 << 20, 7 << 19


async def run(
    page: Page,
    modules: list[bytes],
    writes: list[tuple[int, bytes]],
    calls: list[tuple[str | int, ...]],
    result: tuple[int, int],
) -> bytes:
    """Return the bytes at ``result`` once the calls were made."""
    encoded = [base64.b64encode(module).decode() for module in modules]
    data = [[at, base64.b64encode(some).decode()] for at, some in writes]
    found: str = await page.evaluate(RUN, [encoded, data, [list(call) for call in calls], *result])
    return base64.b64decode(found)


async def kind_of(page: Page) -> packing.Dots:
    """Return what this Chromium's dot products are good for."""
    module, data = dots.probe()
    place = dots.TOTALS, dots.NBYTES
    return dots.judge(await run(page, [module], [(0, data)], [("dots", 0)], place))


@pytest.mark.parametrize("quant", ["Q8_0", "MXFP4", "Q4_0", "Q4_K", "Q6_K"])
async def test_every_candidate_is_the_numpy_twin(watched: Watched, server: str, quant: str) -> None:
    page = watched.page
    await page.goto(f"{server}/test.html")
    kind = await kind_of(page)
    form = packing.packing(BY_NAME[quant], kind)
    assert form is not None
    structure = linear.Structure(form, wide=form.quants == "byte")
    rng = np.random.default_rng(3)
    rows, columns, tokens = 43, 512, 5
    raw, weight = random_weight(rng, BY_NAME[quant], rows, columns)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    blocks = x.reshape(tokens, -1, 32)
    steps = 32767 if structure.wide else 127
    scale = np.abs(blocks).max(2, keepdims=True) / np.float32(steps)
    rounded = (np.rint(blocks / scale) * scale).reshape(x.shape).astype(np.float64)
    expected = rounded @ weight.astype(np.float64).T
    bound = np.abs(rounded) @ np.abs(weight.astype(np.float64)).T

    setup = Module(Memory("env", "memory", 1))
    repack.add_repack(setup, quant, kind)
    (quantize.add_quantize_wide if structure.wide else quantize.add_quantize)(setup)
    name = "quantize_wide" if structure.wide else "quantize"
    size = quantize.activation_bytes(columns, wide=structure.wide)
    blocks_per_row = columns // BY_NAME[quant].block
    product = ("product", WEIGHTS, columns // 32, rows, PACKED, size, tokens, OUT, 4 * rows)
    calls: list[tuple[str | int, ...]] = [
        (f"repack_{quant}", RAW, rows, blocks_per_row, WEIGHTS, 0, SCRATCH),
        (name, X, 4 * columns, columns // 32, tokens, PACKED),
        (*product, SCRATCH),
    ]
    seen = []
    for many in (False, True):
        options = [
            linear.default(structure, many=many, relaxed=True, splat="load", dots=kind),
            *linear.space(structure, many=many, relaxed=True, splat="load", dots=kind),
        ]
        for tuning in dict.fromkeys(options):
            module = Module(Memory("env", "memory", 1))
            linear.add_linear(module, "product", structure, tuning)
            both = [setup.assemble(), module.assemble()]
            writes = [(RAW, raw), (X, x.tobytes())]
            found = await run(page, both, writes, calls, (OUT, 4 * tokens * rows))
            y = np.frombuffer(found, np.float32).reshape(tokens, rows)
            error = np.abs(y - expected)
            # a value in the middle between two steps may be rounded either way
            assert np.all(error <= 2e-4 * bound + 1e-6), (kind, tuning, error.max())
            seen.append(y)
    assert all(np.array_equal(seen[0], y) for y in seen[1:])
    assert watched.complaints == []
