"""Attention over the paged KV cache: softmax(scale * q k^T) v.

Bindings: step, q, positions, slots, block_tables, keys, values, [lengths], [sinks], out.
``positions`` and ``slots`` are uniforms where the storage bindings run out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import KernelError
from ..link import Alias, Binding, Constant, link
from . import header, swap
from .kernel import Capabilities, Cost, Kernel, Span, ceil_div, spread
from .kv_write import KvLayout

DECODE_TOKENS = 8
"""Up to this capacity a plan is tuned for decode: tiles of one token."""

_SWAP_ROWS = 16
"""Rows of the largest swap tile: four for each of four lanes."""
_SWAP_SIZE = 128
"""Largest head of a swap kernel: pieces of 16 columns are written out."""


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
    """``naive``: a thread does it all. ``quad``: tiles of up to four rows (a row is a query head
    of a token) in vectors and matrices. ``tile``: tiles of any number of rows in arrays, for
    compilers that unroll loops. ``swap``: up to four rows for each of four lanes, which swap what
    they load, for SwiftShader. See ``shaders/ops/attention_*.wgsl``, ``shaders/attention``."""
    workgroup: int = 32
    chunk: int = 16
    """Naive: units (of four values) of the output per thread."""
    tile_tokens: int = 1
    """All but naive: tokens of a workgroup; 1 for decode."""
    tile_heads: int = 1
    """All but naive: query heads of a workgroup, which share a key head."""
    keys_per_thread: int = 1
    """Tile: the keys between two barriers are this times ``workgroup`` (quad: four times)."""
    splits: int = 1
    """All but naive: workgroups that share the keys. More than one: the result is in
    ``partials``, and ``combine`` must follow."""


def naive(structure: Structure) -> Tuning:
    """One thread per token, head and 64 values."""
    return Tuning()


def default(structure: Structure, capabilities: Capabilities) -> Tuning:
    """Return a good guess without measuring (never split: one dispatch)."""
    if swap.suits(capabilities):
        swapping = _swap(structure, _SWAP_ROWS)
        if _fits(structure, swapping, capabilities):
            return swapping
    workgroup = 128 if structure.tokens <= DECODE_TOKENS else 64
    if capabilities.software:
        workgroup = 16
    while workgroup < ceil_div(structure.layout.value_size, 4):
        workgroup *= 2
    tokens, heads = _tile(structure, 4)
    found = Tuning("quad", workgroup, tile_tokens=tokens, tile_heads=heads)
    return found if _fits(structure, found, capabilities) else naive(structure)


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing.

    No arrays (``tile``) on software adapters, but swap kernels. Compilers that these were not made
    for take seconds for each row of a lane: there only the smallest tile is offered.
    """
    keys = structure.layout.max_blocks * structure.layout.block
    long = structure.tokens <= DECODE_TOKENS and keys >= 1024
    first = default(structure, capabilities)
    found = [naive(structure), first]
    tokens, heads = _tile(structure, 4)
    # where a swap kernel is the default, only the best of the others stays in the race
    workgroups = (16,) if first.kind == "swap" else (16, 32, 64, 128, 256)
    found += [
        Tuning("quad", workgroup, tile_tokens=tokens, tile_heads=heads, splits=splits)
        for splits in ((1, 4, 16) if long else (1,))
        for workgroup in workgroups
    ]
    if capabilities.software:
        rows = (_SWAP_ROWS, 12, 8, 4) if swap.suits(capabilities) else (4,)
        found += [_swap(structure, n, s) for n in rows for s in ((1, 4, 16) if long else (1,))]
        return [t for t in dict.fromkeys(found) if _fits(structure, t, capabilities)]
    tokens, heads = _tile(structure, 8 if structure.tokens <= DECODE_TOKENS else 16)
    for splits in (1, 8) if long else (1,):
        for workgroup in (32, 64):
            found.append(
                Tuning("tile", workgroup, tile_tokens=tokens, tile_heads=heads, splits=splits)
            )
    return [t for t in dict.fromkeys(found) if _fits(structure, t, capabilities)]


def _swap(structure: Structure, rows: int, splits: int = 1) -> Tuning:
    tokens, heads = _tile(structure, rows)
    return Tuning("swap", 4, tile_tokens=tokens, tile_heads=heads, splits=splits)


def _tile(structure: Structure, rows: int) -> tuple[int, int]:
    """Return the (tokens, heads) of a tile that come nearest to ``rows``; one token in decode."""
    group = structure.heads // structure.layout.kv_heads
    choices = []
    for heads in range(1, min(group, rows) + 1):
        if group % heads == 0:
            tokens = 1 if structure.tokens <= DECODE_TOKENS else rows // heads
            choices.append((tokens * heads, tokens, heads))
    _, tokens, heads = max(choices)
    return tokens, heads


