"""How models write tool calls: one module per dialect, found by the chat template."""

from __future__ import annotations

from .dialect import Call, Dialect, Tool
from .hermes import Hermes
from .llama import Llama
from .mistral import Mistral, MistralNamed

__all__ = ["Call", "Dialect", "Tool", "dialect_of"]


def dialect_of(template: str) -> Dialect | None:
    """Return the dialect that a chat template teaches its model; None: it knows no tools."""
    if "tools" not in template:
        return None
    if "[TOOL_CALLS]" in template:
        return MistralNamed() if "[ARGS]" in template else Mistral()
    if "<tool_call>" in template and "<arg_key>" not in template and "<function=" not in template:
        return Hermes()
    if "ipython" in template:
        return Llama()
    return None
