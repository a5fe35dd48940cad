"""Writes ``dequantize.json``: what the gguf package (llama.cpp's, MIT) makes of random blocks.

Run by hand in an environment that has ``gguf`` and numpy; the project's tests only read the result.
"""

from __future__ import annotations

import base64
import json
import zlib
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS, SEED = 2, 256, 20261121


def pack(array: NDArray[np.generic]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def main() -> None:
    generator = np.random.default_rng(SEED)
    cases = {}
    for kind, (block, nbytes) in sorted(gguf.GGML_QUANT_SIZES.items()):
        if kind.name == "NVFP4" or block > COLUMNS:  # not a format of Tilewright
            continue
        shape = (ROWS, COLUMNS // block * nbytes)
        while True:  # until all scales are finite and not absurd
            raw = generator.integers(0, 256, shape, np.uint8)
            try:
                with np.errstate(all="ignore"):
                    values = gguf.quants.dequantize(raw, kind).astype(np.float32)
            except NotImplementedError:
                break
            if np.isfinite(values).all() and (block == 1 or np.abs(values).max() < 1e6):
                cases[kind.name] = {"raw": pack(raw), "float32": pack(values)}
                break
    golden = {
        "provenance": f"gguf {version('gguf')} (PyPI), gguf.quants.dequantize; numpy "
        f"default_rng({SEED}); made by make_dequantize.py; fields are base64(zlib(bytes))",
        "rows": ROWS,
        "columns": COLUMNS,
        "cases": cases,
    }
    Path(__file__).with_name("dequantize.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
