"""Tokenizer speed on ordinary English and code: prints one JSON line per vocabulary.

Usage: ``PYTHONPATH=py_core:. python tests/bench/bench_tokenizer.py VOCABULARY.gguf...``. The text
is this project's own documents and sources. "cold" is a new tokenizer's first run (every word is
met for the first time), "warm" the next; seconds are those of the process, so that other load on
the machine counts little.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.unit.text.text_variants import read_metadata

from tilewright.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """Return what ``action`` returns and the processor seconds it took."""
    start = time.process_time()
    return action(), time.process_time() - start


def ordinary_text() -> str:
    """Return English and code in about equal parts with their usual white space."""
    sources = sorted((ROOT / "py_core").rglob("*.py"))
    documents = sorted(ROOT.glob("*.md")) + sorted((ROOT / "shaders").rglob("*.md"))
    return "\n".join(path.read_text(encoding="utf-8") for path in (*documents, *sources))


def measure(path: Path, text: str) -> dict[str, object]:
    """Measure one vocabulary."""
    metadata = asyncio.run(read_metadata(path))
    tokenizer, build = timed(lambda: Tokenizer.from_gguf(metadata))
    ids, cold = timed(lambda: tokenizer.encode(text))
    _, warm = timed(lambda: tokenizer.encode(text))
    _, decode = timed(lambda: tokenizer.decode(ids))
    word = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=4000))
    _, long_word = timed(lambda: tokenizer.encode(word))
    return {
        "bench": "tokenizer",
        "vocabulary": path.name,
        "python": sys.version.split()[0],
        "characters": len(text),
        "tokens": len(ids),
        "build_seconds": round(build, 3),
        "cold_tokens_per_second": round(len(ids) / cold),
        "warm_tokens_per_second": round(len(ids) / warm),
        "decoded_tokens_per_second": round(len(ids) / decode),
        "word_of_4000_characters_ms": round(1000 * long_word, 1),
    }


if __name__ == "__main__":
    ordinary = ordinary_text()
    for argument in sys.argv[1:]:
        print(json.dumps(measure(Path(argument), ordinary)), flush=True)
