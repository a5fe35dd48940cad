"""Sampling on the GPU: logits in, chosen ids out, everything a slot needs kept in GPU buffers.

Two dispatches: ``sample_scan`` (many workgroups: penalties, bias, mask, temperature, partial maxima
and sums per slice of the vocabulary), then ``sample_pick`` (greedy, or drawn without a filter) or
``sample_filter`` (min-p, top-k, top-p by an exact radix search). ``sample_top`` follows where the
most likely ids are wanted. A draw is the largest of score plus Gumbel noise, and the noise is a
hash of (seed, position, id): it does not depend on the batch. ``tests/reference/sampling.py`` is
the numpy twin.

Buffers by binding name, all little-endian (R rows of a step, V vocabulary):

| name | content | bytes |
|---|---|---|
| ``step`` | Step, uniform; ``outputs`` is R | 16 |
| ``logits`` | f32[R, V] | 4 R V |
| ``slots`` | u32[R], slot of each row | 4 R |
| ``samplers`` | 64 bytes per slot: ``pack_sampler`` | 64 slots |
| ``counts`` | u32[slots, V], one slot by ``pack_counts``; only with ``adjust`` | 4 slots V |
| ``bias`` | f32[slots, V], zero but for the biased ids; only with ``adjust`` | 4 slots V |
| ``mask`` | u32[slots, ceil(V / 32)], set: allowed; only with ``adjust`` | ``mask_bytes`` a slot |
| ``partials`` | scratch | ``partials_bytes`` |
| ``scores`` | scratch f32[R, V]; only with mode ``filtered`` | 4 R V |
| ``ids``, ``positions`` | u32[R], inputs of the next decode step; only with ``advance`` | 4 R |
| ``results`` | u32[R, 44] | 176 R |

After a step a slot's ``samplers`` record holds the sampled id at byte ``NEXT_ID`` and its position
at ``NEXT_POSITION``: when the rows of the decode batch change, copy those two words to the ``ids``
and ``positions`` of the slot's new row. Knows nothing of sequences.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..link import Binding, Constant, link
from .kernel import Capabilities, Cost, Grid, Kernel, ceil_div

Mode = Literal["greedy", "plain", "filtered"]

SAMPLER_BYTES = 64
USES = 32
"""Byte of a sampler's record where the switches are (``switches``)."""
NEXT_ID = 44
NEXT_POSITION = 48
RESULT_WORDS = 44
MAX_TOP = 20
_NO_ID = 0xFFFFFFFF
_PARTIAL_BYTES = 24
_LEAST_SLICE = 512
"""Fewest ids of a slice."""
_CANDIDATES = 4096
"""Ids that a filter can gather to look at them alone; more are searched where they are."""
_UNLIMITED = 1.0e38
_IN_PROMPT = 1 << 31


@dataclass(frozen=True)
class Structure:
    """What is computed."""

    vocabulary: int
    rows: int
    """Capacity: the largest R."""
    mode: Mode
    """The most that any row needs: ``filtered`` serves all, ``plain`` greedy rows too."""
    logprobs: int | None = None
    """None; 0: of the chosen id; 1 to 20: of the most likely ids too."""
    adjust: bool = False
    """Whether any row has penalties, a bias or a mask."""
    advance: bool = True
    """Whether rows are those of a decode step, whose next inputs are written."""


@dataclass(frozen=True)
class Tuning:
    """How. A workgroup has the square of a fan of invocations: 8 (64) or 16 (256)."""

    fan: int = 8
    """Of the scan."""
    per_lane: int = 16
    """Ids per invocation of the scan."""
    search_fan: int = 16
    """Of the dispatches that have one workgroup per row."""

    @property
    def slice(self) -> int:
        """Ids per workgroup of the scan."""
        return self.fan * self.fan * self.per_lane


def naive(structure: Structure) -> Tuning:
    """Return the tuning that is good everywhere: 32 to 128 slices.

    Fewer are cheaper to scan, more bound the search of a filter better.
    """
    searches = structure.mode == "filtered" or bool(structure.logprobs)
    least = 8 if searches else 16
    return Tuning(8, max(least, ceil_div(structure.vocabulary, 128 * 64)))


