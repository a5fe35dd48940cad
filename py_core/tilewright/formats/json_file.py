"""JSON from an untrusted file, with a bound on its size and errors that name the file."""

from __future__ import annotations

import json
from typing import Any

from ..errors import FormatError
from .source import ByteSource

MAX_JSON = 128 * 1024 * 1024
"""Bytes; the largest tokenizer.json in use have about 35 MB."""


async def read_json(source: ByteSource, limit: int = MAX_JSON) -> dict[str, Any]:
    """Read a whole file as a JSON object; FormatError where it is none."""
    if source.size > limit:
        raise FormatError(
            f"{source.name} has {source.size} bytes, more than the {limit} that such a file may "
            "have.",
            file=source.name,
        )
    return parse_object(source.name, await source.read(0, source.size))


def parse_object(name: str, data: bytes) -> dict[str, Any]:
    """Parse a JSON object; FormatError where ``data`` is none or nests absurdly."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{name} is not valid JSON ({str(error)[:80]}): the file is damaged, fetch it again.",
            file=name,
        ) from None
    if not isinstance(value, dict):
        raise FormatError(f"{name} is not a JSON object: the file is damaged.", file=name)
    return value
