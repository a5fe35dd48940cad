"""QkvPrepare: norms of heads or rows, rotation and KvWrite in one dispatch.

Bindings: step, x (or q, k, v where they do not share storage), [q_norm_weight], [k_norm_weight],
[rope_table], positions, slots, block_tables, keys, values, out. ``positions`` and ``slots`` are
uniforms where the storage bindings run out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import KernelError
from ..link import Binding, Constant, link
from . import header, rope
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread
from .kv_write import KvLayout


@dataclass(frozen=True)
class HeadNorm:
    """Norm of each head, or of all of them together."""

    epsilon: float
    weight: int
    """Elements of the weight; the column modulo this is its index."""
    weight_offset: float = 0.0
    center: bool = False
    """False: RMS norm; True: layer norm."""
    whole: bool = False
    """One mean for the whole row: computed again for each of its heads."""


@dataclass(frozen=True)
class Structure:
    """What is prepared: ``q f32[T, heads * head_size]``, k and v as in ``layout``."""

    tokens: int
    heads: int
    layout: KvLayout
    q: Span
    k: Span
    v: Span
    out: Span
    shared: bool = True
    """q, k and v are columns of one buffer, bound as ``x``."""
    dimensions: int = 0
    """Leading elements of a head that are rotated; 0: no rotation."""
    interleaved: bool = False
    magnitude: float = 1.0
    q_norm: HeadNorm | None = None
    k_norm: HeadNorm | None = None


@dataclass(frozen=True)
class Tuning:
    """How: ``lanes`` threads share a head of a token."""

    workgroup: int = 64
    lanes: int = 1
    reduction: str = "tree"


def supports(structure: Structure, capabilities: Capabilities) -> bool:
    """Whether this kernel can do it; otherwise use Norm, Rope and KvWrite."""
    piece = 32 if structure.layout.kind == "q8_0" else 4
    if structure.layout.head_size % piece or structure.layout.value_size % piece:
        return False
    try:
        _bindings(structure, capabilities)
    except KernelError:
        return False
    return True


def naive(structure: Structure) -> Tuning:
    """One thread per head."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return Tuning() if capabilities.software else Tuning(64, 32)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    return [
        naive(structure),
        Tuning(8, 8, "flat"),
        Tuning(64, 8, "flat"),
        Tuning(64, 16),
        Tuning(64, 32),
        Tuning(64, 64),
        Tuning(128, 32),
    ]


def _bindings(structure: Structure, capabilities: Capabilities) -> tuple[tuple[Binding, ...], str]:
    found = [header.read(name) for name in (("x",) if structure.shared else ("q", "k", "v"))]
    if structure.q_norm is not None:
        found.append(header.read("q_norm_weight"))
    if structure.k_norm is not None:
        found.append(header.read("k_norm_weight"))
    if structure.dimensions:
        found.append(header.read("rope_table", "vec2f"))
    tokens, tokens_file = header.token_bindings(structure.tokens, len(found) + 4, capabilities)
    element = structure.layout.element
    bindings = (
        header.STEP,
        *found,
        *tokens,
        header.read("block_tables", "u32"),
        header.write("keys", element),
        header.write("values", element),
        header.write("out"),
    )
    return bindings, tokens_file


def _norm_constants(name: str, norm: HeadNorm | None, heads: int) -> dict[str, Constant]:
    return {
        f"{name}_CENTER": norm is not None and norm.center,
        f"{name}_NORM_HEADS": heads if norm is not None and norm.whole else 1,
        f"{name}_NORM": norm is not None,
        f"{name}_EPSILON": norm.epsilon if norm else 0.0,
        f"{name}_NORM_LENGTH": norm.weight if norm else 1,
        f"{name}_NORM_OFFSET": norm.weight_offset if norm else 0.0,
    }


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel. Raises KernelError for what ``supports`` denies."""
    if not supports(structure, capabilities):
        raise KernelError("These heads cannot be prepared in one dispatch: use the unfused ops.")
    layout = structure.layout
    bindings, tokens_file = _bindings(structure, capabilities)
    files = [
        "ops/qkv_prepare.wgsl",
        *header.ROWS_FILES,
        "lib/kv_cache.wgsl",
        tokens_file,
        header.lanes_file(tuning.lanes, tuning.reduction),
        f"kv/{layout.kind}_store.wgsl",
        "qkv/shared.wgsl" if structure.shared else "qkv/separate.wgsl",
        "qkv/q_norm.wgsl" if structure.q_norm else "qkv/q_norm_none.wgsl",
        "qkv/k_norm.wgsl" if structure.k_norm else "qkv/k_norm_none.wgsl",
        "lib/rope.wgsl" if structure.dimensions else "qkv/rope_none.wgsl",
    ]
    constants: dict[str, Constant] = {
        "HEADS": structure.heads,
        "WORKGROUP": tuning.workgroup,
        "LANES": tuning.lanes,
        **layout.constants(),
        **_norm_constants("Q", structure.q_norm, structure.heads),
        **_norm_constants("K", structure.k_norm, layout.kv_heads),
        **rope.constants(structure.dimensions, structure.interleaved, structure.magnitude),
        **header.rows("tokens", structure.tokens),
        **header.span("Q", structure.q),
        **header.span("K", structure.k),
        **header.span("V", structure.v),
        **header.span("OUT", structure.out),
    }
    groups = structure.tokens * (structure.heads + 2 * layout.kv_heads)
    query = structure.heads * layout.head_size
    read = 4 * (2 * query + layout.key_width + layout.value_width)
    return Kernel(
        f"qkv_prepare {structure.heads}/{layout.kv_heads}x{layout.head_size}",
        link(files, constants=constants, bindings=bindings),
        bindings,
        spread(ceil_div(groups, tuning.workgroup // tuning.lanes), capabilities),
        Cost(structure.tokens * (read + layout.row_bytes), 10 * structure.tokens * query),
    )
