"""Thousands of damaged model files: each opens or raises a TilewrightError, quickly and in bounds.

``TILEWRIGHT_FUZZ=100000`` in the environment sets the number of mutations per container.
"""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.reference.safetensors_writer import huggingface_files

from tilewright.errors import TilewrightError
from tilewright.formats.gguf import read_gguf
from tilewright.formats.huggingface import read_huggingface
from tilewright.formats.model_file import ModelFile
from tilewright.formats.source import ByteSource, MemorySource

MUTATIONS = int(os.environ.get("TILEWRIGHT_FUZZ", "2000"))
SEED = 20261121
SECONDS_EACH = 2.0
"""Far above what any header of the models used takes (some ms), far below a hang."""
MEASURED = 5
"""Memory is measured in every fifth case; counting allocations takes most of the time."""
MEMORY_FACTOR = 40
"""Peak bytes of Python objects per byte of file: a list of empty strings takes 8 bytes of file and
8 of memory per element, a dictionary entry of the metadata some 200 for 14."""

INTERESTING = [0, 1, 2, 3, 7, 8, 9, 12, 13, 31, 32, 33, 127, 128, 255, 256, 65535]
INTERESTING += [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(data: bytes, header: int, generator: random.Random) -> bytes:
    """Damage ``data`` in one to three places, mostly in its first ``header`` bytes."""
    out = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        at = generator.randrange(max(1, min(header, len(out))))
        kind = generator.randrange(9)
        if kind == 0:
            del out[generator.choice((at, generator.randrange(len(out) + 1))) :]
        elif kind <= 2:
            for _ in range(generator.choice((1, 1, 4, 64))):
                place = generator.randrange(max(1, min(header, len(out))))
                if out:
                    out[place] ^= 1 << generator.randrange(8)
        elif kind <= 5:
            width = generator.choice((1, 2, 4, 8))
            value = generator.choice((*INTERESTING, len(data), len(data) // 8, at))
            out[at : at + width] = struct.pack("<Q", value % 2**64)[:width]
        elif kind == 6:
            del out[at : at + generator.randrange(1, 40)]
        elif kind == 7:
            out[at:at] = out[at : at + generator.randrange(1, 200)]
        else:
            other, length = generator.randrange(max(1, header)), generator.randrange(1, 64)
            out[at : at + length] = out[other : other + length]
        if not out:
            break
    return bytes(out)


def check(file: ModelFile) -> None:
    """An opened file must keep its promises, whatever was damaged."""
    used: dict[int, list[tuple[int, int]]] = {}
    for info in file.items():
        assert info.offset >= 0
        assert info.nbytes == info.rows * info.quant.row_bytes(info.columns)
        assert info.offset + info.nbytes <= file.sources[info.source].size
        used.setdefault(info.source, []).append((info.offset, info.nbytes))
    for ranges in used.values():
        ranges.sort()
        for (start, nbytes), (following, _) in pairwise(ranges):
            assert start + nbytes <= following


async def run(
    originals: list[bytes],
    headers: list[int],
    opened: Callable[[bytes], Awaitable[ModelFile]],
    mutations: int,
) -> Counter[str]:
    generator = random.Random(SEED)
    outcome: Counter[str] = Counter()
    for index in range(mutations):
        which = index % len(originals)
        data = mutate(originals[which], headers[which], generator)
        measured = index % MEASURED == 0
        if measured:
            tracemalloc.start()
        start = time.perf_counter()
        try:
            check(await opened(data))
            outcome["opened"] += 1
        except TilewrightError as error:
            outcome[error.to_dict()["code"]] += 1
        assert time.perf_counter() - start < SECONDS_EACH
        if measured:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MEMORY_FACTOR * len(data) + 2**21, (index, peak, len(data))
    return outcome


async def test_damaged_gguf(oracle: Path, record_property: Callable[[str, object], None]) -> None:
    folder = oracle / "models_and_logits" / "models"
    names = ("llama.IQ1_S", "llama.Q4_K", "qwen3moe.Q4_0", "phi3.F16", "bert.Q8_0", "gemma3.Q8_0")
    originals = [(folder / f"{name}.gguf").read_bytes() for name in names]
    headers = []
    for data in originals:
        file = await read_gguf(MemorySource(data))
        headers.append(min(info.offset for info in file.items()))

    async def opened(data: bytes) -> ModelFile:
        return await read_gguf(MemorySource(data, "damaged.gguf"))

    outcome = await run(originals, headers, opened, MUTATIONS)
    record_property("outcome", dict(outcome))
    assert outcome.total() == MUTATIONS
    assert outcome["opened"] > MUTATIONS // 50
    assert outcome["bad_model_file"] > MUTATIONS // 5
    assert outcome["unsupported_model"] > 0


async def test_damaged_vocabulary(oracle: Path) -> None:
    """Large string arrays: the loop over strings is the hot one, and the one with most lengths."""
    data = (oracle / "tokenizers" / "ggml-vocab-llama-spm.gguf").read_bytes()
    generator, refused = random.Random(SEED), 0
    for _ in range(MUTATIONS // 50):
        damaged = mutate(data, len(data), generator)
        try:
            check(await read_gguf(MemorySource(damaged, "damaged.gguf")))
        except TilewrightError:
            refused += 1
    assert refused > MUTATIONS // 500


@pytest.mark.parametrize("part", ["model.safetensors", "config.json", "tokenizer.json"])
async def test_damaged_safetensors(part: str) -> None:
    files = huggingface_files()
    original = files[part]
    header = len(original)
    if part == "model.safetensors":
        header = 8 + struct.unpack_from("<Q", original)[0]

    async def opened(data: bytes) -> ModelFile:
        damaged = {**files, part: data}

        async def find(name: str) -> ByteSource | None:
            return MemorySource(damaged[name], name) if name in damaged else None

        return await read_huggingface(
            MemorySource(damaged["model.safetensors"], "model.safetensors"), find
        )

    # a damaged tokenizer.json is found last, so each case takes the longest
    mutations = MUTATIONS // 5 if part == "tokenizer.json" else MUTATIONS
    outcome = await run([original], [header], opened, mutations)
    assert outcome.total() == mutations
    assert outcome["bad_model_file"] > mutations // 5
