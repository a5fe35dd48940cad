"""GPTQ's and AWQ's matrices are shown as blocks that stand for the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.reference.dequantize import dequantize
from tests.reference.int4 import Way, quantized
from tests.reference.safetensors_writer import Tensor, safetensors_bytes

from tilewright.errors import FormatError, UnsupportedModelError
from tilewright.formats import int4
from tilewright.formats.int4 import read_int4, show_int4
from tilewright.formats.quant import BY_NAME
from tilewright.formats.safetensors import RawTensor, read_safetensors
from tilewright.formats.source import MemorySource

ROWS, COLUMNS = 24, 256


async def shown(parts: dict[str, Tensor], config: dict[str, Any]) -> dict[str, RawTensor]:
    named = {f"a.{name}": tensor for name, tensor in parts.items()}
    data = safetensors_bytes({"before.weight": ("F16", (2,), b"1234"), **named})
    how = read_int4({"quantization_config": config}, "config.json")
    assert how is not None
    return show_int4(await read_safetensors(MemorySource(data, "made")), how)


def made(way: Way, seed: int = 1) -> tuple[dict[str, Tensor], Any]:
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((ROWS, COLUMNS)) + generator.standard_normal((ROWS, 1))
    return quantized(weights, way, generator)


@pytest.mark.parametrize("group", [32, 64, 128, -1])
@pytest.mark.parametrize(
    ("method", "sym", "version", "kind"),
    [
        ("gptq", True, "gptq", "Q4_0"),
        ("gptq", True, "gptq_v2", "Q4_0"),
        ("gptq", False, "gptq", "Q5_0"),
        ("gptq", False, "gptq_v2", "Q5_0"),
        ("awq", False, "gptq", "Q5_0"),
    ],
)
async def test_blocks_stand_for_the_same_weights(
    method: str, sym: bool, version: str, kind: str, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int4, "_ROWS_WEIGHTS", 5 * COLUMNS)
    way = Way(method, group, sym, version=version)
    parts, exact = made(way)
    found = await shown(parts, way.config)
    assert set(found) == {"before.weight", "a.weight"}
    weight = found["a.weight"]
    assert (weight.dtype, weight.shape) == (kind, (ROWS, COLUMNS))
    data = await weight.source.read(weight.offset, weight.nbytes)
    values = dequantize(BY_NAME[kind], data, ROWS, COLUMNS)
    np.testing.assert_array_equal(values, exact)  # scales are f16, codes small: exact in f32
    generator = np.random.default_rng(0)
    for _ in range(30):
        start, end = sorted(int(n) for n in generator.integers(0, len(data) + 1, 2))
        assert await weight.source.read(weight.offset + start, end - start) == data[start:end]


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("group", [32, 64, 128])
async def test_act_order_is_shown_as_f16(group: int, sym: bool) -> None:
    way = Way("gptq", group, sym, act_order=True)
    parts, exact = made(way)
    weight = (await shown(parts, way.config))["a.weight"]
    assert weight.dtype == "F16"
    data = await weight.source.read(weight.offset, weight.nbytes)
    values = np.frombuffer(data, np.float16).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(values, exact.astype(np.float16))


@pytest.mark.parametrize(
    "change",
    [
        *({"bits": 8}, {"bits": 3}, {"group_size": 48}, {"group_size": 0}, {"group_size": "a"}),
        *({"quant_method": "bitsandbytes"}, {"checkpoint_format": "marlin"}),
        *({"quant_method": "awq", "version": "gemv", "zero_point": True},),
        *({"quant_method": "awq", "version": "gemm", "zero_point": False},),
    ],
)
def test_other_ways_are_refused(change: dict[str, Any]) -> None:
    config = {**Way("gptq", 128).config, **change}
    with pytest.raises(UnsupportedModelError, match="are not supported; GPTQ and AWQ"):
        read_int4({"quantization_config": config}, "config.json")
    assert read_int4({}, "config.json") is None


async def test_files_that_contradict_their_config() -> None:
    way = Way("gptq", 64)
    parts, _ = made(way)

    async def read(changed: dict[str, Tensor], **config: Any) -> None:
        weight = (await shown(changed, {**way.config, **config}))["a.weight"]
        await weight.source.read(weight.offset, weight.nbytes)

    await read(parts)
    with pytest.raises(FormatError, match="zeros other than 8"):
        await read(parts, sym=True)
    shuffled, _ = made(Way("gptq", 64, act_order=True))
    with pytest.raises(FormatError, match="is in act-order"):
        await read(shuffled)
    far = ("I32", (COLUMNS,), np.full(COLUMNS, 4, np.int32).tobytes())
    with pytest.raises(FormatError, match="groups that it does not have"):
        await read({**shuffled, "g_idx": far}, desc_act=True)
    for missing in ("qzeros", "scales", "g_idx"):
        rest = {name: part for name, part in shuffled.items() if name != missing}
        with pytest.raises(FormatError, match="lacks parts"):
            await read(rest, desc_act=True)
    with pytest.raises(FormatError, match="do not fit together"):
        await read(parts, group_size=128)
    wide = ("F32", (4, ROWS), bytes(16 * ROWS))
    with pytest.raises(UnsupportedModelError, match="scales"):
        await read({**parts, "scales": wide})
