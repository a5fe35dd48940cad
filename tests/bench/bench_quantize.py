"""Speed of encoding weights while they load, and of showing 4-bit files: MB/s read, one thread.
JSON lines.

``python tests/bench/bench_quantize.py`` with the repository root and py_core on the path.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import numpy as np
from tests.reference.int4 import Way, quantized
from tests.reference.safetensors_writer import safetensors_bytes

from tilewright.formats.int4 import read_int4, show_int4
from tilewright.formats.quant import BY_NAME
from tilewright.formats.requantized import PIECE, TARGETS
from tilewright.formats.safetensors import read_safetensors
from tilewright.formats.source import MemorySource
from tilewright.wasm.encoder import Encoder

REPEAT = 7
INT4 = {
    "GPTQ": Way("gptq", 128, sym=True),
    "GPTQ asymmetric": Way("gptq", 128),
    "GPTQ act-order": Way("gptq", 128, act_order=True),
    "AWQ": Way("awq", 128),
}


def tell(stored: str, target: str, nbytes: int, weights: int, times: list[float]) -> None:
    """Print a line; the first time is that of compiling."""
    seconds = statistics.median(times[1:])
    line = {
        "bench": "quantize",
        "from": stored,
        "to": target,
        "mb_per_second": round(nbytes / 1e6 / seconds, 1),
        "million_weights_per_second": round(weights / 1e6 / seconds, 1),
    }
    print(json.dumps(line), flush=True)


async def int4(generator: np.random.Generator) -> None:
    """Print a line per way of storing four bits; a matrix of 1024 rows of 2048."""
    values = generator.standard_normal((1024, 2048), np.float32)
    for stored, way in INT4.items():
        parts, _ = quantized(values, way, generator)
        data = safetensors_bytes({f"a.{name}": part for name, part in parts.items()})
        how = read_int4({"quantization_config": way.config}, "config.json")
        assert how is not None
        shown = show_int4(await read_safetensors(MemorySource(data)), how)["a.weight"]
        times = []
        for _ in range(REPEAT + 1):
            begun = time.perf_counter()
            await shown.source.read(shown.offset, shown.nbytes)
            times.append(time.perf_counter() - begun)
        tell(stored, how.quant.name, len(data), values.size, times)


async def main() -> None:
    """Print a line per pair of formats."""
    generator = np.random.default_rng(1)
    values = generator.standard_normal(PIECE, np.float32) * np.float32(0.02)
    encoder = Encoder()
    for stored, dtype in (("F16", np.float16), ("F32", np.float32)):
        data = values.astype(dtype).tobytes()
        source = MemorySource(data)
        for target in TARGETS:
            times = []
            for _ in range(REPEAT + 1):
                begun = time.perf_counter()
                await encoder.encode(source, 0, PIECE, BY_NAME[stored], BY_NAME[target])
                times.append(time.perf_counter() - begun)
            tell(stored, target, len(data), PIECE, times)
    await int4(generator)


asyncio.run(main())
