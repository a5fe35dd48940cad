"""Vocabularies of the reference data, read once with the project's own reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.unit.text.text_variants import read_metadata

from tilewright.text.tokenizer import Tokenizer

VOCABULARIES = ("bert-bge", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "starcoder")
Load = Callable[[str], Any]


@pytest.fixture(scope="session")
def metadata(oracle: Path) -> Load:
    """GGUF metadata by the vocabulary's short name."""

    @cache
    def load(name: str) -> dict[str, Any]:
        return asyncio.run(read_metadata(oracle / "tokenizers" / f"ggml-vocab-{name}.gguf"))

    # Read outside any event loop, so that tests may call it whether or not they are async.
    for name in VOCABULARIES:
        load(name)
    return load


@pytest.fixture(scope="session")
def tokenizer(metadata: Load) -> Load:
    """Tokenizer by the vocabulary's short name."""
    return cache(lambda name: Tokenizer.from_gguf(metadata(name)))
