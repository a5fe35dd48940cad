"""What kernels do with the four lanes of a vector: sums, partial stores, exp and activations.

Macros: each appends code to a function and returns expressions. ``exp`` is Cephes' ``expf``
(Moshier): argument reduction by ln 2 in two parts and a polynomial of degree 6; 2 ulp.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...errors import KernelError
from ..assembler import Expr, Function, Local, f32, f32x4, i32x4, v128

LOWEST = -3.0e38
"""Score of what may not be seen or chosen."""

_EXP = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Abramowitz and Stegun, 7.1.26: good to 1.5e-7."""


def store_some(f: Function, at: Expr, offset: int, values: Local, left: Expr) -> None:
    """Store four lanes, or the first ``left`` where fewer are left."""
    with f.if_(left >= 4):
        f.do(v128.store(at, values, offset=offset))
    with f.else_():
        for lane in range(3):
            with f.if_(left > lane):
                f.do(f32.store(at, f32x4.extract_lane(values, lane), offset=offset + 4 * lane))


def sum_lanes(values: Local, step: int = 4) -> Expr:
    """Return the sum of the lanes; ``step`` 1: of the first only."""
    total = f32x4.extract_lane(values, 0)
    for lane in range(1, step):
        total = total + f32x4.extract_lane(values, lane)
    return total


def max_lanes(values: Local) -> Expr:
    """Return the largest lane."""
    total = f32x4.extract_lane(values, 0)
    for lane in range(1, 4):
        total = f32.max(total, f32x4.extract_lane(values, lane))
    return total


def exp(f: Function, x: Expr) -> Expr:
    """Return e**x, f32x4; x below -87 counts as -87."""
    y = f.let(f32x4.pmin(f32x4.const(88.0), f32x4.pmax(f32x4.const(-87.0), x)))
    n = f.let(f32x4.nearest(f32x4.mul(y, f32x4.const(1.0 / math.log(2.0)))))
    y.set(f32x4.relaxed_madd(n, f32x4.const(-0.693359375), y))
    y.set(f32x4.relaxed_madd(n, f32x4.const(2.12194440e-4), y))
    total: Expr = f32x4.const(_EXP[0])
    for value in _EXP[1:]:
        total = f32x4.relaxed_madd(total, y, f32x4.const(value))
    power = i32x4.shl(i32x4.add(i32x4.relaxed_trunc_f32x4_s(n), i32x4.const(127)), 23)
    sum_ = f32x4.add(f32x4.relaxed_madd(f32x4.mul(y, y), total, y), f32x4.const(1.0))
    return f.let(f32x4.mul(sum_, power))


def exp_scalar(f: Function, x: Expr) -> Expr:
    """Return e**x, f32."""
    return f32x4.extract_lane(exp(f, f32x4.splat(x)), 0)


def sigmoid(f: Function, x: Expr) -> Expr:
    """Return 1 / (1 + e**-x)."""
    one = f32x4.const(1.0)
    return f32x4.div(one, f32x4.add(one, exp(f, f32x4.neg(x))))


def tanh(f: Function, x: Expr) -> Expr:
    """Return 1 - 2 / (e**2x + 1)."""
    one = f32x4.const(1.0)
    power = exp(f, f32x4.add(x, x))
    return f32x4.sub(one, f32x4.div(f32x4.const(2.0), f32x4.add(power, one)))


def _gelu(f: Function, x: Expr) -> Expr:
    cubed = f32x4.mul(f32x4.mul(x, x), x)
    inner = f32x4.add(x, f32x4.mul(f32x4.const(0.044715), cubed))
    angle = f.let(f32x4.mul(f32x4.const(math.sqrt(2.0 / math.pi)), inner))
    half = f32x4.mul(f32x4.const(0.5), x)
    return f32x4.mul(half, f32x4.add(f32x4.const(1.0), tanh(f, angle)))


def _gelu_erf(f: Function, x: Expr) -> Expr:
    z = f.let(f32x4.mul(x, f32x4.const(math.sqrt(0.5))))
    one = f32x4.const(1.0)
    size = f.let(f32x4.abs(z))
    t = f.let(f32x4.div(one, f32x4.add(one, f32x4.mul(f32x4.const(0.3275911), size))))
    total: Expr = f32x4.const(_ERF[0])
    for value in _ERF[1:]:
        total = f32x4.add(f32x4.mul(total, t), f32x4.const(value))
    power = exp(f, f32x4.neg(f32x4.mul(z, z)))
    erf = f32x4.sub(one, f32x4.mul(f32x4.mul(total, t), power))
    sign = v128.and_(z, i32x4.const(-0x80000000))
    return f32x4.mul(f32x4.mul(f32x4.const(0.5), x), f32x4.add(one, v128.or_(erf, sign)))


_ACTIVATIONS: dict[str, Callable[[Function, Expr], Expr]] = {
    "silu": lambda f, x: f32x4.mul(x, sigmoid(f, x)),
    "gelu": _gelu,
    "gelu_erf": _gelu_erf,
    "relu": lambda f, x: f32x4.pmax(f32x4.const(0.0), x),
    "tanh": tanh,
    "sigmoid": sigmoid,
}


def activate(f: Function, name: str | None, x: Expr) -> Expr:
    """Return the activation of x, f32x4."""
    if name is None:
        return x
    if name not in _ACTIVATIONS:
        raise KernelError(f"There is no activation {name!r}.")
    return f.let(_ACTIVATIONS[name](f, f.let(x)))


def softcap(f: Function, cap: float, x: Expr) -> Expr:
    """Return cap * tanh(x / cap)."""
    scaled = f.let(f32x4.mul(x, f32x4.const(1.0 / cap)))
    return f32x4.mul(f32x4.const(cap), tanh(f, scaled))
