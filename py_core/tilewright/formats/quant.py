"""The table of weight formats: one row per GGML block type.

A *block* is the smallest run of weights of one row that is stored together. The bytes of a block
are described where they are read: ``shaders/quant/repack/<role>.wgsl``. This module knows nothing
about GPUs; the role names it gives are only names. Source of the numbers: ggml's ``ggml-common.h``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuantType:
    """One weight format."""

    name: str
    """Name as GGUF tools print it, for example ``Q4_K``."""
    ggml_id: int
    """Number of the type in a GGUF tensor record."""
    block: int
    """Weights per block."""
    nbytes: int
    """Bytes per block."""

    @property
    def bits_per_weight(self) -> float:
        """Bits of file per weight, scales included."""
        return 8.0 * self.nbytes / self.block

    @property
    def role(self) -> str:
        """Name of the WGSL role files of this format."""
        return self.name.lower()

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of ``columns`` weights, which must be a multiple of the block."""
        if columns % self.block:
            raise ValueError(f"{columns} columns are not a multiple of {self.name}'s {self.block}")
        return columns // self.block * self.nbytes


F32 = QuantType("F32", 0, 1, 4)
F16 = QuantType("F16", 1, 1, 2)
BF16 = QuantType("BF16", 30, 1, 2)

QUANT_TYPES: tuple[QuantType, ...] = (
    F32,
    F16,
    BF16,
    QuantType("Q4_0", 2, 32, 18),
    QuantType("Q4_1", 3, 32, 20),
    QuantType("Q5_0", 6, 32, 22),
    QuantType("Q5_1", 7, 32, 24),
    QuantType("Q8_0", 8, 32, 34),
    QuantType("Q2_K", 10, 256, 84),
    QuantType("Q3_K", 11, 256, 110),
    QuantType("Q4_K", 12, 256, 144),
    QuantType("Q5_K", 13, 256, 176),
    QuantType("Q6_K", 14, 256, 210),
    QuantType("IQ2_XXS", 16, 256, 66),
    QuantType("IQ2_XS", 17, 256, 74),
    QuantType("IQ3_XXS", 18, 256, 98),
    QuantType("IQ1_S", 19, 256, 50),
    QuantType("IQ4_NL", 20, 32, 18),
    QuantType("IQ3_S", 21, 256, 110),
    QuantType("IQ2_S", 22, 256, 82),
    QuantType("IQ4_XS", 23, 256, 136),
    QuantType("IQ1_M", 29, 256, 56),
    QuantType("TQ1_0", 34, 256, 54),
    QuantType("TQ2_0", 35, 256, 66),
    QuantType("MXFP4", 39, 32, 17),
)

BY_ID: dict[int, QuantType] = {quant.ggml_id: quant for quant in QUANT_TYPES}
BY_NAME: dict[str, QuantType] = {quant.name: quant for quant in QUANT_TYPES}
