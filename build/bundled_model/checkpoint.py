"""The compact checkpoint: bf16 weights in the safetensors format, written and read with numpy.

Format: u64 length of the header, JSON header (name -> dtype, shape, offsets), data. Source:
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]
"""The model's parameters by their names in PyTorch."""


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of f32, rounded to nearest even; finite values only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + (bits >> 16 & 1)
    return (rounded >> 16).astype(np.uint16)


def save(path: Path, weights: Weights, notes: dict[str, Any]) -> None:
    """Write weights rounded to bf16, and notes (JSON values) into the header."""
    header: dict[str, Any] = {"__metadata__": {k: json.dumps(v) for k, v in notes.items()}}
    pieces, offset = [], 0
    for name, values in weights.items():
        data = to_bf16(values).astype("<u2").tobytes()
        end = offset + len(data)
        header[name] = {
            "dtype": "BF16",
            "shape": list(values.shape),
            "data_offsets": [offset, end],
        }
        pieces.append(data)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(pieces))


def load(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Read what :func:`save` wrote: (weights as f32, notes)."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    notes = {key: json.loads(text) for key, text in header.pop("__metadata__").items()}
    weights = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        halves = np.frombuffer(raw[begin:end], "<u2").astype(np.uint32)
        weights[name] = (halves << 16).view(np.float32).reshape(entry["shape"])
    return weights, notes