def space(structure: Structure, capabilities: Capabilities) -> list[Tuning]:
    """Return the candidates worth timing."""
    found = [naive(structure)]
    for fan, per_lane in ((8, 8), (8, 16), (8, 32), (8, 64), (16, 4), (16, 8), (16, 16)):
        for search_fan in (8, 16):
            if max(fan, search_fan) ** 2 <= capabilities.max_invocations:
                found.append(Tuning(fan, per_lane, search_fan))
    return list(dict.fromkeys(found))


def slices(structure: Structure, tuning: Tuning) -> int:
    """Return into how many slices the scan cuts the vocabulary."""
    return ceil_div(structure.vocabulary, tuning.slice)


def _row_partials(structure: Structure) -> int:
    return ceil_div(structure.vocabulary, _LEAST_SLICE) + _CANDIDATES


def partials_bytes(structure: Structure, tuning: Tuning) -> int:
    """Return the size of ``partials``: the same for every mode and tuning."""
    return _PARTIAL_BYTES * structure.rows * _row_partials(structure)


def mask_bytes(vocabulary: int) -> int:
    """Return the size of one slot's row of ``mask``."""
    return 4 * ceil_div(vocabulary, 32)


def kernels(structure: Structure, tuning: Tuning, capabilities: Capabilities) -> list[Kernel]:
    """Return the dispatches of one sampling step, in order."""
    made = [_scan(structure, tuning), _choice(structure, tuning)]
    if structure.logprobs:
        made.append(_top(structure, tuning))
    return made


def _constants(structure: Structure, tuning: Tuning, fan: int) -> dict[str, Constant]:
    return {
        "VOCABULARY": structure.vocabulary,
        "SLICE": tuning.slice,
        "SLICES": slices(structure, tuning),
        "ROW_PARTIALS": _row_partials(structure),
        "WORKGROUP": fan * fan,
        "FAN": fan,
    }


_STEP = Binding("step", "Step", "uniform")
_LOGITS = Binding("logits", "array<f32>")
_SLOTS = Binding("slots", "array<u32>")
_RESULTS = Binding("results", "array<u32>", "read_write")


def _partials(access: str = "read") -> Binding:
    return Binding("partials", "array<Partial>", access)


def _scan(structure: Structure, tuning: Tuning) -> Kernel:
    filters = structure.mode == "filtered"
    constants = _constants(structure, tuning, tuning.fan) | {
        "DRAWS": structure.mode == "plain",
        "FILTERS": filters,
        "LOGPROBS": structure.logprobs is not None,
    }
    bindings = [_STEP, _LOGITS, _SLOTS, Binding("samplers", "array<Sampler>")]
    bindings.append(_partials("read_write"))
    files = ["lib/sample_keep_none.wgsl", "lib/sample_adjust_none.wgsl"]
    if filters:
        files[0] = "lib/sample_keep.wgsl"
        bindings.append(Binding("scores", "array<f32>", "read_write"))
    if structure.adjust:
        files[1] = "lib/sample_adjust.wgsl"
        bindings.append(Binding("counts", "array<u32>", "read_write"))
        bindings.append(Binding("bias", "array<f32>"))
        bindings.append(Binding("mask", "array<u32>"))
    grid = (slices(structure, tuning), structure.rows, 1)
    files.append("lib/sample_reduce.wgsl")
    return _kernel("sample_scan", structure, files, constants, bindings, grid)


def _choice(structure: Structure, tuning: Tuning) -> Kernel:
    filters = structure.mode == "filtered"
    bindings = [_STEP, _SLOTS, Binding("samplers", "array<Sampler>", "read_write")]
    bindings += [_partials("read_write" if filters else "read"), _RESULTS]
    files = ["lib/sample_reduce.wgsl", "lib/sample_choose.wgsl"]
    if filters:
        bindings.append(Binding("scores", "array<f32>"))
        files += ["lib/sample_candidates.wgsl", "lib/sample_radix.wgsl"]
    if structure.logprobs is None:
        files.append("lib/sample_logprob_none.wgsl")
    else:
        files.append("lib/sample_logprob.wgsl")
        bindings.append(_LOGITS)
    if structure.advance:
        files.append("lib/sample_next.wgsl")
        bindings.append(Binding("ids", "array<u32>", "read_write"))
        bindings.append(Binding("positions", "array<u32>", "read_write"))
    else:
        files.append("lib/sample_next_none.wgsl")
    name = "sample_filter" if filters else "sample_pick"
    constants = _constants(structure, tuning, tuning.search_fan if filters else 8)
    return _kernel(name, structure, files, constants, bindings, (structure.rows, 1, 1))


