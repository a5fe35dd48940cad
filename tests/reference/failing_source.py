"""A source whose file goes away."""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.errors import SourceError


def fail_once(monkeypatch: pytest.MonkeyPatch, source: Any, number: int) -> None:
    """Let the ``number``-th of the reads to come fail, those of a layer or an expert."""
    read, left = source.read_apart, number

    def failing(offset: int, length: int) -> bytes:
        nonlocal left
        left -= 1
        if left == 0:
            raise SourceError("The file is gone.")
        data: bytes = read(offset, length)
        return data

    monkeypatch.setattr(source, "read_apart", failing)
