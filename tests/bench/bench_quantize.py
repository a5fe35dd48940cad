"""Speed of encoding weights while they load: MB/s of F16 read, one thread. JSON lines.

``python tests/bench/bench_quantize.py`` with the repository root and py_core on the path.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import numpy as np

from tilewright.formats.quant import BY_NAME
from tilewright.formats.requantized import PIECE, TARGETS
from tilewright.formats.source import MemorySource
from tilewright.wasm.encoder import Encoder

REPEAT = 7


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
            seconds = statistics.median(times[1:])
            line = {
                "bench": "quantize",
                "from": stored,
                "to": target,
                "mb_per_second": round(len(data) / 1e6 / seconds, 1),
                "million_weights_per_second": round(PIECE / 1e6 / seconds, 1),
            }
            print(json.dumps(line), flush=True)


asyncio.run(main())
