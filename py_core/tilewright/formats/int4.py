"""Published 4-bit safetensors (GPTQ, AWQ) shown in GGUF's block formats, nothing lost.

Both keep a matrix ``[N, K]`` as codes, and per group of consecutive k a scale and a zero:
``w = (code - zero) * scale``. With the zero 8 that is Q4_0, with others Q5_0 (``code - zero`` has
five bits), whose blocks take the same f16 scale: equal weights, no rounding. Where the groups are
not consecutive (GPTQ's act-order) no block format fits; those weights are shown as F16, rounded,
and can be encoded on the way as other floats are (``requantized``).

Layouts, all I32 but the scales (F16 ``[G, N]``), the lowest bits first: GPTQ's ``qweight``
``[K/8, N]`` holds eight k, ``qzeros`` ``[G, N/8]`` the zeros less one (not so in ``gptq_v2``),
``g_idx`` ``[K]`` the group of each k. AWQ's ``qweight`` ``[K, N/8]`` and ``qzeros`` hold eight n in
the order 0 2 4 6 1 3 5 7. Bytes move by slices and tables, as Python has no numpy in a page.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import FormatError, UnsupportedModelError
from .computed import ComputedSource
from .quant import BY_NAME, QuantType
from .safetensors import RawTensor
from .source import ByteSource

_LOW = bytes(byte & 15 for byte in range(256))
_HIGH = bytes(byte >> 4 for byte in range(256))
_FIFTH = bytes(byte >> 4 & 1 for byte in range(256))
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_GPTQ_ORDER = tuple(range(8))
_ABOVE = 16
"""Added to ``code - zero``, which is -16 at least, as Q5_0 has it."""
_MINUS = tuple(bytes((code % 16 - zero + _ABOVE) for code in range(256)) for zero in range(17))
"""Tables: code -> code - zero + 16."""
_ROWS_WEIGHTS = 1 << 20
"""Weights that are converted at a time."""


@dataclass(frozen=True)
class Int4:
    """How a model's matrices are stored; of ``quantization_config``."""

    method: str
    """gptq or awq."""
    group: int
    """Weights that share a scale; 0: whole rows."""
    zero_offset: int
    """Added to the zeros of the file."""
    quant: QuantType
    """In which the matrices are shown."""
    ordered: bool
    """Whether groups are consecutive."""


def read_int4(config: Mapping[str, Any], file: str) -> Int4 | None:
    """Return how weights are quantized, None where they are not.

    Raises UnsupportedModelError for what cannot be read.
    """
    given = config.get("quantization_config")
    if not given:
        return None
    if not isinstance(given, dict):
        given = {"quant_method": given}
    method = given.get("quant_method")
    bits, group = given.get("bits"), given.get("group_size")
    version = given.get("checkpoint_format", "gptq")
    act_order = bool(given.get("desc_act"))
    if bits == 4 and isinstance(group, int) and (group == -1 or (group > 0 and group % 32 == 0)):
        group = max(0, group)
        if method == "gptq" and version in ("gptq", "gptq_v2"):
            kind = "F16" if act_order else "Q4_0" if given.get("sym") is True else "Q5_0"
            offset = 1 if version == "gptq" else 0
            return Int4("gptq", group, offset, BY_NAME[kind], not act_order)
        gemm = str(given.get("version", "gemm")).lower() == "gemm"
        if method == "awq" and gemm and given.get("zero_point") is True:
            return Int4("awq", group, 0, BY_NAME["Q5_0"], True)
    raise UnsupportedModelError(
        f"{file}: safetensors quantized in this way ({str(method)[:40]!r}, {str(bits)[:10]} bits, "
        f"groups of {str(group)[:10]}) are not supported; GPTQ and AWQ's GEMM format with 4 bits "
        "and groups of a multiple of 32 are: choose such a file, the unquantized model or a GGUF "
        "file."
    )


def show_int4(raw: Mapping[str, RawTensor], how: Int4) -> dict[str, RawTensor]:
    """Replace the parts of each quantized matrix by the matrix, its ``dtype`` a GGUF format.

    Raises FormatError, UnsupportedModelError.
    """
    shown = Int4Source(f"{how.method} weights", how)
    found: dict[str, RawTensor] = {}
    for name, tensor in raw.items():
        stem, _, part = name.rpartition(".")
        if f"{stem}.qweight" not in raw or part not in ("qweight", "qzeros", "scales", "g_idx"):
            found[name] = tensor
        elif part == "qweight":
            matrix = _matrix(raw, stem, how)
            offset, nbytes = shown.append(matrix)
            weight = f"{stem}.weight"
            shape = (matrix.rows, matrix.columns)
            found[weight] = RawTensor(weight, how.quant.name, shape, shown, offset, nbytes)
    return found


