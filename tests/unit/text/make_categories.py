"""Write ``categories.bin``, the pinned table of Unicode general categories.

Run with a Python whose ``unicodedata`` is of version 15.1 (CPython 3.13), because that is the
version of llama.cpp's tables (src/unicode-data.cpp, found by comparing all code points).
The layout is described in ``tilewright/text/unicode_data.py``.
"""

from __future__ import annotations

import sys
import unicodedata
from itertools import groupby
from pathlib import Path

PINNED = "15.1.0"


def encode_runs() -> bytes:
    """Run-length encode the categories of all code points."""
    categories = [unicodedata.category(chr(code)) for code in range(0x110000)]
    names = sorted(set(categories))
    table = bytearray()
    for name, run in groupby(categories):
        length = sum(1 for _ in run)
        if length < 8:
            table.append(names.index(name) | length << 5)
            continue
        table.append(names.index(name))
        while length > 127:
            table.append(length & 127 | 128)
            length >>= 7
        table.append(length)
    return bytes(table)


if __name__ == "__main__":
    if unicodedata.unidata_version != PINNED:
        sys.exit(f"needs Unicode {PINNED}, this Python has {unicodedata.unidata_version}")
    Path(sys.argv[1]).write_bytes(encode_runs())
