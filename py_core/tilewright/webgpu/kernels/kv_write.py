"""KvWrite, and the layout of the paged KV cache that all attention kernels share.

A layer's cache is two buffers, ``keys`` and ``values``. A token's row in both is
``physical_block * block + position % block`` with ``physical_block =
block_tables[slot * max_blocks + position / block]``; a row is ``kv_heads * head_size`` elements,
head by head, in one of three formats (``shaders/kv``).

Bindings: step, k, v, positions, slots, block_tables, keys, values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import KernelError
from ..link import Constant, link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread

KvKind = Literal["f32", "f16", "q8_0"]

_ELEMENT = {"f32": "vec4f", "f16": "vec2u", "q8_0": "u32"}
"""WGSL element of the cache's arrays."""


def kv_row_elements(kind: KvKind, width: int) -> int:
    """Return how many array elements of the WGSL side a row of ``width`` floats takes."""
    if kind == "q8_0":
        return 9 * ceil_div(width, 32)
    return ceil_div(width, 4)


def kv_row_bytes(kind: KvKind, width: int) -> int:
    """Return the bytes of one token's row of ``width`` floats (keys or values of a layer)."""
    return kv_row_elements(kind, width) * {"f32": 16, "f16": 8, "q8_0": 4}[kind]


@dataclass(frozen=True)
class KvLayout:
    """How a layer's keys and values lie in memory."""

    kind: KvKind
    kv_heads: int
    head_size: int
    value_size: int
    block: int
    """Positions per block: a power of two."""
    max_blocks: int
    """Blocks of a slot in the block table."""

    @property
    def element(self) -> str:
        """WGSL element type of ``keys`` and ``values``."""
        return _ELEMENT[self.kind]

    @property
    def key_width(self) -> int:
        """Floats of a token's keys."""
        return self.kv_heads * self.head_size

    @property
    def value_width(self) -> int:
        """Floats of a token's values."""
        return self.kv_heads * self.value_size

    @property
    def row_bytes(self) -> int:
        """Bytes of a token's keys and values together."""
        return kv_row_bytes(self.kind, self.key_width) + kv_row_bytes(self.kind, self.value_width)

    def constants(self) -> dict[str, Constant]:
        """Return the header constants of ``lib/kv_cache.wgsl`` and of the KV roles."""
        if self.block & (self.block - 1) or self.block <= 0:
            raise KernelError(f"A KV block of {self.block} positions is not a power of two.")
        return {
            "KV_HEADS": self.kv_heads,
            "HEAD_SIZE": self.head_size,
            "VALUE_SIZE": self.value_size,
            "KEY_WIDTH": self.key_width,
            "VALUE_WIDTH": self.value_width,
            "KEY_ROW": kv_row_elements(self.kind, self.key_width),
            "VALUE_ROW": kv_row_elements(self.kind, self.value_width),
            "KV_BLOCK": self.block,
            "MAX_BLOCKS": self.max_blocks,
        }


@dataclass(frozen=True)
class Structure:
    """What is stored: ``k f32[T, kv_heads * head_size]``, ``v f32[T, kv_heads * value_size]``."""

    tokens: int
    k: Span
    v: Span
    layout: KvLayout


@dataclass(frozen=True)
class Tuning:
    """How: one thread per unit that the format stores at once."""

    workgroup: int = 64


def naive(structure: Structure) -> Tuning:
    """64 threads."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return naive(structure)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    return [Tuning(size) for size in (64, 32, 128, 256) if size <= capabilities.max_invocations]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel."""
    layout = structure.layout
    tokens, tokens_file = header.token_bindings(structure.tokens, 5, capabilities)
    bindings = (
        header.STEP,
        header.read("k"),
        header.read("v"),
        *tokens,
        header.read("block_tables", "u32"),
        header.write("keys", layout.element),
        header.write("values", layout.element),
    )
    source = link(
        [
            "ops/kv_write.wgsl",
            *header.ROWS_FILES,
            "lib/kv_cache.wgsl",
            tokens_file,
            f"kv/{layout.kind}_store.wgsl",
        ],
        constants={
            **layout.constants(),
            "WORKGROUP": tuning.workgroup,
            **header.rows("tokens", structure.tokens),
            **header.span("K", structure.k),
            **header.span("V", structure.v),
        },
        bindings=bindings,
    )
    piece = 32 if layout.kind == "q8_0" else 4
    pieces = ceil_div(layout.key_width, piece) + ceil_div(layout.value_width, piece)
    read = 4 * (layout.key_width + layout.value_width)
    return Kernel(
        f"kv_write {layout.kind}",
        source,
        bindings,
        spread(ceil_div(structure.tokens * pieces, tuning.workgroup), capabilities),
        Cost(structure.tokens * (read + layout.row_bytes), 0),
    )
