"""How weights lie in the memory for the integer kernels, and which format is laid out how.

Rows are taken four at a time. For every 32 columns four rows have one *cell*: quants, then
``f32x4`` of scales (one per row; two of them where a scale covers 16 columns), then as many
of offsets where the format has them. The quants of 4 rows x 4 columns make one vector, row by row,
so that one 32-bit splat of activations meets it and no sum runs across rows. The cells of rows 0
to 3 and 4 to 7 alternate, so that a kernel that takes eight rows reads memory in order: measured
29 instead of 9 GMAC/s on weights that are not in a cache.

* ``crumb``, ``three``, ``nibble``, ``five``, ``six``: as many vectors as a quant has bits. A byte
  of a vector has as many whole quants as fit, from its lowest bit on: columns 4r .. 4r+3 are *run*
  r, and the runs follow each other vector by vector. The quants of runs that are left over are
  pieced together from the highest bits of the bytes (``Packing.pieces``): five bits take 2.9
  instructions per run, with a plane of fifth bits beside nibbles it would be 4.4;
* ``seven``: 8 vectors of 0 .. 127, the operand that all engines treat alike; vector j has run j;
* ``eight``: the same of all 256 values, for engines whose dot product takes them (``Dots``);
* ``byte``: the same of int8, but two columns of all four rows, then the other two: widened to 16
  bits, each half makes one product per row, so that a strip has one vector of sums for each token.

A weight is ``scale * (quant - zero) + offset``. Every format is exact in one of these: products of
integer scales and quants stay integers. Knows sizes, no instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from ...formats.quant import QuantType

CELL_COLUMNS = 32
LANES = 4
"""Rows of a cell."""
PAIR = 2 * LANES
"""Rows whose cells alternate; matrices are padded to as many."""
RUNS = CELL_COLUMNS // 4
"""Runs of four columns in a cell."""
Quants = Literal["crumb", "three", "nibble", "five", "six", "seven", "eight", "byte"]
Dots = Literal["seven", "unsigned", "signed"]
"""What ``relaxed_dot`` makes of its second operand here: right up to 127 only, as unsigned bytes
without saturation (x86 with AVX-VNNI: one instruction), as signed bytes (ARM: one instruction)."""
_BITS: dict[Quants, int] = {
    "crumb": 2,
    "three": 3,
    "nibble": 4,
    "five": 5,
    "six": 6,
    "seven": 8,
    "eight": 8,
    "byte": 8,
}


@dataclass(frozen=True)
class Piece:
    """Bits of one run's quants, in every byte of a vector."""

    run: int
    vector: int
    bit: int
    """Lowest bit in the vector's bytes."""
    count: int
    at: int
    """Lowest bit in the quants."""


@cache
def _pieces(bits: int) -> tuple[Piece, ...]:
    """Return where the quants of all runs are, vector by vector."""
    each = 8 // bits
    whole = each * bits
    found = [
        Piece(vector * each + k, vector, k * bits, bits, 0)
        for vector in range(bits)
        for k in range(each)
    ]
    for spare in range(bits * (8 - whole)):
        run, at = divmod(spare, bits)
        vector, bit = divmod(spare, 8 - whole)
        last = found[-1]
        if at and bit:
            found[-1] = Piece(last.run, vector, last.bit, last.count + 1, last.at)
        else:
            found.append(Piece(whole + run, vector, whole + bit, 1, at))
    return tuple(sorted(found, key=lambda piece: piece.vector))


@dataclass(frozen=True)
class Packing:
    """One layout."""

    quants: Quants
    group: Literal[16, 32] = 32
    """Columns per scale."""
    zero: int = 0
    """Subtracted from the unsigned quants."""
    offset: bool = False
    largest: int = 127
    """Largest quant; bounds how many products fit 16 bits."""

    @property
    def name(self) -> str:
        """A name for the layout's kernels."""
        offset = "_offset" if self.offset else ""
        return f"{self.quants}{self.largest}_{self.group}_{self.zero}{offset}"

    @property
    def signed(self) -> bool:
        """Whether the stored quants are signed bytes."""
        return self.quants == "byte" or (self.quants == "eight" and not self.zero)

    @property
    def bits(self) -> int:
        """Bits of a stored quant, and vectors of a cell's quants."""
        return _BITS[self.quants]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Where the quants of all runs are, vector by vector."""
        return _pieces(self.bits)

    @property
    def scales_at(self) -> int:
        """Byte of a cell at which its scales begin."""
        return 16 * self.bits

    @property
    def offsets_at(self) -> int:
        """Byte of a cell at which its offsets begin."""
        return self.scales_at + 16 * (CELL_COLUMNS // self.group)

    @property
    def cell_bytes(self) -> int:
        """Bytes of a cell."""
        return self.offsets_at + (self.offsets_at - self.scales_at if self.offset else 0)

    def nbytes(self, rows: int, columns: int) -> int:
        """Return the bytes of a matrix, padded to whole pairs of cells."""
        return -(-rows // PAIR) * 2 * (columns // CELL_COLUMNS) * self.cell_bytes


_SIGNED = Packing("byte")


def _around(zero: int, group: Literal[16, 32] = 32) -> Packing:
    return Packing("five" if zero < 16 else "seven", group, zero=zero, largest=2 * zero)


PACKINGS: dict[str, Packing] = {
    "Q4_0": Packing("nibble", zero=8, largest=15),
    "Q4_1": Packing("nibble", offset=True, largest=15),
    "Q4_K": Packing("nibble", offset=True, largest=15),
    "Q5_0": Packing("five", zero=16, largest=31),
    "Q5_1": Packing("five", offset=True, largest=31),
    "Q5_K": Packing("five", offset=True, largest=31),
    "Q6_K": Packing("six", 16, zero=32, largest=63),
    "Q8_0": _SIGNED,
    "Q2_K": Packing("crumb", 16, offset=True, largest=3),
    "Q3_K": Packing("three", 16, zero=4, largest=7),
    "IQ4_NL": _SIGNED,
    "IQ4_XS": _SIGNED,
    "MXFP4": _SIGNED,
    "TQ1_0": Packing("crumb", zero=1, largest=2),
    "TQ2_0": Packing("crumb", zero=1, largest=2),
    "IQ1_S": _around(9),
    "IQ1_M": _around(9, 16),
    "IQ2_XXS": _around(43),
    "IQ2_XS": _around(43, 16),
    "IQ2_S": _around(43, 16),
    "IQ3_XXS": _around(62),
    "IQ3_S": _around(15),
}
FLOAT_FORMATS = ("F32", "F16", "BF16")


_EIGHT: dict[Dots, Packing] = {
    "seven": _SIGNED,
    "unsigned": Packing("eight", zero=128, largest=255),
    "signed": Packing("eight", largest=255),
}


def packing(quant: QuantType, dots: Dots = "seven") -> Packing | None:
    """Return the layout of a format; None: it is kept as f32.

    Signed bytes are laid out for what the engine's dot products take; the sizes are the same.
    """
    if quant.name in FLOAT_FORMATS:
        return None
    form = PACKINGS[quant.name]
    return _EIGHT[dots] if form is _SIGNED else form
