"""Weights encoded in the page equal the native bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tilewright.formats.quant import BY_NAME
from tilewright.formats.requantized import TARGETS
from tilewright.formats.source import MemorySource
from tilewright.wasm.encoder import Encoder

SCRIPT = """
import hashlib
import tilewright_sources
await tilewright_sources.installOpenAI()
from tilewright.formats.quant import BY_NAME
from tilewright.formats.source import MemorySource
from tilewright.wasm.encoder import Encoder
encoder, made = Encoder(), {}
source = MemorySource(bytes.fromhex(data["weights"]))
for name in data["targets"]:
    blocks = await encoder.encode(source, 0, 4096, BY_NAME["BF16"], BY_NAME[name])
    made[name] = hashlib.sha256(blocks).hexdigest()
made
"""


async def test_the_pages_bytes_are_the_native_ones(python: Callable[..., Any]) -> None:
    pytest.importorskip("wasmtime", reason="the native half runs in wasmtime")
    # Upper halves of floats between 2**-9 and 2, of both signs.
    weights = b"".join(
        ((number * 40503 % 65536) & 0x83FF | 0x3B00).to_bytes(2, "little") for number in range(4096)
    )
    encoder, expected = Encoder(), {}
    for name in TARGETS:
        source = MemorySource(weights)
        blocks = await encoder.encode(source, 0, 4096, BY_NAME["BF16"], BY_NAME[name])
        expected[name] = hashlib.sha256(blocks).hexdigest()
    found = await python(SCRIPT, {"weights": weights.hex(), "targets": list(TARGETS)})
    assert found == expected
