"""Finds out what an engine's relaxed dot product makes of bytes above 127.

``i32x4.relaxed_dot_i8x16_i7x16_add_s`` is defined for second operands of 0 .. 127 only; beyond,
engines do what their processor's instruction does, always the same. On x86 with AVX-VNNI that is
exact for unsigned bytes (``vpdpbusd``), on ARM for signed ones (``SDOT``), elsewhere neither
(``pmaddubsw`` saturates). Where it is exact, 8-bit weights cost an instruction per 16 products
instead of four.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from itertools import product

from .assembler import Module, i32x4, v128
from .host import IMPORTED, PAGE, Memory
from .kernels.packing import Dots

_CASES = tuple(
    product(product((-127, -1, 0, 127), repeat=2), product((0, 1, 127, 128, 255), repeat=2))
)
"""(two first operands, two second ones): neighbours are what may saturate. One lane each, twice."""
_BEFORE = 3 << 20
"""What the sums are added to."""
TOTALS, NBYTES = 8 * len(_CASES), 4 * len(_CASES)
"""Where in the memory sums lie, and their length: behind both operands."""


@cache
def measure(allocate: Callable[[int, bool], Memory]) -> Dots:
    """Return what relaxed dot products are good for in such a memory's engine."""
    memory = allocate(PAGE, False)
    module, data = probe()
    memory.write(0, data)
    memory.instantiate(module).call("dots", 0)
    found = memory.read(TOTALS, NBYTES)
    memory.close()
    return judge(found)


def probe() -> tuple[bytes, bytes]:
    """Return (module, data): its ``dots(0)`` leaves its sums in the data, at TOTALS."""
    module = Module(IMPORTED)
    f = module.function("dots", ["i32"])
    (at,) = f.parameters
    with f.range(len(_CASES) // 4):
        first, second, total = (v128.load(at, offset=NBYTES * part) for part in range(3))
        sums = i32x4.relaxed_dot_i8x16_i7x16_add_s(first, second, total)
        f.do(v128.store(at, sums, offset=TOTALS))
        at.set(at + 16)
    first_bytes = [value for pair, _ in _CASES for value in pair * 2]
    second_bytes = [value for _, pair in _CASES for value in pair * 2]
    data = struct.pack(f"<{NBYTES}b{NBYTES}B", *first_bytes, *second_bytes)
    return module.assemble(), data + _totals(lambda byte: 0)


def judge(found: bytes) -> Dots:
    """Return for which bytes sums are right."""
    if found == _totals(lambda byte: byte):
        return "unsigned"
    if found == _totals(lambda byte: byte - 256 if byte > 127 else byte):
        return "signed"
    return "seven"


def _totals(value: Callable[[int], int]) -> bytes:
    """Return the sums where a second byte counts as its ``value``."""
    sums = [_BEFORE + 2 * (a * value(c) + b * value(d)) for (a, b), (c, d) in _CASES]
    return struct.pack(f"<{len(_CASES)}i", *sums)
