"""The numpy twin of the weight formats, against values that llama.cpp's own package computed."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests.reference.dequantize import dequantize

from tilewright.formats import grids
from tilewright.formats.quant import BY_NAME, QUANT_TYPES

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "dequantize.json").read_text(encoding="utf-8")
)


def unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


@pytest.mark.parametrize("name", [quant.name for quant in QUANT_TYPES])
def test_equals_golden_to_the_bit(name: str) -> None:
    case = GOLDEN["cases"][name]
    rows, columns = GOLDEN["rows"], GOLDEN["columns"]
    values = dequantize(BY_NAME[name], unpack(case["raw"]), rows, columns)
    expected = np.frombuffer(unpack(case["float32"]), np.uint32).reshape(rows, columns)
    assert values.dtype == np.float32
    assert np.array_equal(np.ascontiguousarray(values).view(np.uint32), expected)


def test_wrong_number_of_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 18 bytes, not 17"):
        dequantize(BY_NAME["Q4_0"], bytes(17), 1, 32)


@pytest.mark.parametrize(
    ("grid", "points", "axes"),
    [
        (grids.iq2xxs_grid, 256, 8),
        (grids.iq2xs_grid, 512, 8),
        (grids.iq2s_grid, 1024, 8),
        (grids.iq3xxs_grid, 256, 4),
        (grids.iq3s_grid, 512, 4),
        (grids.iq1s_grid, 2048, 8),
    ],
)
def test_grids_have_distinct_points(grid: object, points: int, axes: int) -> None:
    assert callable(grid)
    data = grid()
    assert len(data) == points * axes
    assert len({data[index : index + axes] for index in range(0, len(data), axes)}) == points
