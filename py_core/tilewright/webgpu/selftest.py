"""Runs recorded kernel cases on this device: the kernel page's half of the numerics tests.

A case names a kernel module, a Structure, inputs and the output that the numpy twin computed, and
may name Tunings that the device at hand would not be given
(``build/kernel_cases.py`` writes them). Inputs are either recorded or drawn by ``random_floats``,
which the recorder uses too. Pure Python, so that it runs in the page; knows nothing of models.
"""

from __future__ import annotations

import base64
import dataclasses
import struct
import time
import types
import typing
from array import array
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ..errors import InvalidRequestError, TilewrightError
from ..formats.quant import BY_NAME
from ..graph.ops import RopeTable
from .device import BufferRange, Device
from .kernels import attention, elementwise, embed, matmul, matvec, norm, repack, rope, sample
from .kernels.kernel import Kernel
from .kernels.linear import LinearStructure
from .kernels.packing import packing, table_bytes

Case = Mapping[str, Any]

SENTINEL = -77.25
"""Fills outputs before a run; what a kernel must not write has to keep it."""

_STRUCTURES: dict[str, Any] = {
    "attention": attention.Structure,
    "elementwise": elementwise.Structure,
    "embed": embed.EmbedStructure,
    "matmul": LinearStructure,
    "matvec": LinearStructure,
    "norm": norm.Structure,
    "rope": rope.Structure,
    "sample": sample.Structure,
}
_MODULES: dict[str, Any] = {
    "attention": attention,
    "elementwise": elementwise,
    "embed": embed,
    "matmul": matmul,
    "matvec": matvec,
    "norm": norm,
    "rope": rope,
    "sample": sample,
}


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """What one case gave on this device."""

    name: str
    group: str
    status: str
    """``pass``, ``fail``, or ``error`` where the kernel did not run."""
    difference: float
    """Largest absolute difference from the reference."""
    share: float
    """Largest difference as a share of what is tolerated: above 1 fails."""
    tunings: int
    """How many variants of the kernel were run."""
    ms: float
    """Wall-clock time of the case, compilation included."""
    note: str


def random_floats(seed: int, count: int, scale: float = 1.0) -> array[float]:
    """Return ``f32[count]`` in (-scale, scale), the same everywhere: multiples of scale / 2**15.

    A linear congruential generator (Knuth's MMIX constants), upper bits only. ``scale`` should be a
    power of two: the values are then exact.
    """
    state = seed * 2862933555777941757 + 3037000493 & 0xFFFFFFFFFFFFFFFF
    values = array("f")
    for _ in range(count):
        state = state * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF
        values.append(((state >> 48) - 32767.5) * scale / 32768.0)
    return values


def build_structure(kind: Any, fields: Mapping[str, Any]) -> Any:
    """Return a dataclass from its JSON form; nested ones are built by their annotations."""
    hints = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in hints:
            raise InvalidRequestError(f"{kind.__name__} has no field {name!r}.", field=name)
        if isinstance(value, Mapping):
            options = typing.get_args(hints[name]) or (hints[name],)
            if not isinstance(hints[name], types.UnionType):
                options = (hints[name],)
            nested = next(option for option in options if dataclasses.is_dataclass(option))
            value = build_structure(nested, value)
        # JavaScript has one kind of number: 0.0 arrives as 0.
        made[name] = float(value) if hints[name] is float else value
    return kind(**made)


async def run_cases(
    device: Device, cases: list[Case], *, everything: bool = False
) -> AsyncIterator[CaseResult]:
    """Yield the result of each case; ``everything`` runs all tuning candidates, not only two."""
    for case in cases:
        begun = time.perf_counter()
        status, difference, share, tunings, note = "error", 0.0, 0.0, 0, ""
        try:
            runner = _run_sampling if case["module"] == "sample" else _run_case
            tunings, difference, share, note = await runner(device, case, everything)
            status = "pass" if share <= 1 and not note else "fail"
        except TilewrightError as error:
            note = error.message
        except Exception as error:  # a browser's refusal must not end the page's list
            note = f"{type(error).__name__}: {error}"
        milliseconds = (time.perf_counter() - begun) * 1e3
        yield CaseResult(
            case["name"],
            case["group"],
            status,
            difference if difference == difference else -1.0,  # NaN has no JSON
            share if share == share and share < 1e9 else 1e9,
            tunings,
            round(milliseconds, 2),
            note[:2000],
        )


