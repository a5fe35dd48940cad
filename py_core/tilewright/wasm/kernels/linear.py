"""Matrix times activations, both integers: one function per weight layout, for one token and many.

Structure is the layout (``packing.py``); Tuning is how the products are made and how many rows and
tokens one tile (``tile.py``) has. All candidates compute the same integers. Adds
``<name>(weights, cells, rows, x, x_row, tokens, out, stride, scratch)``: cells are columns / 32,
rows of x are ``x_row``, those of out ``stride`` bytes apart; x is what ``quantize`` wrote; scratch
has ``SCRATCH_BYTES``.
"""

from __future__ import annotations

from dataclasses import replace

from ...errors import KernelError
from ..assembler import Expr, Function, Local, Module, i32, select, v128
from .lanes import store_some
from .packing import LANES, PAIR, Dots
from .tile import (
    SCRATCH_BYTES,
    Method,
    Splat,
    Structure,
    Tuning,
    add_stored_tile,
    add_strips,
    add_tile,
    can_store,
    methods,
)

__all__ = [
    "SCRATCH_BYTES",
    "Method",
    "Splat",
    "Structure",
    "Tuning",
    "add_linear",
    "default",
    "naive",
    "space",
]

STREAMS: dict[Splat, int] = {"load": 4, "shuffle": 2}
"""Default streams: from four places most processors read as fast as they can, but what Cranelift
makes of them gains no more from four than from two."""


def naive(structure: Structure) -> Tuning:
    """Plain SIMD, one vector of rows."""
    return Tuning()


def default(
    structure: Structure,
    *,
    many: bool,
    relaxed: bool,
    splat: Splat = "shuffle",
    dots: Dots = "seven",
) -> Tuning:
    """Return a good guess without measuring; ``many``: for a prompt rather than one token.

    Where ``dots`` are more than "seven" the relaxed dot product is one instruction.
    """
    wanted: Method = "relaxed16" if dots == "seven" else "relaxed32"
    plain = wanted not in methods(structure)
    method: Method = wanted if relaxed and not plain else "dot16"
    together = _together(structure, method, splat, dots)
    if not many or together.stored or structure.packing.quants == "byte":
        return together
    if plain:  # twice the registers
        return Tuning("dot16", 8, 2, splat)
    return Tuning(method, 8, 4, splat) if relaxed else Tuning("dot16", 4, 4, splat)


def _together(structure: Structure, method: Method, splat: Splat, dots: Dots) -> Tuning:
    """Return a good guess for decode, where several sequences may share a step.

    One token alone takes the same code with all of them.
    """
    if method == "relaxed32" and dots != "seven":
        return Tuning(method, 8, 4, splat, streams=STREAMS[splat])
    if splat == "shuffle":
        stored = can_store(structure, method)
        return Tuning(method, 8, 4 if stored else 1, splat, stored=stored, streams=STREAMS[splat])
    if structure.packing.quants == "byte":
        return Tuning(method, 8, 4, splat, streams=STREAMS[splat])
    return Tuning(method, 8, 2, splat, streams=STREAMS[splat])


def space(
    structure: Structure,
    *,
    many: bool,
    relaxed: bool,
    splat: Splat = "shuffle",
    dots: Dots = "seven",
) -> list[Tuning]:
    """Return the candidates worth timing, the naive one first.

    In decode they are timed with one token; what several take is the default's for ``splat``.
    """
    splats: list[Splat] = ["shuffle", "load"]
    found: list[Tuning] = []
    for method in methods(structure) if relaxed else methods(structure)[:1]:
        together = _together(structure, method, splat, dots)
        for own in splats:
            if many:
                tiles = [(16, 1), (4, 4), (8, 2), (8, 4)]
                found += [Tuning(method, rows, tokens, own) for rows, tokens in tiles]
            else:
                found += [
                    replace(together, rows=rows, splat=own, streams=streams)
                    for rows, streams in ((4, 1), (8, 1), (8, 2), (8, 4))
                ]
        if many and can_store(structure, method):
            found.append(Tuning(method, 8, 4, stored=True))
    return [Tuning(), *(t for t in found if t != Tuning())]


def add_linear(module: Module, name: str, structure: Structure, tuning: Tuning) -> Function:
    """Add the kernel to a module."""
    f = module.function(name, ["i32"] * 9)
    weights, cells, rows, x, x_row, tokens, out, stride, scratch = f.parameters
    form = structure.packing
    if tuning.method not in methods(structure):
        raise KernelError(f"{form.name} has no products of the kind {tuning.method}.")
    if tuning.stored and not can_store(structure, tuning.method):
        raise KernelError(f"{form.name} has more sums than one vector to store.")
    stored = add_stored_tile(module, name + "_tile", structure, tuning) if tuning.stored else None
    pair = f.let(cells * (2 * form.cell_bytes))
    row = f.local("i32")
    if tuning.streams > 1:
        with f.if_(tokens.equals(1)):
            row.set(_add_streams(f, structure, tuning, pair))
    # The widest strips first, then those of four rows.
    for high in dict.fromkeys((tuning.rows // LANES, 1)):
        with f.while_(lambda high=high: row + (LANES * high - LANES) < rows):  # type: ignore[misc]
            token = f.let(i32.const(0))
            for wide in dict.fromkeys((tuning.tokens, 1)):
                end = f.let(tokens - (wide - 1))
                several = wide > 1
                if several and stored is not None:  # it takes whole strips
                    end.set(select(row + LANES * high <= rows, end, i32.const(0)))
                with f.while_(lambda end=end, token=token: token < end):  # type: ignore[misc]
                    first = f.let(x + token * x_row)
                    target = f.let(out + token * stride + (row << 2))
                    step = 1 if several and stored is not None else high
                    for strip in range(0, high, step):
                        at = f.let(row + LANES * strip) if strip else row
                        w = add_strips(f, form, weights + (at >> 3) * pair, pair, at, step)
                        place = target + 16 * strip
                        if several and stored is not None:
                            given = (w[0].pointer, cells, first, x_row, place, stride, scratch)
                            f.do(f.call(stored, *given))
                            continue
                        xs = [f.let(first + x_row * n) for n in range(wide)]
                        sums = add_tile(f, structure, tuning, w, xs, cells)
                        here = f.let(place)
                        for n in range(wide):
                            for g in range(step):
                                store_some(f, here, 16 * g, sums[g][n], rows - at - LANES * g)
                            if n + 1 < wide:
                                here.set(here + stride)
                    token.set(token + wide)
            row.set(row + LANES * high)
    return f


def _add_streams(f: Function, structure: Structure, tuning: Tuning, pair: Local) -> Expr:
    """Multiply one token by as many rows as the Tuning's streams share; return how many.

    A stream has a run of eight rows after the other.
    """
    weights, cells, rows, x, _, _, out, _, _ = f.parameters
    each = f.let(rows // (PAIR * tuning.streams))
    with f.range(each) as number:
        w = [
            strip
            for n in range(tuning.streams)
            for strip in add_strips(
                f, structure.packing, weights + (each * n + number) * pair, pair, number, 2
            )
        ]
        sums = add_tile(f, structure, tuning, w, [f.let(x)], cells, together=2)
        for n in range(tuning.streams):
            target = f.let(out + (each * n + number) * (4 * PAIR))
            for half in range(2):
                f.do(v128.store(target, sums[2 * n + half][0], offset=16 * half))
    return each * (PAIR * tuning.streams)
