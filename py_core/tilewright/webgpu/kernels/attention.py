"""Attention over the paged KV cache: softmax(scale * q k^T) v.

Bindings: step, q, positions, slots, block_tables, keys, values, [lengths], [sinks], out.
``positions`` and ``slots`` are uniforms where the storage bindings run out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import KernelError
from ..link import Alias, Binding, Constant, link
from . import header
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread
from .kv_write import KvLayout


@dataclass(frozen=True)
class Structure:
    """What is computed: ``q f32[T, heads * head_size]`` -> ``out f32[T, heads * value_size]``."""

    tokens: int
    heads: int
    layout: KvLayout
    scale: float
    q: Span
    out: Span
    causal: bool = True
    """True: a token sees the keys of its slot up to its own position; False: the first
    ``lengths[slot]`` keys."""
    window: int = 0
    """Causal only: keys at positions p - window < k <= p are seen; 0: all."""
    softcap: float = 0.0
    sinks: bool = False
    alibi: bool = False


@dataclass(frozen=True)
class Tuning:
    """How."""

    kind: str = "naive"
    workgroup: int = 32
    chunk: int = 16
    """Naive: units (of four values) of the output per thread."""


def naive(structure: Structure) -> Tuning:
    """One thread per token, head and 64 values."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring."""
    return naive(structure)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    return [naive(structure)]


def _check(structure: Structure) -> None:
    if structure.alibi:
        raise KernelError("Attention with ALiBi is not implemented: the model cannot run here.")
    if structure.window and not structure.causal:
        raise KernelError("A sliding window is only implemented for causal attention.")
    if structure.heads % structure.layout.kv_heads:
        raise KernelError(
            f"{structure.heads} query heads cannot share {structure.layout.kv_heads} key heads."
        )


def _constants(structure: Structure, tuning: Tuning) -> dict[str, Constant]:
    return {
        "Element": Alias("f32"),
        "ACTIVATION": 0,
        "LOWEST": header.LOWEST,
        "HEADS": structure.heads,
        "SCALE": structure.scale,
        "SOFTCAP": structure.softcap,
        "CAUSAL": structure.causal,
        "WINDOW": structure.window,
        "SINKS": structure.sinks,
        "WORKGROUP": tuning.workgroup,
        **structure.layout.constants(),
        **header.rows("tokens", structure.tokens),
        **header.span("Q", structure.q),
        **header.span("OUT", structure.out),
    }


def _bindings(structure: Structure, capabilities: Capabilities) -> tuple[tuple[Binding, ...], str]:
    optional = []
    if not structure.causal:
        optional.append(header.read("lengths", "u32"))
    if structure.sinks:
        optional.append(header.read("sinks"))
    tokens, tokens_file = header.token_bindings(structure.tokens, 5 + len(optional), capabilities)
    bindings = (
        header.STEP,
        header.read("q"),
        *tokens,
        header.read("block_tables", "u32"),
        header.read("keys", structure.layout.element),
        header.read("values", structure.layout.element),
        *optional,
        header.write("out"),
    )
    return bindings, tokens_file


def _files(structure: Structure) -> list[str]:
    return [
        *header.ROWS_FILES,
        "lib/activation.wgsl",
        "lib/kv_cache.wgsl",
        "lib/kv_read.wgsl",
        f"kv/{structure.layout.kind}.wgsl",
        "lib/attention_score.wgsl",
        "lib/attention_length_none.wgsl" if structure.causal else "lib/attention_length.wgsl",
        "lib/attention_sinks.wgsl" if structure.sinks else "lib/attention_sinks_none.wgsl",
    ]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel. Raises KernelError for what is not implemented (ALiBi)."""
    _check(structure)
    layout = structure.layout
    bindings, tokens_file = _bindings(structure, capabilities)
    constants = _constants(structure, tuning) | {"CHUNK": tuning.chunk}
    source = link(
        ["ops/attention_naive.wgsl", *_files(structure), tokens_file],
        constants=constants,
        bindings=bindings,
    )
    chunks = ceil_div(ceil_div(layout.value_size, 4), tuning.chunk)
    threads = structure.tokens * structure.heads * chunks
    return Kernel(
        f"attention {structure.heads}/{layout.kv_heads}x{layout.head_size} naive",
        source,
        bindings,
        spread(ceil_div(threads, tuning.workgroup), capabilities),
        cost(structure),
    )


def cost(structure: Structure) -> Cost:
    """Return what a step moves with a full context: the cache once per tile of tokens."""
    layout = structure.layout
    keys = layout.max_blocks * layout.block
    if structure.window:
        keys = min(keys, structure.window)
    activations = 4 * structure.tokens * structure.heads * (layout.head_size + layout.value_size)
    flops = 2 * structure.tokens * structure.heads * keys * (layout.head_size + layout.value_size)
    return Cost(keys * layout.row_bytes + activations, flops)