def _tunings(
    module: Any, structure: Any, device: Device, everything: bool, case: Case
) -> list[Any]:
    """Return what to run: naive and default, or the whole space, and what the case names."""
    capabilities = device.capabilities
    found = [module.naive(structure)]
    for name, fields in case.get("tunings", ()):
        found.append(build_structure(getattr(module, name), fields))
    if everything:
        found += module.space(structure, capabilities)
        return list(dict.fromkeys(found))
    default = getattr(module, "default", None)
    if default is not None:
        found.append(default(structure, capabilities))
    return list(dict.fromkeys(found))


async def _run_case(device: Device, case: Case, everything: bool) -> tuple[int, float, float, str]:
    """Run one case; return (variants, difference, share of the tolerance, what else is wrong)."""
    module = _MODULES[case["module"]]
    structure = build_structure(_STRUCTURES[case["module"]], case["structure"])
    inputs: dict[str, bytes] = {}
    for name, spec in case["inputs"].items():
        if "weight" in spec:
            inputs |= await _planes(device, spec["weight"])
        else:
            inputs[name] = _content(spec)
    output = case["output"]
    inputs["out"] = array("f", [SENTINEL]).tobytes() * (output["capacity"] * output["stride"])
    expected = array("f", base64.b64decode(output["expected"]))
    worst, share, note = 0.0, 0.0, ""
    tunings = _tunings(module, structure, device, everything, case)
    for tuning in tunings:
        kernels = [module.kernel(structure, tuning, device.capabilities)]
        if case["module"] == "attention" and tuning.splits > 1:
            inputs["partials"] = bytes(attention.partials_bytes(structure, tuning))
            kernels.append(attention.combine(structure, tuning, device.capabilities))
        written = array("f", await _dispatch(device, kernels, inputs, "out"))
        found, untouched = _cut(written, output)
        for value, wanted in zip(found, expected, strict=True):
            error = abs(value - wanted)
            absolute, relative = case["tolerance"]
            if not error <= worst:
                worst = error
            of_tolerated = error / (absolute + relative * abs(wanted) or 1e-30)
            if not of_tolerated <= share:
                share = of_tolerated
        if not untouched:
            note = f"{tuning}: wrote outside its output"
        elif not share <= 1 and not note:
            note = f"{tuning}: differs by more than is tolerated"
    return len(tunings), worst, share, note


def _cut(written: array[float], output: Mapping[str, int]) -> tuple[array[float], bool]:
    """Return the written rows without their surroundings, and whether those are as they were."""
    found = array("f")
    untouched = True
    stride, start, width = output["stride"], output["start"], output["width"]
    for row in range(output["capacity"]):
        line = written[row * stride : (row + 1) * stride]
        if row < output["rows"]:
            found.extend(line[start : start + width])
            line = line[:start] + line[start + width :]
        untouched = untouched and all(value == SENTINEL for value in line)
    return found, untouched


def _content(spec: Mapping[str, Any]) -> bytes:
    """Return the bytes of one input."""
    if "u32" in spec:
        return struct.pack(f"<{len(spec['u32'])}I", *spec["u32"])
    if "random" in spec:
        seed, count, scale = spec["random"]
        return random_floats(seed, count, scale).tobytes()
    if "rope" in spec:
        frequencies, context = spec["rope"]
        return rope.rope_table_bytes(RopeTable(tuple(frequencies), 1.0, False), context)
    return base64.b64decode(spec["bytes"])


