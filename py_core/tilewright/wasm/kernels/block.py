"""A block of weights while it is decoded: what it is read from, and where its parts go."""

from __future__ import annotations

from dataclasses import dataclass

from ..assembler import Expr, Function, Local, f32, i16x8, i32, i32x4, v128

SCALES, OFFSETS, TABLES = 256, 320, 384
"""Places in the scratch: quants come first, then scales, offsets, and tables of the format."""
SCRATCH_BYTES = TABLES + 128 + 16384


def half(f: Function, bits: Expr) -> Expr:
    """Return the f32 of a half-precision number's bits; infinities become 65536 and more."""
    value = f.let(bits)
    size = f32.reinterpret_i32((value & 0x7FFF) << 13) * 2.0**112
    return f32.copysign(size, f32.reinterpret_i32(value << 16))


@dataclass(frozen=True)
class Block:
    """One block: its function, its bytes, the scratch."""

    f: Function
    at: Local
    scratch: Local

    def byte(self, offset: int, index: Expr | int = 0) -> Expr:
        """Return an unsigned byte."""
        return i32.load8_u(self.at + index, offset=offset)

    def signed(self, offset: int, index: Expr) -> Expr:
        """Return a signed byte."""
        return i32.load8_s(self.at + index, offset=offset)

    def half(self, offset: int, index: Expr | int = 0) -> Local:
        """Return an f16 as f32."""
        return self.half_of(i32.load16_u(self.at + index, offset=offset))

    def half_of(self, bits: Expr) -> Local:
        """Return the f32 of an f16's bits."""
        return self.f.let(half(self.f, bits))

    def put(self, column: Expr, quant: Expr) -> None:
        """Set the quant of a column."""
        self.f.do(i32.store8(self.scratch + column, quant))

    def put_vector(self, column: int, quants: Expr) -> None:
        """Set the quants of 16 columns."""
        self.f.do(v128.store(self.scratch, quants, offset=column))

    def nibbles(self, offset: int) -> tuple[Expr, Expr]:
        """Return the low and the high nibbles of 16 bytes."""
        both = self.f.let(v128.load(self.at, offset=offset))
        mask = i32x4.const(0x0F0F0F0F)
        return v128.and_(both, mask), v128.and_(i16x8.shr_u(both, 4), mask)

    def put_nibbles(self, offset: int, low: int, high: int) -> None:
        """Set 16 columns from ``low`` on to low, from ``high`` on to high nibbles of 16 bytes."""
        for column, quants in zip((low, high), self.nibbles(offset), strict=True):
            self.put_vector(column, quants)

    def scale(self, group: Expr | int, value: Expr) -> None:
        """Set the scale of a group."""
        place = self.scratch + (group * 4 if isinstance(group, int) else group << 2)
        self.f.do(f32.store(place, value, offset=SCALES))

    def offset(self, group: Expr | int, value: Expr) -> None:
        """Set the offset of a group."""
        place = self.scratch + (group * 4 if isinstance(group, int) else group << 2)
        self.f.do(f32.store(place, value, offset=OFFSETS))


def moved_bits(vector: Expr, bit: int, at: int, count: int = 1) -> Expr:
    """Return ``count`` bits of every byte, from ``bit`` on, moved to ``at``; the others are 0."""
    moved = vector
    if bit > at:
        moved = i16x8.shr_u(vector, bit - at)
    elif bit < at:
        moved = i16x8.shl(vector, at - bit)
    return v128.and_(moved, i32x4.const((((1 << count) - 1) << at) * 0x01010101))
