"""The table of WebAssembly instructions that kernels use: name -> opcode bytes, operands, result.

Numbers and signatures are those of the WebAssembly core specification 3.0 (SIMD128, relaxed SIMD,
bulk memory) and of the threads proposal. The table is text because it is read as one; nothing here
knows how an instruction is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

VALUE_TYPES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B}
"""Value types and their codes."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    name: str
    opcode: bytes
    operands: tuple[str, ...]
    result: str | None
    alignment: int = -1
    """log2 of the natural alignment of a memory access; -1: it is none."""
    lanes: int = 0
    """Lanes to choose from (an immediate follows); 0: none."""


def leb_unsigned(value: int) -> bytes:
    """Encode an unsigned integer as LEB128."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


@lru_cache(4096)  # addresses come back in every step of every layer
def leb_signed(value: int) -> bytes:
    """Encode a signed integer as LEB128."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


# Runs of opcodes: "first: name name ..." (hexadecimal), `-` skips one. The signature is the line's.
# ruff: noqa: E501
_SCALAR = """
i32 > i32            | 45: i32.eqz
i32 i32 > i32        | 46: i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u
i64 > i32            | 50: i64.eqz
i64 i64 > i32        | 51: i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u
f32 f32 > i32        | 5b: f32.eq f32.ne f32.lt f32.gt f32.le f32.ge
f64 f64 > i32        | 61: f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
i32 > i32            | 67: i32.clz i32.ctz i32.popcnt
i32 i32 > i32        | 6a: i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr
i64 > i64            | 79: i64.clz i64.ctz i64.popcnt
i64 i64 > i64        | 7c: i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u i64.and i64.or i64.xor i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr
f32 > f32            | 8b: f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt
f32 f32 > f32        | 92: f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign
f64 > f64            | 99: f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt
f64 f64 > f64        | a0: f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign
i64 > i32            | a7: i32.wrap_i64
f32 > i32            | a8: i32.trunc_f32_s i32.trunc_f32_u
f64 > i32            | aa: i32.trunc_f64_s i32.trunc_f64_u
i32 > i64            | ac: i64.extend_i32_s i64.extend_i32_u
f64 > i64            | b0: i64.trunc_f64_s i64.trunc_f64_u
i32 > f32            | b2: f32.convert_i32_s f32.convert_i32_u
i64 > f32            | b4: f32.convert_i64_s f32.convert_i64_u
f64 > f32            | b6: f32.demote_f64
i32 > f64            | b7: f64.convert_i32_s f64.convert_i32_u
i64 > f64            | b9: f64.convert_i64_s f64.convert_i64_u
f32 > f64            | bb: f64.promote_f32
f32 > i32            | bc: i32.reinterpret_f32
f64 > i64            | bd: i64.reinterpret_f64
i32 > f32            | be: f32.reinterpret_i32
i64 > f64            | bf: f64.reinterpret_i64
i32 > i32            | c0: i32.extend8_s i32.extend16_s
"""

