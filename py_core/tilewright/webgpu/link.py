"""Links WGSL: a generated header, one op file and the role files it needs, joined as text.

There is no template language. The header holds ``enable`` directives, ``const`` and ``alias`` lines
from Structure and Tuning, and the binding declarations; the files under ``shaders/`` are plain WGSL
that use those names. A missing role or a forbidden combination is a compiler error, and ``origin``
says which file and line it came from. The contract is written down in ``shaders/README.md``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

from ..errors import KernelError


@dataclass(frozen=True)
class Alias:
    """A header value that names a WGSL type."""

    type: str


Constant = bool | int | float | Alias
"""bool -> bool, int -> u32, float -> f32, Alias -> alias."""


@dataclass(frozen=True)
class Binding:
    """One resource of group 0; its number is its place in the kernel's list."""

    name: str
    type: str
    """WGSL type: ``array<u32>``, ``array<vec4f>``, ``Step`` ..."""
    access: str = "read"
    """``read``, ``read_write`` (storage) or ``uniform``."""


@dataclass(frozen=True)
class LinkedSource:
    """The text given to the compiler, and where each line came from."""

    code: str
    parts: tuple[tuple[str, int], ...] = field(repr=False)
    """(name, number of lines) in order."""

    def origin(self, line: int) -> tuple[str, int]:
        """Return the file and the line in it of 1-based ``line`` of the linked text."""
        for name, length in self.parts:
            if line <= length:
                return name, line
            line -= length
        return "end of file", line

    @cached_property
    def digest(self) -> str:
        """Hash of the text: part of every tuning record's key."""
        return hashlib.sha256(self.code.encode()).hexdigest()[:32]


@cache
def _shader(path: str) -> str:
    """Read a file of the shader folder, installed or in the repository."""
    installed = resources.files("tilewright").joinpath("shaders", *path.split("/"))
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    checkout = Path(__file__).resolve().parents[3] / "shaders" / path
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    raise KernelError(f"The shader file {path!r} is missing from this installation.", file=path)


def read_all() -> None:
    """Read every shader file into memory, for ``serve/snapshot.py``."""
    with resources.as_file(resources.files("tilewright").joinpath("shaders")) as root:
        for file in sorted(root.rglob("*.wgsl")):
            _shader(file.relative_to(root).as_posix())


def _constant(name: str, value: Constant) -> str:
    if isinstance(value, Alias):
        return f"alias {name} = {value.type};"
    if isinstance(value, bool):
        return f"const {name}: bool = {str(value).lower()};"
    if isinstance(value, int):
        return f"const {name}: u32 = {value}u;"
    if not math.isfinite(value):
        raise KernelError(f"The constant {name} is {value}, which WGSL cannot express.")
    return f"const {name}: f32 = {float(value)!r}f;"


def _declaration(number: int, binding: Binding) -> str:
    space = "uniform" if binding.access == "uniform" else f"storage, {binding.access}"
    return f"@group(0) @binding({number}) var<{space}> {binding.name}: {binding.type};"


def link(
    files: Sequence[str],
    *,
    constants: Mapping[str, Constant],
    bindings: Sequence[Binding],
    enables: Sequence[str] = (),
) -> LinkedSource:
    """Join a generated header and the named files (relative to ``shaders/``)."""
    header = [f"enable {name};" for name in enables]
    header += [_constant(name, value) for name, value in constants.items()]
    header += [_declaration(number, binding) for number, binding in enumerate(bindings)]
    texts = [("generated header", "\n".join(header) + "\n")]
    texts += [(f"shaders/{path}", _shader(path).rstrip("\n") + "\n") for path in files]
    parts = tuple((name, text.count("\n")) for name, text in texts)
    return LinkedSource("".join(text for _, text in texts), parts)
