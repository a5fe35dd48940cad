"""Matrix times activations in f32, for weights that are floats in the file.

Four rows are interleaved element by element (``f32[rows / 4][columns][4]``), so that any number of
columns works and no sum runs across lanes. Same parameters as ``linear.py``'s kernels; ``cells``
are columns here and x are plain f32 rows.
"""

from __future__ import annotations

from ..assembler import Function, Module, f32, f32x4, i32, v128
from .lanes import store_some
from .packing import LANES


def float_bytes(rows: int, columns: int) -> int:
    """Return the bytes of a matrix; the last rows are padded to four."""
    return -(-rows // LANES) * columns * 4 * LANES


def add_float_linear(module: Module, name: str, *, rows: int = 16, tokens: int = 1) -> Function:
    """Add ``<name>(weights, columns, rows, x, x_row, tokens, out, stride, scratch)``.

    It needs no scratch, but is called like the integer kernels.
    """
    f = module.function(name, ["i32"] * 9)
    weights, columns, count, x, x_row, batch, out, stride = f.parameters[:8]
    strip = f.let(columns << 4)
    row = f.local("i32")
    zero = f32x4.const(0.0)
    for high in dict.fromkeys((rows // LANES, 1)):
        with f.while_(lambda high=high: row + (LANES * high - LANES) < count):  # type: ignore[misc]
            token = f.let(i32.const(0))
            for wide in dict.fromkeys((tokens, 1)):
                with f.while_(lambda wide=wide, token=token: token + (wide - 1) < batch):  # type: ignore[misc]
                    w = [f.let(weights + strip * g) for g in range(high)]
                    xs = [f.let(x + (token + n) * x_row) for n in range(wide)]
                    sums = [[f.let(zero) for _ in xs] for _ in w]
                    with f.range(columns):
                        splats = [f.let(v128.load32_splat(pointer)) for pointer in xs]
                        for own, pointer in zip(sums, w, strict=True):
                            weight = f.let(v128.load(pointer))
                            for total, value in zip(own, splats, strict=True):
                                total.set(f32x4.relaxed_madd(weight, value, total))
                            pointer.set(pointer + 16)
                        for pointer in xs:
                            pointer.set(pointer + 4)
                    target = f.let(out + token * stride + (row << 2))
                    for n in range(wide):
                        for g in range(high):
                            store_some(f, target, 16 * g, sums[g][n], count - row - LANES * g)
                        target.set(target + stride)
                    token.set(token + wide)
            weights.set(weights + strip * high)
            row.set(row + LANES * high)
    return f


def add_float_embed(module: Module) -> Function:
    """Add ``embed_float(table, columns, indices, rows, out, stride, scale, most)``."""
    f = module.function("embed_float", ["i32"] * 6 + ["f32", "i32"])
    table, columns, indices, rows, out, stride, scale, most = f.parameters
    with f.range(rows) as i:
        row = f.let(i32.load(indices + (i << 2)))
        with f.if_(i32.ge_u(row, most)):
            row.set(0)
        source = f.let(table + ((row >> 2) * columns << 4) + ((row & 3) << 2))
        with f.range(columns) as column:
            value = f32.load(source + (column << 4))
            f.do(f32.store(out + (column << 2), value * scale))
        out.set(out + stride)
    return f
