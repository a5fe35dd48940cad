"""Writes ``web/public/kernel_cases.json``: what ``kernels.html`` runs on a visitor's device.

The cases are small; what they must give is computed here by the numpy twins of ``tests/reference``.
``--check`` compares a fresh set with the file, within the tolerances.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "web" / "public" / "kernel_cases.json"
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]

from tests.numerics.paged_cache import PagedCache  # noqa: E402
from tests.reference import ops, rounded, sampling  # noqa: E402
from tests.reference.linear import Epilogue, linear, normalised, random_weight  # noqa: E402
from tests.tolerance import TOLERANCES  # noqa: E402

from tilewright.formats.quant import BY_NAME, QUANT_TYPES  # noqa: E402
from tilewright.graph.ops import RopeTable  # noqa: E402
from tilewright.webgpu.kernels import attention, elementwise, embed, norm, rope, sample  # noqa: E402
from tilewright.webgpu.kernels.kernel import Span  # noqa: E402
from tilewright.webgpu.kernels.kv_write import KvLayout  # noqa: E402
from tilewright.webgpu.kernels.linear import LinearStructure  # noqa: E402
from tilewright.webgpu.selftest import random_floats  # noqa: E402

CLEAR = 1e-4
"""Distance from a border between two integers that no rounding of a scale bridges."""
Floats = NDArray[np.floating[Any]]
Case = dict[str, Any]
Tunings = tuple[str, dict[str, Any]]
"""A class of the kernel module, and its fields."""


class Inputs:
    """Collects the inputs of one case, each in the shortest form that gives the same bytes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed * 100
        self.specs: dict[str, Any] = {}

    def random(self, name: str, *shape: int, scale: float = 2.0) -> NDArray[np.float32]:
        """Draw ``f32[shape]`` that the page draws, too."""
        self._seed += 1
        count = int(np.prod(shape))
        self.specs[name] = {"random": [self._seed, count, scale]}
        drawn = random_floats(self._seed, count, scale)
        return np.frombuffer(drawn, np.float32).reshape(shape).copy()

    def words(self, name: str, *values: int) -> None:
        """Record a short list of u32."""
        self.specs[name] = {"u32": [int(value) for value in values]}

    def array(self, name: str, values: NDArray[Any]) -> None:
        """Record an array as it is."""
        self.specs[name] = {"bytes": text(np.ascontiguousarray(values).tobytes())}