_VECTOR = """
v128 v128 > v128     | 0e: i8x16.swizzle
i32 > v128           | 0f: i8x16.splat i16x8.splat i32x4.splat
i64 > v128           | 12: i64x2.splat
f32 > v128           | 13: f32x4.splat
f64 > v128           | 14: f64x2.splat
v128 v128 > v128     | 23: i8x16.eq i8x16.ne i8x16.lt_s i8x16.lt_u i8x16.gt_s i8x16.gt_u i8x16.le_s i8x16.le_u i8x16.ge_s i8x16.ge_u
v128 v128 > v128     | 2d: i16x8.eq i16x8.ne i16x8.lt_s i16x8.lt_u i16x8.gt_s i16x8.gt_u i16x8.le_s i16x8.le_u i16x8.ge_s i16x8.ge_u
v128 v128 > v128     | 37: i32x4.eq i32x4.ne i32x4.lt_s i32x4.lt_u i32x4.gt_s i32x4.gt_u i32x4.le_s i32x4.le_u i32x4.ge_s i32x4.ge_u
v128 v128 > v128     | 41: f32x4.eq f32x4.ne f32x4.lt f32x4.gt f32x4.le f32x4.ge f64x2.eq f64x2.ne f64x2.lt f64x2.gt f64x2.le f64x2.ge
v128 > v128          | 4d: v128.not
v128 v128 > v128     | 4e: v128.and v128.andnot v128.or v128.xor
v128 v128 v128 > v128| 52: v128.bitselect
v128 > i32           | 53: v128.any_true
v128 > v128          | 5e: f32x4.demote_f64x2_zero f64x2.promote_low_f32x4 i8x16.abs i8x16.neg i8x16.popcnt
v128 > i32           | 63: i8x16.all_true i8x16.bitmask
v128 v128 > v128     | 65: i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u
v128 > v128          | 67: f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest
v128 i32 > v128      | 6b: i8x16.shl i8x16.shr_s i8x16.shr_u
v128 v128 > v128     | 6e: i8x16.add i8x16.add_sat_s i8x16.add_sat_u i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u
v128 > v128          | 74: f64x2.ceil f64x2.floor
v128 v128 > v128     | 76: i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u
v128 > v128          | 7a: f64x2.trunc
v128 v128 > v128     | 7b: i8x16.avgr_u
v128 > v128          | 7c: i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u i16x8.abs i16x8.neg
v128 v128 > v128     | 82: i16x8.q15mulr_sat_s
v128 > i32           | 83: i16x8.all_true i16x8.bitmask
v128 v128 > v128     | 85: i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u
v128 > v128          | 87: i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u
v128 i32 > v128      | 8b: i16x8.shl i16x8.shr_s i16x8.shr_u
v128 v128 > v128     | 8e: i16x8.add i16x8.add_sat_s i16x8.add_sat_u i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u
v128 > v128          | 94: f64x2.nearest
v128 v128 > v128     | 95: i16x8.mul i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u - i16x8.avgr_u i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u
v128 > v128          | a0: i32x4.abs i32x4.neg
v128 > i32           | a3: i32x4.all_true i32x4.bitmask
v128 > v128          | a7: i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u
v128 i32 > v128      | ab: i32x4.shl i32x4.shr_s i32x4.shr_u
v128 v128 > v128     | ae: i32x4.add - - i32x4.sub - - - i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s - i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u
v128 i32 > v128      | cb: i64x2.shl i64x2.shr_s i64x2.shr_u
v128 v128 > v128     | ce: i64x2.add - - i64x2.sub - - - i64x2.mul
v128 > v128          | e0: f32x4.abs f32x4.neg - f32x4.sqrt
v128 v128 > v128     | e4: f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max f32x4.pmin f32x4.pmax
v128 > v128          | ec: f64x2.abs f64x2.neg - f64x2.sqrt
v128 v128 > v128     | f0: f64x2.add f64x2.sub f64x2.mul f64x2.div f64x2.min f64x2.max f64x2.pmin f64x2.pmax
v128 > v128          | f8: i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u
v128 v128 > v128     | 100: i8x16.relaxed_swizzle
v128 > v128          | 101: i32x4.relaxed_trunc_f32x4_s i32x4.relaxed_trunc_f32x4_u
v128 v128 v128 > v128| 105: f32x4.relaxed_madd f32x4.relaxed_nmadd f64x2.relaxed_madd f64x2.relaxed_nmadd i8x16.relaxed_laneselect i16x8.relaxed_laneselect i32x4.relaxed_laneselect i64x2.relaxed_laneselect
v128 v128 > v128     | 10d: f32x4.relaxed_min f32x4.relaxed_max
v128 v128 > v128     | 112: i16x8.relaxed_dot_i8x16_i7x16_s
v128 v128 v128 > v128| 113: i32x4.relaxed_dot_i8x16_i7x16_add_s
"""

