"""Random cases of linear maps: inputs, the numpy twin's result, and the check of a kernel's result.

Outputs are of order 1; rows of ``out`` and columns outside the written span hold a mark that must
survive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tests.numerics.gpu import run
from tests.numerics.weights import planes, step
from tests.reference.linear import Epilogue, linear, normalised, random_weight
from tests.tolerance import assert_close

from tilewright.formats.quant import BY_NAME
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels.kernel import Kernel
from tilewright.webgpu.kernels.linear import LinearStructure

MARK = np.float32(777)


@dataclass
class Case:
    """Arrays to bind and the expected content of ``out``."""

    arrays: dict[str, NDArray[np.generic]]
    expected: NDArray[np.float64]
    written: NDArray[np.bool_]

    async def check(self, device: Device, kernel: Kernel) -> None:
        """Run ``kernel`` and compare; what it must not write has to be untouched."""
        arrays = dict(self.arrays)
        arrays["out"] = np.full(self.written.shape, MARK)
        got = (await run(device, kernel, arrays))["out"]
        assert_close(got[self.written], self.expected.reshape(-1), "linear")
        assert (got[~self.written] == MARK).all(), "padding rows or foreign columns were written"


async def linear_case(device: Device, s: LinearStructure, count: int, seed: int = 0) -> Case:
    """Return a random case of ``s`` with ``count`` of its ``s.tokens`` tokens in use."""
    rng = np.random.default_rng(seed)
    quant = BY_NAME[s.quant]
    raw, weight = random_weight(rng, quant, s.rows, s.columns)
    norm = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=1).mean())
    x_all = rng.standard_normal((s.tokens, s.x.stride)).astype(np.float32)
    x_all[count:] = np.nan  # padding rows must not be read
    x = x_all[:count, s.x.start : s.x.start + s.columns]
    arrays = await planes(device, quant, raw, s.rows, s.columns)
    norm_weight = (rng.standard_normal(s.columns) + 1).astype(np.float32)
    norm_bias = rng.standard_normal(s.columns).astype(np.float32)
    if s.norm is None:
        x_all *= np.float32(1 / norm)
        inputs = x.astype(np.float64)
    else:
        norm_weight /= np.float32(norm)
        norm_bias /= np.float32(norm)
        x_all += np.float32(0.3)
        gains = norm_weight if s.norm_weight else np.ones_like(norm_weight)
        gains = gains + np.float32(s.norm_offset)
        bias_or_none = norm_bias if s.norm_bias else None
        inputs = normalised(x, s.norm, gains, bias_or_none, s.norm_epsilon)
    bias = rng.standard_normal(s.rows).astype(np.float32)
    arrays |= {"x": x_all, "norm_weight": norm_weight, "norm_bias": norm_bias, "bias": bias}
    residual = None
    if s.residual is not None:
        whole = rng.standard_normal((s.tokens, s.residual.stride)).astype(np.float32)
        arrays["residual"] = whole
        residual = whole[:count, s.residual.start : s.residual.start + s.outputs]
    epilogue = Epilogue(
        bias if s.bias else None, s.activation, s.gated, s.scale, residual, s.softcap
    )
    written = np.zeros((s.tokens, s.out.stride), bool)
    written[:count, s.out.start : s.out.start + s.outputs] = True
    others = {"tokens": (count, 1, 1), "outputs": (s.tokens, count, 1)}
    arrays["step"] = step(*others.get(s.tokens_from, (s.tokens, 1, count)))
    return Case(arrays, linear(inputs, weight, epilogue), written)
