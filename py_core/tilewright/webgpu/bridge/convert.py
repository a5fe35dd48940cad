"""Names and values between wgpu-py and JavaScript.

wgpu-py writes ``min_binding_size``, ``max-buffer-size`` and flags as names; JavaScript wants
``minBindingSize``, ``maxBufferSize`` and numbers. Nothing here needs a browser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from wgpu import flags
from wgpu._coreutils import str_flag_to_int

# Struct fields that hold flags; those of methods are recognised by their annotation.
_FLAG_FIELDS = {"visibility": flags.ShaderStage}


@lru_cache(maxsize=512)
def camel(name: str) -> str:
    """Return the JavaScript form of a field or method name: ``bind_group`` is ``bindGroup``."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


@lru_cache(maxsize=128)
def limit_name(name: str) -> str:
    """Return wgpu-py's form of a limit: ``maxBufferSize`` is ``max-buffer-size``."""
    parts = re.findall(r"[A-Z]?[a-z]+|\d+[A-Z]?|[A-Z]+(?![a-z])", name)
    return "-".join(parts).lower()


def to_number(flag: Any, value: int | str) -> int:
    """Return a flag as a number; ``"STORAGE|COPY_SRC"`` is accepted as in wgpu-py."""
    return value if isinstance(value, int) else str_flag_to_int(flag, value)


def to_plain(value: Any) -> Any:
    """Turn an argument into dicts, lists and JavaScript objects; None fields are left out."""
    internal = getattr(value, "_internal", None)
    if internal is not None:
        return internal
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if item is None:
                continue
            if key in _FLAG_FIELDS:
                item = to_number(_FLAG_FIELDS[key], item)
            # The names of a shader's override constants are the author's own.
            plain[camel(key)] = dict(item) if key == "constants" else to_plain(item)
        return plain
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    return value