# name, opcode, operands and result, bytes accessed
_MEMORY = """
i32.load 28 i32 > i32 4;      i64.load 29 i32 > i64 8;      f32.load 2a i32 > f32 4
f64.load 2b i32 > f64 8;      i32.load8_s 2c i32 > i32 1;   i32.load8_u 2d i32 > i32 1
i32.load16_s 2e i32 > i32 2;  i32.load16_u 2f i32 > i32 2
i32.store 36 i32 i32 > 4;     i64.store 37 i32 i64 > 8;     f32.store 38 i32 f32 > 4
f64.store 39 i32 f64 > 8;     i32.store8 3a i32 i32 > 1;    i32.store16 3b i32 i32 > 2
v128.load fd00 i32 > v128 16;         v128.load8x8_s fd01 i32 > v128 8
v128.load8x8_u fd02 i32 > v128 8;     v128.load16x4_s fd03 i32 > v128 8
v128.load16x4_u fd04 i32 > v128 8;    v128.load8_splat fd07 i32 > v128 1
v128.load16_splat fd08 i32 > v128 2;  v128.load32_splat fd09 i32 > v128 4
v128.load64_splat fd0a i32 > v128 8;  v128.store fd0b i32 v128 > 16
v128.load32_zero fd5c i32 > v128 4;   v128.load64_zero fd5d i32 > v128 8
memory.atomic.notify fe00 i32 i32 > i32 4
memory.atomic.wait32 fe01 i32 i32 i64 > i32 4
i32.atomic.load fe10 i32 > i32 4;     i32.atomic.store fe17 i32 i32 > 4
i32.atomic.rmw.add fe1e i32 i32 > i32 4;      i32.atomic.rmw.cmpxchg fe48 i32 i32 i32 > i32 4
"""

# name, opcode, operands and result, lanes
_LANE = """
i8x16.extract_lane_s 15 v128 > i32 16; i8x16.extract_lane_u 16 v128 > i32 16
i8x16.replace_lane 17 v128 i32 > v128 16
i16x8.extract_lane_s 18 v128 > i32 8;  i16x8.extract_lane_u 19 v128 > i32 8
i16x8.replace_lane 1a v128 i32 > v128 8
i32x4.extract_lane 1b v128 > i32 4;    i32x4.replace_lane 1c v128 i32 > v128 4
i64x2.extract_lane 1d v128 > i64 2;    i64x2.replace_lane 1e v128 i64 > v128 2
f32x4.extract_lane 1f v128 > f32 4;    f32x4.replace_lane 20 v128 f32 > v128 4
f64x2.extract_lane 21 v128 > f64 2;    f64x2.replace_lane 22 v128 f64 > v128 2
"""


def _signature(text: str) -> tuple[tuple[str, ...], str | None]:
    operands, _, result = text.partition(">")
    return tuple(operands.split()), result.strip() or None


def _records(table: str) -> list[str]:
    return [text.strip() for line in table.splitlines() for text in line.split(";") if text.strip()]


def _build() -> dict[str, Instruction]:
    found: dict[str, Instruction] = {}
    for prefix, table in ((b"", _SCALAR), (b"\xfd", _VECTOR)):
        for line in table.strip().splitlines():
            signature, _, run = line.partition("|")
            first, _, names = run.partition(":")
            operands, result = _signature(signature)
            for code, name in enumerate(names.split(), int(first, 16)):
                opcode = prefix + leb_unsigned(code) if prefix else bytes([code])
                if name != "-":
                    found[name] = Instruction(name, opcode, operands, result)
    for record in _records(_MEMORY):
        name, number, rest = record.split(" ", 2)
        signature, _, size = rest.rpartition(" ")
        operands, result = _signature(signature)
        alignment = int(size).bit_length() - 1
        found[name] = Instruction(name, bytes.fromhex(number), operands, result, alignment)
    for record in _records(_LANE):
        name, number, rest = record.split(" ", 2)
        signature, _, lanes = rest.rpartition(" ")
        operands, result = _signature(signature)
        opcode = b"\xfd" + leb_unsigned(int(number, 16))
        found[name] = Instruction(name, opcode, operands, result, lanes=int(lanes))
    return found


INSTRUCTIONS = _build()


@lru_cache(256)
def instruction_of(type_: str | None, name: str) -> Instruction | None:
    """Return the instruction ``<type>.<name>``, or None."""
    return INSTRUCTIONS.get(f"{type_}.{name}")


def wrapped(value: int, bits: int) -> int:
    """Return an integer modulo its size, signed."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


plain_only: ContextVar[bool] = ContextVar("plain_only", default=False)
"""Whether relaxed SIMD must not be emitted."""


@contextmanager
def without_relaxed(plain: bool = True) -> Iterator[None]:
    """Within the block no relaxed SIMD is emitted: what has a plain equal is replaced."""
    token = plain_only.set(plain)
    try:
        yield
    finally:
        plain_only.reset(token)
