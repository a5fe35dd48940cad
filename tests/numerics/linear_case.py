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
from tests.reference import rounded
from tests.reference.linear import Epilogue, linear, normalised, random_weight
from tests.tolerance import assert_close

from tilewright.formats.quant import BY_NAME
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels.kernel import Kernel, Span
from tilewright.webgpu.kernels.linear import LinearStructure

MARK = np.float32(777)


@dataclass
class Case:
    """Arrays to bind and the expected content of ``out``."""

    arrays: dict[str, NDArray[np.generic]]
    expected: NDArray[np.float64]
    written: NDArray[np.bool_]
    kept: NDArray[np.float64] | None = None
    """What the prologue's sum leaves in ``out_x``, its first rows."""
    kept_written: NDArray[np.bool_] | None = None
    tolerance: str = "linear"

    async def check(self, device: Device, kernel: Kernel) -> None:
        """Run ``kernel`` and compare; what it must not write has to be untouched."""
        arrays = dict(self.arrays)
        arrays["out"] = np.full(self.written.shape, MARK)
        if self.kept_written is not None:
            arrays["out_x"] = np.full(self.kept_written.shape, MARK)
        found = await run(device, kernel, arrays)
        for name, expected, written in (
            ("out", self.expected, self.written),
            ("out_x", self.kept, self.kept_written),
        ):
            if expected is not None and written is not None:
                got = found[name]
                tolerance = self.tolerance if name == "out" else "linear"
                assert_close(got[written], expected.reshape(-1), tolerance)
                assert (got[~written] == MARK).all(), "padding or foreign columns were written"


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
    x_all += np.float32(0.3 if s.norm else 0.0)
    if s.norm is None:
        x_all *= np.float32(1 / norm)
    term: NDArray[np.float64] | None = None
    if s.delta is not None:
        post = (rng.standard_normal(s.columns) / (1 if s.norm else norm)).astype(np.float32)
        delta = rng.standard_normal((s.tokens, s.delta.stride)).astype(np.float32)
        delta[count:] = np.nan
        arrays |= {"post_weight": post, "delta": delta}
        given = delta[:count, s.delta.start : s.delta.start + s.columns]
        term = normalised(given, "rms", post + np.float32(s.post_offset), None, s.post_epsilon)
    if s.norm is not None:
        norm_weight /= np.float32(norm)
        norm_bias /= np.float32(norm)

    def prologue() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        summed = x.astype(np.float64) if term is None else x + term
        if s.norm is None:
            return summed, summed
        gains = norm_weight if s.norm_weight else np.ones_like(norm_weight)
        gains = gains + np.float32(s.norm_offset)
        bias_or_none = norm_bias if s.norm_bias else None
        return summed, normalised(summed, s.norm, gains, bias_or_none, s.norm_epsilon)

    summed, inputs = prologue()
    if s.arithmetic == "int8":
        while (borders := rounded.at_a_border(inputs)).any():
            x[borders] += np.float32(0.01) * np.abs(x).max()
            summed, inputs = prologue()
    if s.arithmetic != "f32":
        inputs = rounded.rounded(inputs, s.arithmetic)
    bias = rng.standard_normal(s.rows).astype(np.float32)
    arrays |= {"x": x_all, "norm_weight": norm_weight, "norm_bias": norm_bias, "bias": bias}
    residual = None
    if s.residual is not None:
        whole = rng.standard_normal((s.tokens, s.residual.stride)).astype(np.float32)
        arrays["residual"] = whole
        residual = whole[:count, s.residual.start : s.residual.start + s.outputs]
    gate = None
    if s.row_gate is not None:
        whole = rng.standard_normal((s.tokens, s.row_gate.stride)).astype(np.float32)
        arrays["row_gate"] = whole
        gate = whole[:count, s.row_gate.start]
    epilogue = Epilogue(
        bias if s.bias else None, s.activation, s.gated, s.scale, gate, residual, s.softcap
    )
    written = _places(s.tokens, count, s.out, s.outputs)
    kept = None if s.out_x is None else _places(s.tokens, count, s.out_x, s.columns)
    others = {"tokens": (count, 1, 1), "outputs": (s.tokens, count, 1)}
    arrays["step"] = step(*others.get(s.tokens_from, (s.tokens, 1, count)))
    tolerance = "linear_f16" if s.arithmetic == "f16" else "linear"
    return Case(arrays, linear(inputs, weight, epilogue), written, summed, kept, tolerance)


def _places(rows: int, count: int, span: Span, width: int) -> NDArray[np.bool_]:
    written = np.zeros((rows, span.stride), bool)
    written[:count, span.start : span.start + width] = True
    return written