async def _planes(device: Device, weight: Mapping[str, Any]) -> dict[str, bytes]:
    """Repack raw rows as the loader does."""
    quant = BY_NAME[weight["quant"]]
    form = packing(quant)
    rows, columns = weight["rows"], weight["columns"]
    raw = base64.b64decode(weight["raw"])
    buffers = {
        "raw": raw + bytes(-len(raw) % 4),
        "quants": bytes(4 * rows * form.quant_words(columns)),
        "scales": bytes(4 * max(4, rows * form.scale_words(columns))),
        "job": struct.pack("<4I", 0, rows, rows, 0),
    }
    kernel = repack.kernel(quant, rows, columns, device.capabilities)
    planes = {
        name: await _dispatch(device, [kernel], buffers, name) for name in ("quants", "scales")
    }
    planes["table"] = bytes(16) if form.table is None else table_bytes(form.table)
    return planes


async def _dispatch(
    device: Device, kernels: list[Kernel], contents: Mapping[str, bytes], result: str
) -> bytes:
    """Run kernels in order on fresh buffers; return the final content of one."""
    names = {binding.name: binding for kernel in kernels for binding in kernel.bindings}
    buffers: dict[str, Any] = {}
    try:
        for name, binding in names.items():
            usage = ("UNIFORM",) if binding.access == "uniform" else ()
            data = contents[name]
            buffers[name] = device.buffer(len(data), label=name, usage=usage)
            device.queue.write_buffer(buffers[name], 0, data + bytes(-len(data) % 4))
        encoder = device.handle.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for kernel in kernels:
            pipeline = await device.pipeline(kernel)
            ranges = [
                BufferRange(buffers[b.name], 0, buffers[b.name].size) for b in kernel.bindings
            ]
            compute.set_pipeline(pipeline.handle)
            compute.set_bind_group(0, device.bind(pipeline, ranges))
            compute.dispatch_workgroups(*kernel.grid)
        compute.end()
        device.queue.submit([encoder.finish()])
        return await device.read(buffers[result], 0, len(contents[result]))
    finally:
        for buffer in buffers.values():
            device.release(buffer)


async def _run_sampling(
    device: Device, case: Case, everything: bool
) -> tuple[int, float, float, str]:
    """Run the sampler's dispatches; the chosen ids must be the reference's."""
    structure = build_structure(sample.Structure, case["structure"])
    rows, vocabulary = structure.rows, structure.vocabulary
    records = b"".join(
        sample.pack_sampler(
            **request,
            repetition_penalty=1.0,
            frequency_penalty=0.0,
            presence_penalty=0.0,
            uses=0,
            length=position,
        )
        for request, position in zip(case["requests"], case["positions"], strict=True)
    )
    contents = {
        "step": struct.pack("<4I", rows, rows, rows, 0),
        "logits": _content(case["inputs"]["logits"]),
        "slots": struct.pack(f"<{rows}I", *range(rows)),
        "samplers": records,
        "counts": bytes(4 * rows * vocabulary),
        "bias": bytes(4 * rows * vocabulary),
        "mask": bytes(sample.mask_bytes(vocabulary) * rows),
        "scores": bytes(4 * rows * vocabulary),
        "ids": bytes(4 * rows),
        "positions": bytes(4 * rows),
        "results": bytes(4 * sample.RESULT_WORDS * rows),
    }
    tunings = _tunings(sample, structure, device, everything, case)
    for tuning in tunings:
        contents["partials"] = bytes(sample.partials_bytes(structure, tuning))
        kernels = sample.kernels(structure, tuning, device.capabilities)
        data = await _dispatch(device, kernels, contents, "results")
        chosen = [row.id for row in sample.unpack_results(data, rows)]
        if chosen != case["ids"]:
            return len(tunings), 0.0, 0.0, f"{tuning}: chose {chosen}, not {case['ids']}"
    return len(tunings), 0.0, 0.0, ""
