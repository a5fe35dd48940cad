"""The kernels of one module: added when first needed, each Structure with the Tuning chosen for it.

Knows formats and kernels, nothing of graphs or of where anything lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..formats.quant import QuantType
from .assembler import Function, Module
from .kernels import floats, linear
from .kernels.packing import Dots, Packing, packing

ChooseTuning = Callable[[linear.Structure, bool], linear.Tuning]
"""(structure, whether for many tokens) -> Tuning."""


def default_choice(structure: linear.Structure, many: bool) -> linear.Tuning:
    """Choose the kernel's own guess, with relaxed SIMD."""
    return linear.default(structure, many=many, relaxed=True)


def guess(*, relaxed: bool, splat: linear.Splat, dots: Dots = "seven") -> ChooseTuning:
    """Return the choice of the kernel's own guess for a host."""

    def choose(structure: linear.Structure, many: bool) -> linear.Tuning:
        return linear.default(structure, many=many, relaxed=relaxed, splat=splat, dots=dots)

    return choose


@dataclass
class Kernels:
    """A module and the kernels that it already has."""

    module: Module
    choose: ChooseTuning = default_choice
    wide: bool = False
    """16-bit activations for all formats, not only where they cost nothing."""
    near: bool = False
    """Whether the weights stay in a cache: what Cranelift makes of several streams is slower there
    (Q8_0: 12 instead of 15 GMAC/s), though faster from memory."""
    dots: Dots = "seven"
    """What the weights are laid out for."""
    made: dict[Any, Function] = field(default_factory=dict)
    chosen: dict[tuple[linear.Structure, bool], linear.Tuning] = field(default_factory=dict)
    """What ``choose`` was asked and has answered."""

    def get(self, key: Any, add: Callable[[str], Function]) -> Function:
        """Return the kernel called by ``key`` (any hashable), added when first needed."""
        if key not in self.made:
            self.made[key] = add(f"k{len(self.made)}")
        return self.made[key]

    def form(self, quant: QuantType) -> Packing | None:
        """Return the layout of a format; None: it is kept as f32."""
        return packing(quant, self.dots)

    def is_wide(self, form: Packing) -> bool:
        """Whether activations that meet this layout have 16 bits."""
        return self.wide or form.quants == "byte"

    def linear(self, quant: QuantType, many: bool) -> Function:
        """Return the kernel of a format's linear map."""
        form = self.form(quant)
        if form is None:
            tile = (8, 4) if many else (16, 1)
            return self.get(
                ("float", many),
                lambda name: floats.add_float_linear(
                    self.module, name, rows=tile[0], tokens=tile[1]
                ),
            )
        structure = linear.Structure(form, self.is_wide(form))
        tuning = self.chosen[structure, many] = self.choose(structure, many)
        if self.near and tuning.splat == "shuffle":
            tuning = replace(tuning, streams=1)
        return self.get(
            (structure, tuning),
            lambda name: linear.add_linear(self.module, name, structure, tuning),
        )
