"""The CPU path's linear kernels with the interface that tuner and records know kernels by.

The modules of ``webgpu/kernels`` have it themselves; ``wasm/`` does not know the GPU's types.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from ..wasm.kernels import lanes, linear, packing, quantize, tile
from ..webgpu.kernels.kernel import Capabilities, Cost


@dataclass(frozen=True)
class CpuCapabilities(Capabilities):
    """What an engine of WebAssembly can do, as far as kernels and tuning care."""

    relaxed: bool = True
    splat: linear.Splat = "shuffle"
    """The default's."""
    dots: packing.Dots = "seven"
    """What relaxed dot products are good for."""


@dataclass(frozen=True)
class Shape:
    """What is computed, and whether for a prompt rather than one token."""

    linear: linear.Structure
    many: bool


@dataclass(frozen=True)
class Source:
    """Stands for the text of a kernel."""

    digest: str


@dataclass(frozen=True)
class CpuKernel:
    """One candidate."""

    label: str
    source: Source
    cost: Cost


def naive(structure: Shape) -> linear.Tuning:
    """Return the Tuning that every engine runs."""
    return linear.naive(structure.linear)


def default(structure: Shape, capabilities: CpuCapabilities) -> linear.Tuning:
    """Return a good guess without measuring."""
    return linear.default(
        structure.linear,
        many=structure.many,
        relaxed=capabilities.relaxed,
        splat=capabilities.splat,
        dots=capabilities.dots,
    )


def space(structure: Shape, capabilities: CpuCapabilities) -> list[linear.Tuning]:
    """Return the candidates worth timing."""
    return linear.space(
        structure.linear,
        many=structure.many,
        relaxed=capabilities.relaxed,
        splat=capabilities.splat,
        dots=capabilities.dots,
    )


def kernel(structure: Shape, tuning: Any, capabilities: CpuCapabilities) -> CpuKernel:
    """Return what is known of a candidate without assembling it."""
    what = "matmul" if structure.many else "matvec"
    wide = " wide" if structure.linear.wide else ""
    label = f"{what} {structure.linear.packing.name}{wide}"
    return CpuKernel(label, Source(_code_digest()), Cost(0, 0))


_GENERATED = {"__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__"}


@cache
def _code_digest() -> str:
    """Return a digest of the code that writes the kernels: when it changes, records are void."""
    digest = hashlib.sha256()
    for module in (linear, tile, packing, quantize, lanes):
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                functions = [f for f in vars(value).values() if isinstance(f, FunctionType)]
            else:
                functions = [value] if isinstance(value, FunctionType) else []
            for function in functions:
                # What dataclasses generate holds sets, whose order differs from run to run.
                if function.__module__ == module.__name__ and function.__name__ not in _GENERATED:
                    _add_code(digest, function.__code__)
    return digest.hexdigest()


def _add_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif not isinstance(
            constant, str | frozenset
        ):  # doc strings are left out of a page's library
            digest.update(repr(constant).encode())