@dataclass(frozen=True)
class _Matrix:
    name: str
    rows: int
    """N."""
    columns: int
    """K."""
    group: int
    codes: RawTensor
    zeros: RawTensor
    scales: RawTensor
    groups: RawTensor | None


def _matrix(raw: Mapping[str, RawTensor], stem: str, how: Int4) -> _Matrix:
    """Check the parts of one matrix."""
    codes, zeros, scales, groups = (
        raw.get(f"{stem}.{part}") for part in ("qweight", "qzeros", "scales", "g_idx")
    )
    if codes is None or zeros is None or scales is None or (groups is None and not how.ordered):
        raise FormatError(f"The model lacks parts of the quantized {stem!r}: it is incomplete.")
    if scales.dtype != "F16":
        raise UnsupportedModelError(
            f"The scales of {stem!r} have the type {scales.dtype}; only F16 can be kept as they "
            "are: choose another version of the model."
        )
    if len(codes.shape) == len(scales.shape) == 2:
        rows = scales.shape[1]
        columns = codes.shape[0] * (8 if how.method == "gptq" else 1)
        group = how.group or columns
        packed = (columns // 8, rows) if how.method == "gptq" else (columns, rows // 8)
        count = columns // group
        fits = columns % group == 0 and columns % 32 == 0 and rows % 8 == 0
        fits = fits and codes.shape == packed and scales.shape == (count, rows)
        fits = fits and zeros.shape == (count, rows // 8) and rows * columns > 0
        fits = fits and (groups is None or groups.shape == (columns,))
        integers = {part.dtype for part in (codes, zeros, groups) if part is not None}
        if fits and integers == {"I32"}:
            return _Matrix(stem, rows, columns, group, codes, zeros, scales, groups)
    raise FormatError(
        f"The parts of the quantized {stem!r} do not fit together: the file is damaged, or its "
        "config.json is of another model."
    )


@dataclass
class _Held:
    """One matrix in memory."""

    words: array[int] | bytes
    """GPTQ: I32 ``[K/8, N]``; AWQ: the codes as bytes ``[K, N]``."""
    zeros: bytes
    """``[G, N]``, as they count."""
    scales: array[int]
    """Bits of F16 ``[G, N]``."""
    groups: list[int]
    """Of each k; empty where they are consecutive."""


class Int4Source(ComputedSource):
    """Matrices one after the other as ``Int4.quant`` has them.

    The one that is being read is held in memory until its last byte has been given out.
    """

    def __init__(self, name: str, how: Int4) -> None:
        super().__init__(name)
        self._how = how
        self._matrices: list[_Matrix] = []
        self._held: tuple[int, _Held] | None = None

    def append(self, matrix: _Matrix) -> tuple[int, int]:
        """Add a matrix; return its offset and its bytes here."""
        nbytes = matrix.rows * self._how.quant.row_bytes(matrix.columns)
        self._matrices.append(matrix)
        return self._grow(nbytes), nbytes

    async def _range(self, index: int, skip: int, count: int) -> bytes:
        matrix = self._matrices[index]
        row_bytes = self._how.quant.row_bytes(matrix.columns)
        if self._held is None or self._held[0] != index:
            self._held = None
            self._held = (index, await _hold(matrix, self._how))
        held = self._held[1]
        first, last = skip // row_bytes, -(-(skip + count) // row_bytes)
        step = max(1, _ROWS_WEIGHTS // matrix.columns)
        data = b"".join(
            self._rows(matrix, held, row, min(row + step, last)) for row in range(first, last, step)
        )
        if skip + count == matrix.rows * row_bytes:
            self._held = None
        begin = skip - first * row_bytes
        return data if len(data) == count else data[begin : begin + count]

    def _rows(self, matrix: _Matrix, held: _Held, first: int, last: int) -> bytes:
        size = matrix.rows
        rows = range(first, last)
        stripes = b"".join(bytes(memoryview(held.words[row::size])) for row in rows)
        if self._how.method == "gptq":
            codes = bytearray(2 * len(stripes))
            codes[0::2], codes[1::2] = stripes.translate(_LOW), stripes.translate(_HIGH)
            stripes = bytes(codes)
        zeros = b"".join(held.zeros[row::size] for row in rows)
        scales = b"".join(held.scales[row::size].tobytes() for row in rows)
        if held.groups:
            return _f16(stripes, zeros, scales, held.groups)
        repeated = _repeated(scales, matrix.group // 32)
        if self._how.quant.name == "Q4_0":
            return _q4_0(stripes, repeated)
        return _q5_0(_signed(stripes, zeros, matrix.group), repeated)


async def _hold(matrix: _Matrix, how: Int4) -> _Held:
    """Read one matrix and check what the config says of it."""
    data = await _bytes(matrix.codes)
    order = _GPTQ_ORDER if how.method == "gptq" else _AWQ_ORDER
    words = array("I", data) if how.method == "gptq" else _unpacked(data, order)
    plain = _unpacked(await _bytes(matrix.zeros), order)
    zeros = plain.translate(bytes((code + how.zero_offset) % 256 for code in range(256)))
    if how.quant.name == "Q4_0" and zeros.count(8) != len(zeros):
        raise FormatError(
            f"{matrix.name!r} has zeros other than 8, though its config.json says that it is "
            "symmetric: correct sym there, or choose another version of the model."
        )
    groups: list[int] = []
    if matrix.groups is not None:
        data = await _bytes(matrix.groups)
        groups = list(struct.unpack(f"<{matrix.columns}i", data))
        if how.ordered and groups != [k // matrix.group for k in range(matrix.columns)]:
            raise FormatError(
                f"{matrix.name!r} is in act-order, though its config.json says that it is not: "
                "correct desc_act there, or choose another version of the model."
            )
        if not all(0 <= group < matrix.columns // matrix.group for group in groups):
            raise FormatError(f"{matrix.name!r} names groups that it does not have: it is damaged.")
    scales = array("H", await _bytes(matrix.scales))
    return _Held(words, zeros, scales, [] if how.ordered else groups)


async def _bytes(raw: RawTensor) -> bytes:
    source: ByteSource = raw.source
    return await source.read(raw.offset, raw.nbytes)


def _unpacked(words: bytes, order: tuple[int, ...]) -> bytes:
    """Return the eight codes of each word as bytes; ``order[i]`` is the place of its i-th."""
    codes = bytearray(2 * len(words))
    for place, column in enumerate(order):
        table = _HIGH if place % 2 else _LOW
        codes[column::8] = words[place // 2 :: 4].translate(table)
    return bytes(codes)


def _repeated(halves: bytes, times: int) -> bytes:
    """Repeat each item of two bytes."""
    items = array("H", halves)
    made = array("H", bytes(len(halves) * times))
    for place in range(times):
        made[place::times] = items
    return made.tobytes()


def _signed(codes: bytes, zeros: bytes, group: int) -> bytes:
    """Return code - zero + 16 of each weight."""
    return b"".join(
        codes[number * group : (number + 1) * group].translate(_MINUS[zero])
        for number, zero in enumerate(zeros)
    )


def _joined(parts: list[bytes], shift: int) -> bytes:
    """Return the bytes of the parts, the next ``shift`` bits higher, as one."""
    whole = 0
    for number, part in enumerate(parts):
        whole |= int.from_bytes(part, "little") << shift * number
    return whole.to_bytes(len(parts[0]), "little")


def _q4_0(codes: bytes, scales: bytes) -> bytes:
    """Blocks of 32: the scale, then byte i holds weights i and i + 16."""
    made = bytearray(len(codes) // 32 * 18)
    made[0::18], made[1::18] = scales[0::2], scales[1::2]
    for place in range(16):
        made[2 + place :: 18] = _joined([codes[place::32], codes[place + 16 :: 32]], 4)
    return bytes(made)


def _q5_0(codes: bytes, scales: bytes) -> bytes:
    """Blocks of 32: the scale, 32 fifth bits, then byte i holds the rest of i and i + 16."""
    made = bytearray(len(codes) // 32 * 22)
    made[0::22], made[1::22] = scales[0::2], scales[1::2]
    fifth, low = codes.translate(_FIFTH), codes.translate(_LOW)
    for byte in range(4):
        made[2 + byte :: 22] = _joined([fifth[8 * byte + bit :: 32] for bit in range(8)], 1)
    for place in range(16):
        made[6 + place :: 22] = _joined([low[place::32], low[place + 16 :: 32]], 4)
    return bytes(made)


def _f16(codes: bytes, zeros: bytes, scales: bytes, groups: list[int]) -> bytes:
    """Return ``[rows, K]`` dequantized; the groups' members are brought together and back."""
    columns = len(groups)
    rows = len(codes) // columns
    order = sorted(range(columns), key=groups.__getitem__)
    sizes = [0] * (len(zeros) // rows)
    for group in groups:
        sizes[group] += 1
    together = bytearray(len(codes))
    for place, column in enumerate(order):
        together[place::columns] = codes[column::columns]
    low, high, at = [], [], 0
    steps = struct.unpack(f"<{len(zeros)}e", scales)
    for number, (zero, step) in enumerate(zip(zeros, steps, strict=True)):
        values = struct.pack("<16e", *[(code - zero) * step for code in range(16)])
        members = together[at : at + sizes[number % len(sizes)]]
        at += len(members)
        low.append(members.translate(values[0::2].ljust(256)))
        high.append(members.translate(values[1::2].ljust(256)))
    made = bytearray(2 * len(codes))
    for half, parts in enumerate((low, high)):
        whole = b"".join(parts)
        for place, column in enumerate(order):
            made[2 * column + half :: 2 * columns] = whole[place::columns]
    return bytes(made)