def text(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()


def plain(structure: Any) -> dict[str, Any]:
    """Return a structure as JSON, without fields that have their defaults."""
    defaults = {field.name: field.default for field in fields(structure)}
    return {key: value for key, value in asdict(structure).items() if value != defaults[key]}


def case(
    name: str,
    group: str,
    module: str,
    structure: Any,
    inputs: Inputs,
    expected: Floats,
    span: Span,
    capacity: int,
    tolerance: str,
) -> Case:
    """Return the record of one case."""
    rows, width = expected.shape
    bounds = TOLERANCES[tolerance]
    return {
        "name": name,
        "group": group,
        "module": module,
        "structure": plain(structure),
        "inputs": inputs.specs,
        "output": {
            "capacity": capacity,
            "rows": rows,
            "stride": span.stride,
            "start": span.start,
            "width": width,
            "expected": text(expected.astype("<f4").tobytes()),
        },
        "tolerance": [bounds.absolute, bounds.relative],
    }


def step(inputs: Inputs, tokens: int, outputs: int = 0, sequences: int = 1) -> None:
    """Add the Step uniform."""
    inputs.words("step", tokens, outputs or tokens, sequences, 0)


def linear_case(name: str, module: str, structure: LinearStructure, seed: int) -> Case:
    """Return a case of a linear map with one token less than the capacity (but at least one)."""
    s = structure
    count = max(1, s.tokens - 1)
    quant = BY_NAME[s.quant]
    inputs = Inputs(seed)
    raw, weight = random_weight(np.random.default_rng(seed), quant, s.rows, s.columns)
    inputs.specs["quants"] = {
        "weight": {"quant": s.quant, "rows": s.rows, "columns": s.columns, "raw": text(raw)}
    }
    # Outputs of order 1, as the tolerance wants them; a power of two keeps the draw exact.
    size = float(np.sqrt((weight.astype(np.float64) ** 2).sum(axis=1).mean()))
    scale = 2.0 ** -round(np.log2(size)) if s.norm is None else 2.0
    whole = inputs.random("x", s.tokens, s.x.stride, scale=scale)
    x = whole[:count, s.x.start : s.x.start + s.columns]
    values: Floats = x.astype(np.float64)
    if s.norm is not None:
        gains = inputs.random("norm_weight", s.columns, scale=2.0 ** -round(np.log2(size)))
        offsets = None
        if s.norm_bias:
            offsets = inputs.random("norm_bias", s.columns, scale=2.0 ** -round(np.log2(size)))
        values = normalised(x, s.norm, gains, offsets, s.norm_epsilon)
    if s.arithmetic == "int8":
        if rounded.at_a_border(values, CLEAR).any():
            return linear_case(name, module, structure, seed + 1000)
        values = rounded.rounded(values)
    bias = inputs.random("bias", s.rows) if s.bias else None
    residual = None
    if s.residual is not None:
        drawn = inputs.random("residual", s.tokens, s.residual.stride)
        residual = drawn[:count, s.residual.start : s.residual.start + s.outputs]
    epilogue = Epilogue(
        bias=bias,
        activation=s.activation,
        gated=s.gated,
        scale=s.scale,
        residual=residual,
        softcap=s.softcap,
    )
    step(inputs, count)
    expected = linear(values, weight, epilogue)
    return case(name, module, module, s, inputs, expected, s.out, s.tokens, "linear")


def linear_cases() -> Iterator[Case]:
    """Every format by the matrix-vector and matrix-matrix kernels, then what is fused to them."""
    for number, quant in enumerate(QUANT_TYPES):
        columns = {1: 72, 32: 96, 256: 256}[quant.block]
        vector = LinearStructure(quant.name, 10, columns, 1, Span(columns), Span(10))
        yield linear_case(f"matvec {quant.name}", "matvec", vector, number + 1)
        many = replace(vector, rows=9, tokens=18, out=Span(12, 2))
        yield linear_case(f"matmul {quant.name}", "matmul", many, number + 101)
    base = LinearStructure("Q8_0", 24, 96, 3, Span(96), Span(24))
    q4_k = LinearStructure("Q4_K", 12, 256, 3, Span(256), Span(12))
    fused = {
        "gate, SiLU, up": replace(base, bias=True, activation="silu", gated=True, out=Span(12)),
        "residual, scale": replace(base, bias=True, residual=Span(40, 7), scale=0.25),
        "GELU, gated": replace(q4_k, activation="gelu", gated=True, out=Span(6)),
        "softcap": replace(base, softcap=1.5, activation="tanh"),
        "RMS norm": replace(base, norm="rms", norm_epsilon=1e-5),
        "layer norm": replace(q4_k, norm="layer", norm_epsilon=1e-5, norm_bias=True, bias=True),
    }
    for number, (name, structure) in enumerate(fused.items()):
        yield linear_case(f"matvec with {name}", "matvec", structure, number + 201)
        if structure.norm is None:
            wide = replace(structure, tokens=17)
            yield linear_case(f"matmul with {name}", "matmul", wide, number + 301)


def int8_cases() -> Iterator[Case]:
    """Rounded activations, and tiles split over the columns, also by Tunings for GPUs only."""
    lanes: list[Tunings] = [
        ("RoundedLanesTuning", {"lanes": 2, "rows": 2, "tile": 2}),
        ("RoundedLanesTuning", {"lanes": 1, "activations": "thread"}),
    ]
    tile = {"block_rows": 32, "block_tokens": 16}
    tiles: list[Tunings] = [
        ("RoundedTileTuning", {**tile, "block_columns": 64}),
        ("RoundedTileTuning", {**tile, "block_columns": 32, "split": 2}),
    ]
    for number, quant in enumerate(("Q4_0", "Q4_K", "Q8_0")):
        columns = {32: 96, 256: 256}[BY_NAME[quant].block]
        few = LinearStructure(
            quant, 12, columns, 3, Span(columns), Span(12), gated=number == 1, arithmetic="int8"
        )
        made = linear_case(f"matvec int8 {quant}", "matvec", few, 1101 + number)
        yield made | {"tunings": lanes}
        many = replace(few, rows=10, tokens=18, out=Span(12, 2))
        made = linear_case(f"matmul int8 {quant}", "matmul", many, 1201 + number)
        yield made | {"tunings": tiles}
    split = LinearStructure("Q4_0", 10, 96, 18, Span(96), Span(12, 2))
    given = {**tile, "block_columns": 16, "split": 4}
    made = linear_case("matmul split over columns", "matmul", split, 1301)
    yield made | {"tunings": [("TileTuning", given)]}


def embed_cases() -> Iterator[Case]:
    """Rows of the embedding."""
    for number, name in enumerate(("F16", "Q4_0", "Q6_K")):
        inputs = Inputs(400 + number)
        quant = BY_NAME[name]
        rows, columns, ids = 11, 256, [10, 0, 6, 7, 3]
        raw, table = random_weight(np.random.default_rng(number), quant, rows, columns)
        inputs.specs["quants"] = {
            "weight": {"quant": name, "rows": rows, "columns": columns, "raw": text(raw)}
        }
        inputs.words("ids", *ids, 0, 0, 0)
        step(inputs, len(ids))
        structure = embed.EmbedStructure(name, 0, rows, columns, 6, Span(260, 4), 1.5)
        expected = 1.5 * table[ids].astype(np.float64)
        out = structure.out
        yield case(
            f"embed {name}", "embed", "embed", structure, inputs, expected, out, 6, "elementwise"
        )


def norm_cases() -> Iterator[Case]:
    """RMS and layer norms."""
    forms: dict[str, dict[str, Any]] = {
        "RMS norm": {"weight": 577},
        "RMS norm per head": {"weight": 20, "group": 20, "width": 240},
        "layer norm": {"weight": 577, "bias": 577, "center": True},
        "RMS norm and residual": {"weight": 577, "residual": Span(580, 3), "weight_offset": 1.0},
    }
    for number, (name, options) in enumerate(forms.items()):
        inputs = Inputs(500 + number)
        width = options.pop("width", 577)
        group = options.pop("group", width)
        structure = norm.Structure(
            4, width, group, 1e-6, Span(width), Span(width + 5, 2), **options
        )
        x = inputs.random("x", 4, width)[:3]
        weight = inputs.random("norm_weight", structure.weight)
        bias = inputs.random("norm_bias", structure.bias) if structure.bias else None
        residual = None
        if structure.residual is not None:
            residual = inputs.random("residual", 4, 580)[:3, 3:]
        step(inputs, 3)
        expected = ops.norm(
            x,
            group=group,
            epsilon=1e-6,
            center=structure.center,
            weight=weight,
            bias=bias,
            weight_offset=structure.weight_offset,
            residual=residual,
        )
        yield case(name, "norm", "norm", structure, inputs, expected, structure.out, 4, "norm")


def rope_cases() -> Iterator[Case]:
    """Both pairings, whole and part of a head, far positions."""
    forms = [("halves", False, 64), ("neighbours", True, 64), ("part of a head", False, 20)]
    for number, (name, interleaved, dimensions) in enumerate(forms):
        inputs = Inputs(600 + number)
        frequencies = [10000.0 ** (-2 * i / dimensions) for i in range(dimensions // 2)]
        table = RopeTable(tuple(frequencies), 1.0, interleaved)
        positions = np.array([0, 255, 256, 4097, 8191], np.uint32)
        structure = rope.Structure(
            6, 2, 64, dimensions, Span(128), Span(130, 2), interleaved=interleaved
        )
        x = inputs.random("x", 6, 128)[:5]
        inputs.specs["rope_table"] = {"rope": [frequencies, 8192]}
        inputs.words("positions", *positions, 0, 0, 0)
        step(inputs, 5)
        expected = ops.rope(x, positions, table, 64)
        yield case(
            f"RoPE, {name}", "rope", "rope", structure, inputs, expected, structure.out, 6, "rope"
        )


def attention_cases() -> Iterator[Case]:
    """Grouped heads, each cache format, window and softcap."""
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "f32 cache": ("f32", {}),
        "f16 cache": ("f16", {}),
        "q8_0 cache": ("q8_0", {}),
        "window": ("f16", {"window": 9}),
        "softcap": ("f16", {"softcap": 5.0}),
    }
    for number, (name, (kind, options)) in enumerate(forms.items()):
        inputs = Inputs(700 + number)
        layout = KvLayout(kind, 2, 32, 32, 16, 3)  # type: ignore[arg-type]
        cache = PagedCache(np.random.default_rng(number), layout, 2, {0: 40, 1: 7})
        positions = np.array([37, 38, 39, 6], np.uint32)
        slots = np.array([0, 0, 0, 1], np.uint32)
        structure = attention.Structure(
            5, 4, layout, 32**-0.5, Span(136, 4), Span(132, 4), **options
        )
        q = inputs.random("q", 5, 136)[:4, 4:132]
        inputs.words("positions", *positions, 0, 0, 0, 0)
        inputs.words("slots", *slots, 0, 0, 0, 0)
        inputs.words("block_tables", *cache.block_tables.reshape(-1))
        inputs.words("lengths", *cache.lengths)
        inputs.array("keys", cache.key_words)
        inputs.array("values", cache.value_words)
        step(inputs, 4)
        expected = ops.attention(
            q,
            cache.keys,
            cache.values,
            positions,
            slots,
            heads=4,
            kv_heads=2,
            scale=structure.scale,
            window=structure.window,
            softcap=structure.softcap,
        )
        yield case(
            f"attention, {name}",
            "attention",
            "attention",
            structure,
            inputs,
            expected,
            structure.out,
            5,
            "attention",
        )


def elementwise_cases() -> Iterator[Case]:
    """Activations that are not fused, and additions."""
    for number, activation in enumerate(("silu", "gelu", "gelu_erf", "relu2")):
        inputs = Inputs(800 + number)
        x = inputs.random("x", 4, 260, scale=8.0)[:3]
        up = inputs.random("up", 4, 260)[:3]
        step(inputs, 3)
        structure = elementwise.Structure(
            "activate", 4, 260, Span(264, 4), Span(260), up=Span(260), activation=activation
        )
        expected = ops.activate(x, activation, up)
        tolerance = "erf" if activation == "gelu_erf" else "elementwise"
        yield case(
            f"{activation}, gated",
            "elementwise",
            "elementwise",
            structure,
            inputs,
            expected,
            structure.out,
            4,
            tolerance,
        )


def sampling_cases() -> Iterator[Case]:
    """Greedy, plain and filtered draws whose outcome no rounding can change."""
    modes: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0.0},
        "plain": {"temperature": 0.8},
        "filtered": {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
    }
    rows, vocabulary = 4, 5000
    for number, (mode, options) in enumerate(modes.items()):
        inputs = Inputs(900 + number)
        logits = inputs.random("logits", rows, vocabulary, scale=8.0)
        requests, positions, ids = [], [], []
        for row in range(rows):
            seed = clear_seed(logits[row], options, row)
            request = sampling.Request(seed=seed, **options)
            scores = sampling.perturbed(sampling.adjusted(logits[row], request), request, row + 7)
            requests.append(
                {
                    "temperature": 0.0,
                    "top_k": 0,
                    "top_p": 1.0,
                    "min_p": 0.0,
                    **options,
                    "seed": seed,
                }
            )
            positions.append(row + 7)
            ids.append(int(scores.argmax()))
        yield {
            "name": f"sampling, {mode}",
            "group": "sampling",
            "module": "sample",
            "structure": plain(sample.Structure(vocabulary, rows, mode)),  # type: ignore[arg-type]
            "inputs": inputs.specs,
            "requests": requests,
            "positions": positions,
            "ids": ids,
            "tolerance": [0.0, 0.0],
        }


def clear_seed(logits: NDArray[np.float32], options: dict[str, Any], row: int) -> int:
    """Return a seed with which the best score leads by far, with nearby cuts of top_p, too."""
    for seed in range(row * 1000, row * 1000 + 1000):
        winners, leads = set(), []
        for shift in (-1e-3, 0.0, 1e-3):
            shifted = {**options, "top_p": min(1.0, options.get("top_p", 1.0) + shift)}
            request = sampling.Request(seed=seed, **shifted)
            scores = sampling.perturbed(sampling.adjusted(logits, request), request, row + 7)
            second, first = np.sort(scores)[-2:]
            winners.add(int(scores.argmax()))
            leads.append(first - second)
        greedy = options["temperature"] == 0.0
        if greedy or (len(winners) == 1 and min(leads) > 0.05):
            return seed
    raise SystemExit("No seed gives a clear winner.")


MAKERS: tuple[Callable[[], Iterator[Case]], ...] = (
    linear_cases,
    int8_cases,
    embed_cases,
    norm_cases,
    rope_cases,
    attention_cases,
    elementwise_cases,
    sampling_cases,
)


def all_cases() -> list[Case]:
    """Return every case."""
    return [made for maker in MAKERS for made in maker()]


def differences(kept: list[Case], fresh: list[Case]) -> list[str]:
    """Return the names of the cases that are not the same, outputs within the tolerances."""
    if [case["name"] for case in kept] != [case["name"] for case in fresh]:
        return ["the list of cases"]
    wrong = []
    for old, new in zip(kept, fresh, strict=True):
        same = {**old, "output": 0} == {**new, "output": 0}
        if same and "output" in new:
            values = [
                np.frombuffer(base64.b64decode(item["output"]["expected"]), "<f4")
                for item in (old, new)
            ]
            absolute, relative = new["tolerance"]
            same = np.allclose(values[0], values[1], rtol=relative, atol=absolute)
        if not same:
            wrong.append(str(new["name"]))
    return wrong


def main() -> int:
    """Write the file, or say that it is out of date."""
    fresh = json.loads(json.dumps(all_cases()))
    if "--check" in sys.argv[1:]:
        wrong = differences(json.loads(TARGET.read_text())["cases"], fresh)
        if wrong:
            print(
                f"{TARGET.name} is out of date ({', '.join(wrong[:5])}): run {Path(__file__).name}"
            )
        return 1 if wrong else 0
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in fresh)
    TARGET.write_text('{"format": 1, "cases": [\n' + lines + "\n]}\n")
    print(f"{len(fresh)} cases, {TARGET.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
