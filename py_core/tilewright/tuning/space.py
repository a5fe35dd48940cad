"""Names for what is tuned: which candidates a kernel has, and the complete key of a record.

A candidate is named by its dataclass and fields, and found again by searching the kernel module's
own space: a name from a foreign or older record that is no longer there is simply not found. The
key is derived, never written by hand. Knows kernel modules' common interface
(``webgpu/kernels/kernel.py``), no particular kernel, no GPU handle and no model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from ..errors import KernelError
from ..webgpu.kernels.kernel import Capabilities

RECORD_VERSION = 1
"""Of the record format: other versions are ignored."""

MANY_TOKENS = 8
"""Up to this capacity a plan is tuned by itself; all larger ones share a record."""
_CANONICAL_TOKENS = 256
_LONG_CONTEXT = 1024
"""Positions from which on attention may be split; contexts on the same side share a record."""


def candidates(module: Any, structure: Any, capabilities: Capabilities) -> list[Any]:
    """Return the Tunings worth timing: naive first, then the default, each once."""
    found = [module.naive(structure), module.default(structure, capabilities)]
    found += module.space(structure, capabilities)
    return list(dict.fromkeys(found))


def name(tuning: Any) -> str:
    """Return a Tuning as text: its class and every field in order.

    >>> from tilewright.webgpu.kernels.matvec import QuadTuning
    >>> name(QuadTuning(16, 1))
    'QuadTuning(workgroup=16, tile=1, activations=global)'
    """
    values = ", ".join(f"{f.name}={getattr(tuning, f.name)}" for f in fields(tuning))
    return f"{type(tuning).__name__}({values})"


def named(wanted: str, module: Any, structure: Any, capabilities: Capabilities) -> Any | None:
    """Return the candidate of that name, or None where there is none."""
    for tuning in candidates(module, structure, capabilities):
        if name(tuning) == wanted:
            return tuning
    return None


def module_name(module: Any) -> str:
    """Return the last part of a kernel module's name."""
    return str(module.__name__).rpartition(".")[2]


def canonical(structure: Any) -> Any:
    """Return the Structure that stands for all whose best Tuning is taken to be the same.

    Capacities of many tokens are one, and so are context lengths on either side of the split.
    """
    changes: dict[str, Any] = {}
    names = {f.name for f in fields(structure)}
    if "tokens" in names and structure.tokens > MANY_TOKENS:
        changes["tokens"] = _CANONICAL_TOKENS
    layout = getattr(structure, "layout", None)
    if layout is not None and hasattr(layout, "max_blocks"):
        positions = layout.max_blocks * layout.block
        kept = 4 * _LONG_CONTEXT if positions >= _LONG_CONTEXT else _LONG_CONTEXT // 4
        changes["layout"] = replace(layout, max_blocks=kept // layout.block)
    return replace(structure, **changes)


def key(module: Any, structure: Any, capabilities: Capabilities, environment: str) -> str:
    """Return the complete key of a record.

    It covers the record format, the adapter and driver with their features and limits, what else
    ``environment`` says (browser, GPU library), the kernel module, the Structure, and the linked
    text of every candidate: when a shader or the space changes, old records no longer match.
    """
    shape = canonical(structure)
    digest = hashlib.sha256()
    for tuning in candidates(module, shape, capabilities):
        digest.update(name(tuning).encode())
        try:
            linked = module.kernel(shape, tuning, capabilities)
        except KernelError:
            continue
        digest.update(linked.source.digest.encode())
    parts = {
        "version": RECORD_VERSION,
        "environment": environment,
        "capabilities": asdict(capabilities),
        "module": module_name(module),
        "structure": describe(shape),
        "sources": digest.hexdigest(),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def describe(structure: Any) -> dict[str, Any]:
    """Return a Structure's fields as JSON values, with its class."""
    if not is_dataclass(structure) or isinstance(structure, type):
        raise KernelError(f"{structure!r} is not a Structure.")
    return {"class": type(structure).__name__, **asdict(structure)}
