"""The CPU path in CPU time: GMAC/s of every kernel candidate, and tokens/s of a whole model.

Prints JSON lines; nothing passes or fails. CPU time, because machines are shared: with one thread
it is what the wall clock would show on an idle machine.

    python tests/bench/bench_wasm.py kernels [FORMAT ...]
    python tests/bench/bench_wasm.py model FILE.gguf ...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]

ROWS, COLUMNS, TOKENS = 49152, 576, 64
"""One token streams 49152 rows (more than a cache holds), many tokens share 3072."""
# SmolLM2-135M's shape, one thread, Chromium 156, this kind of machine (wllama 2.3.1).
WLLAMA = {
    "Q4_0": {"prefill_128": 57, "prefill_512": 41, "decode": 45},
    "Q8_0": {"prefill_128": 70, "decode": 50},
}


def seconds(run: Any, repeat: int = 7) -> float:
    """Return the least CPU time of several runs."""
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


def bench_format(quant: str) -> None:
    """Time all candidates of one format."""
    import numpy as np

    from tilewright.wasm.assembler import Memory, Module
    from tilewright.wasm.kernels import linear, packing, quantize
    from tilewright.wasm.native import NativeMemory

    form = packing.PACKINGS[quant]
    wide = form.quants == "byte"
    structure = linear.Structure(form, wide)
    rng = np.random.default_rng(0)
    nbytes = form.nbytes(ROWS, COLUMNS)
    # Any quants will do; scales must be numbers.
    cells = rng.integers(0, 256 if form.quants != "seven" else form.largest + 1, nbytes, np.uint8)
    cells = cells.reshape(-1, form.cell_bytes)
    scales = rng.random((len(cells), (form.cell_bytes - form.scales_at) // 4))
    cells[:, form.scales_at :] = scales.astype(np.float32).view(np.uint8)
    x_row = quantize.activation_bytes(COLUMNS, wide=wide)
    weights, x = 64, 64 + nbytes
    packed = x + 4 * TOKENS * COLUMNS
    out = packed + TOKENS * x_row
    scratch = out + 4 * max(ROWS, TOKENS * 3072)
    memory = NativeMemory(scratch + linear.SCRATCH_BYTES)
    memory.write(weights, cells.tobytes())
    memory.write(x, rng.standard_normal((TOKENS, COLUMNS)).astype(np.float32).tobytes())
    for many in (False, True):
        rows, tokens = (3072, TOKENS) if many else (ROWS, 1)
        for tuning in linear.space(structure, many=many, relaxed=True):
            begin = time.perf_counter()
            module = Module(Memory("env", "memory", 1))
            linear.add_linear(module, "product", structure, tuning)
            data = module.assemble()
            assembled = time.perf_counter() - begin
            adder = Module(Memory("env", "memory", 1))
            (quantize.add_quantize_wide if wide else quantize.add_quantize)(adder)
            name = "quantize_wide" if wide else "quantize"
            memory.instantiate(adder.assemble()).call(
                name, x, 4 * COLUMNS, COLUMNS // 32, TOKENS, packed
            )
            kernel = memory.instantiate(data)
            call = (
                *("product", weights, COLUMNS // 32, rows, packed),
                *(x_row, tokens, out, 4 * rows, scratch),
            )
            best = seconds(lambda k=kernel, c=call: k.call(*c))
            line = {
                "bench": "wasm kernel",
                "format": quant,
                "tokens": tokens,
                "method": tuning.method,
                "tile": [tuning.rows, tuning.tokens],
                "splat": tuning.splat,
                "streams": tuning.streams,
                "gmac_per_s": round(rows * COLUMNS * tokens / best / 1e9, 1),
                "weights_gb_per_s": round(form.nbytes(rows, COLUMNS) / best / 1e9, 2),
                "module_bytes": len(data),
                "assemble_ms": round(1e3 * assembled, 2),
            }
            print(json.dumps(line), flush=True)


async def bench_model(path: str, repeat: int = 3) -> None:
    """Time loading, prompts of 128 and 512 tokens, and 64 tokens after a prompt of 8."""
    from tilewright.engine.sampling import SamplingParams
    from tilewright.engine.wasm_runner import WasmRunner
    from tilewright.formats.open import open_model

    begin, wall = time.process_time(), time.perf_counter()
    file = await open_model(path)
    runner = await WasmRunner.load(file, context_length=1024, max_sequences=1)
    line: dict[str, Any] = {
        "bench": "wasm model",
        "model": Path(path).name,
        "threads": 1,
        "load_cpu_s": round(time.process_time() - begin, 2),
        "load_wall_s": round(time.perf_counter() - wall, 2),
        "memory_bytes": runner.device_bytes,
        **runner.plan_stats(),
    }
    runner.set_blocks(0, list(range(1024 // runner.kv_block)))
    ids = [(i * 7919) % runner.vocabulary for i in range(512)]

    async def prompt(length: int) -> None:
        chunk = runner.prefill_chunk
        for start in range(0, length, chunk):
            last = start + chunk >= length
            piece = ids[start : min(start + chunk, length)]
            await runner.prefill(0, piece, start, want="last" if last else "none")

    for length in (128, 512):
        rates = []
        for _ in range(repeat):
            begin = time.process_time()
            await prompt(length)
            rates.append(length / (time.process_time() - begin))
        line[f"prefill_{length}"] = round(statistics.median(rates), 1)
    rates = []
    for _ in range(repeat):
        await prompt(8)
        runner.set_sampling(0, SamplingParams(temperature=0), ids[:8], 8)
        await runner.sample(0)
        await runner.fetch()
        begin = time.process_time()
        for _ in range(64):
            await runner.decode([0])
            await runner.fetch()
        rates.append(64 / (time.process_time() - begin))
    line["decode"] = round(statistics.median(rates), 1)
    known = next((rates for name, rates in WLLAMA.items() if f"S.{name}." in path), {})
    line["against_wllama_2_3_1"] = {k: round(line[k] / v, 2) for k, v in known.items()}
    print(json.dumps(line), flush=True)
    await runner.close()
    file.close()


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("kernels", "model"))
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    if given.what == "kernels":
        for quant in given.names or ("Q4_0", "Q8_0", "Q4_K"):
            bench_format(quant)
    else:
        for path in given.names:
            asyncio.run(bench_model(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