def _top(structure: Structure, tuning: Tuning) -> Kernel:
    top = min(structure.logprobs or 0, MAX_TOP, structure.vocabulary)
    constants = _constants(structure, tuning, tuning.search_fan) | {"TOP": top}
    bindings = [_STEP, _LOGITS, _partials("read_write"), _RESULTS]
    files = ["lib/sample_reduce.wgsl", "lib/sample_candidates.wgsl", "lib/sample_radix.wgsl"]
    return _kernel("sample_top", structure, files, constants, bindings, (structure.rows, 1, 1))


def _kernel(
    name: str,
    structure: Structure,
    files: Sequence[str],
    constants: Mapping[str, Constant],
    bindings: Sequence[Binding],
    grid: Grid,
) -> Kernel:
    source = link(
        [f"ops/{name}.wgsl", "lib/step.wgsl", "lib/sampler.wgsl", *files],
        constants=constants,
        bindings=bindings,
    )
    read = 0 if name == "sample_pick" else 4 * structure.vocabulary
    slice_count = int(constants["SLICES"])  # type: ignore[arg-type]
    cost = Cost(nbytes=structure.rows * (read + _PARTIAL_BYTES * slice_count), flops=0)
    label = f"{name} {structure.mode} {structure.rows}x{structure.vocabulary}"
    return Kernel(label, source, tuple(bindings), grid, cost)


def switches(*, penalties: bool, bias: bool, mask: bool) -> int:
    """Return the word at byte ``USES`` of a sampler's record."""
    return int(penalties) | int(bias) << 1 | int(mask) << 2


def pack_sampler(
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    frequency_penalty: float,
    presence_penalty: float,
    uses: int,
    seed: int,
    length: int,
) -> bytes:
    """Return a slot's record; ``length``: ids so far, the next draw is for that position."""
    greedy = temperature < 1e-4
    return struct.pack(
        "<2fI5f3I2I3I",
        1.0 if greedy else 1.0 / temperature,
        0.0 if greedy else 1.0,
        min(top_k, 0x7FFFFFFF),
        top_p,
        _UNLIMITED if min_p <= 0.0 else -math.log(min_p),
        repetition_penalty,
        frequency_penalty,
        presence_penalty,
        uses,
        seed & 0xFFFFFFFF,
        seed >> 32 & 0xFFFFFFFF,
        _NO_ID,
        (length - 1) & 0xFFFFFFFF,
        0,
        0,
        0,
    )


def pack_counts(vocabulary: int, ids: Sequence[int], prompt_length: int) -> bytes:
    """Return a slot's row of ``counts``: u32[V]."""
    counts = array("I", bytes(4 * vocabulary))
    for token in set(ids[:prompt_length]):
        counts[token] = _IN_PROMPT
    for token in ids[prompt_length:]:
        counts[token] += 1
    return counts.tobytes()


def pack_bias(vocabulary: int, bias: Mapping[int, float]) -> bytes:
    """Return a slot's row of ``bias``: f32[V]."""
    row = array("f", bytes(4 * vocabulary))
    for token, value in bias.items():
        row[token] = value
    return row.tobytes()


@dataclass(frozen=True)
class Sampled:
    """One row of ``results``."""

    id: int
    logprob: float
    position: int
    slot: int
    top: tuple[tuple[int, float], ...]


def unpack_results(data: bytes | memoryview, rows: int, top: int = 0) -> Iterable[Sampled]:
    """Read the first ``rows`` rows of ``results``, each with its ``top`` most likely ids."""
    for row in range(rows):
        at = 4 * RESULT_WORDS * row
        token, logprob, position, slot = struct.unpack_from("<IfII", data, at)
        pairs = struct.unpack_from("<" + "If" * top, data, at + 16)
        alternatives = zip(pairs[::2], pairs[1::2], strict=True)
        known = tuple((i, p) for i, p in alternatives if i != _NO_ID)
        yield Sampled(token, logprob, position, slot, known)