def _fits(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> bool:
    """Whether the device can run it."""
    if tuning.kind == "swap":
        sizes = structure.layout.head_size, structure.layout.value_size
        return (
            capabilities.subgroups
            and capabilities.subgroup_min >= 4
            and tuning.workgroup == 4
            and tuning.tile_tokens * tuning.tile_heads <= _SWAP_ROWS
            and all(size % 16 == 0 and size <= _SWAP_SIZE for size in sizes)
        )
    units = ceil_div(structure.layout.value_size, 4)
    return (
        tuning.workgroup <= capabilities.max_invocations
        and _workgroup_bytes(structure, tuning) <= capabilities.workgroup_memory
        and (tuning.kind != "quad" or tuning.workgroup >= units)
    )


def _workgroup_bytes(structure: Structure, tuning: Tuning) -> int:
    """Return the workgroup memory that the tile kernel takes."""
    if tuning.kind == "naive":
        return 0
    rows = tuning.tile_tokens * tuning.tile_heads
    if tuning.kind == "quad":
        return 64 * ceil_div(structure.layout.head_size, 4) + 80 * tuning.workgroup + 16
    queries = 16 * rows * ceil_div(structure.layout.head_size, 4)
    weights = 4 * rows * tuning.workgroup * tuning.keys_per_thread
    return queries + weights + 4 * rows + 16 * tuning.workgroup


def partials_bytes(structure: Structure, tuning: Tuning) -> int:
    """Return the size of the ``partials`` buffer; 0 where nothing is split."""
    if tuning.splits == 1:
        return 0
    vectors = ceil_div(structure.layout.value_size, 4) + 1
    return 16 * structure.tokens * structure.heads * tuning.splits * vectors


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
        "SPLITS": tuning.splits,
        "WORKGROUP": tuning.workgroup,
        **structure.layout.constants(),
        **header.rows("tokens", structure.tokens),
        **header.span("Q", structure.q),
        **header.span("OUT", structure.out),
    }


def _bindings(
    structure: Structure, tuning: Tuning, capabilities: Capabilities
) -> tuple[tuple[Binding, ...], str]:
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
        header.write("partials", "vec4f") if tuning.splits > 1 else header.write("out"),
    )
    return bindings, tokens_file


def _files(structure: Structure) -> list[str]:
    return [
        *header.ROWS_FILES,
        "lib/activation.wgsl",
        "lib/kv_cache.wgsl",
        "lib/kv_read.wgsl",
        f"kv/{structure.layout.kind}.wgsl",
        "attention/score.wgsl",
        "attention/length_none.wgsl" if structure.causal else "attention/length.wgsl",
        "attention/sinks.wgsl" if structure.sinks else "attention/sinks_none.wgsl",
    ]


def kernel(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel; where ``tuning.splits > 1``, ``combine`` has to follow.

    Raises KernelError for what is not implemented (ALiBi) and for a tile that does not fit.
    """
    _check(structure)
    if not _fits(structure, tuning, capabilities):
        raise KernelError(f"This device cannot run the attention tile {tuning}.")
    layout = structure.layout
    enables = ("subgroups",) if tuning.kind == "swap" else ()
    bindings, tokens_file = _bindings(structure, tuning, capabilities)
    constants = _constants(structure, tuning)
    files = [*_files(structure), tokens_file]
    if tuning.kind == "naive":
        files.append("ops/attention_naive.wgsl")
        constants["CHUNK"] = tuning.chunk
        chunks = ceil_div(ceil_div(layout.value_size, 4), tuning.chunk)
        groups = ceil_div(structure.tokens * structure.heads * chunks, tuning.workgroup)
    else:
        constants["TILE_TOKENS"] = tuning.tile_tokens
        constants["TILE_HEADS"] = tuning.tile_heads
        if tuning.kind == "swap":
            constants["LANE_ROWS"] = ceil_div(tuning.tile_tokens * tuning.tile_heads, 4)
        if tuning.kind == "tile":
            constants["KEYS_PER_THREAD"] = tuning.keys_per_thread
        files += ["ops/attention_tiles.wgsl", f"attention/{tuning.kind}.wgsl"]
        files.append("attention/partials.wgsl" if tuning.splits > 1 else "attention/out.wgsl")
        tiles = ceil_div(structure.tokens, tuning.tile_tokens)
        groups = tiles * (structure.heads // tuning.tile_heads) * tuning.splits
    return Kernel(
        f"attention {structure.heads}/{layout.kv_heads}x{layout.head_size} {tuning.kind}",
        link(files, constants=constants, bindings=bindings, enables=enables),
        bindings,
        spread(groups, capabilities),
        cost(structure),
    )


def combine(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> Kernel:
    """Link the kernel that joins split results. Bindings: step, partials, out."""
    bindings = (header.STEP, header.read("partials", "vec4f"), header.write("out"))
    source = link(
        ["ops/attention_combine.wgsl", *header.ROWS_FILES],
        constants={**_constants(structure, tuning), "WORKGROUP": 64},
        bindings=bindings,
    )
    units = ceil_div(structure.layout.value_size, 4)
    threads = structure.tokens * structure.heads * units
    return Kernel(
        f"attention_combine {structure.heads}x{structure.layout.value_size}",
        source,
        bindings,
        spread(ceil_div(threads, 64), capabilities),
        Cost(partials_bytes(structure, tuning) + 16 * threads, 8 * threads * tuning.splits),
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
