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
from itertools import product
from typing import TYPE_CHECKING

from .assembler import Memory as Import
from .assembler import Module, i32x4, v128
from .kernels.packing import Dots

if TYPE_CHECKING:
    from .host import Memory

_PAIRS = tuple(
    product(product((-127, -1, 0, 127), repeat=2), product((0, 1, 127, 128, 255), repeat=2))
)
"""(two first operands, two second ones): neighbours are what may saturate."""
_BEFORE = 3 << 20
"""What the sums are added to."""


def measure(memory: Memory) -> Dots:
    """Return what relaxed dot products are good for; the memory is closed."""
    module, data, count = probe()
    memory.write(0, data)
    memory.instantiate(module).call("dots", 0, count)
    found = memory.read(0, len(data))
    memory.close()
    return judge(found)


def probe() -> tuple[bytes, bytes, int]:
    """Return (module, data, count): its ``dots(at, count)`` leaves its sums in the data.

    A case is int8[16], uint8[16] and int32[4] to add to.
    """
    module = Module(Import("env", "memory", 1))
    f = module.function("dots", ["i32", "i32"])
    at, count = f.parameters
    with f.range(count):
        first, second, total = (v128.load(at, offset=16 * part) for part in range(3))
        sums = i32x4.relaxed_dot_i8x16_i7x16_add_s(first, second, total)
        f.do(v128.store(at, sums, offset=32))
        at.set(at + 48)
    return module.assemble(), _cases(lambda byte: 0), len(_PAIRS)


def judge(found: bytes) -> Dots:
    """Return for which bytes the data of ``probe`` has become right."""
    if found == _cases(lambda byte: byte):
        return "unsigned"
    if found == _cases(lambda byte: byte - 256 if byte > 127 else byte):
        return "signed"
    return "seven"


def _cases(value: Callable[[int], int]) -> bytes:
    """Return all combinations of extremes, with the sums that bytes of this ``value`` make."""
    made = []
    for first, second in _PAIRS:
        total = _BEFORE + 2 * sum(a * value(b) for a, b in zip(first, second, strict=True))
        made.append(struct.pack("<16b16B4i", *(first * 8), *(second * 8), *(4 * [total])))
    return b"".join(made)
