"""The one table of tolerances: how far a kernel may be from its numpy twin, and why.

A result passes where ``|actual - expected| <= absolute + relative * |expected|``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Tolerance:
    """Bounds of a comparison, and the reason for them."""

    absolute: float
    relative: float
    reason: str


TOLERANCES = {
    "exact": Tolerance(0.0, 0.0, "data is moved, not computed"),
    "elementwise": Tolerance(1e-6, 2e-6, "a few f32 roundings; exp and tanh are good to 3 ulp"),
    "erf": Tolerance(1e-6, 2e-6, "the polynomial is good to 1.1e-7, times |x| / 2"),
    "norm": Tolerance(2e-6, 1e-5, "f32 sums of up to some thousand squares in any order"),
    "rope": Tolerance(2e-6, 2e-6, "f32 table and angle addition: 3 roundings"),
    "kv_f16": Tolerance(1e-7, 2.0**-11, "one rounding to f16; subnormals below 6e-5"),
    "kv_q8_0": Tolerance(0.0, 0.0, "bound is half a step of the block, computed by the test"),
    "attention": Tolerance(5e-6, 2e-5, "f32 dot products and a softmax over up to 1e4 keys"),
    "route": Tolerance(1e-6, 1e-5, "f32 softmax over up to 512 experts"),
    "linear": Tolerance(1e-5, 1e-5, "f32 sums of 2e3 products of order 1 / sqrt(K), any order"),
    "linear_f16": Tolerance(1e-2, 2e-3, "sums of eight products rounded to f16: 6e-3 in 1e4 seen"),
    "int8_logits": Tolerance(
        0.3, 0.0, "activations rounded to 8 bits in two layers: 0.13 measured of logits of size 5"
    ),
    "int8_swapped": Tolerance(0.02, 0.0, "a value at a border may be rounded to either side"),
    "f16_logits": Tolerance(0.05, 0.0, "sums of eight products have 11 bits: 0.017 measured"),
    "f16_swapped": Tolerance(0.05, 0.0, "compilers round those sums differently: 0.02 measured"),
    "pool": Tolerance(2e-6, 1e-5, "f32 mean over a sequence, then a sum of squares"),
}


def assert_close(actual: ArrayLike, expected: ArrayLike, name: str) -> None:
    """Compare by the table's row ``name``; the failure says where and by how much."""
    tolerance = TOLERANCES[name]
    np.testing.assert_allclose(
        np.asarray(actual, np.float64),
        np.asarray(expected, np.float64),
        rtol=tolerance.relative,
        atol=tolerance.absolute,
        err_msg=f"{name}: {tolerance.reason}",
    )
