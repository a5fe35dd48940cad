"""The exporter's container and block formats, against hand-computed values and bounds."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from bundled_model import gguf_file

np = pytest.importorskip("numpy", reason="numpy is a development dependency")
quantize = pytest.importorskip("bundled_model.quantize")


def test_round_trip_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    values = np.arange(64, dtype=np.float32).reshape(2, 32)
    keys = {"a": 3, "b": 0.5, "c": "ü", "d": True, "e": ["x", "yz"], "f": [1, -2]}
    tensors = [
        gguf_file.TensorData("t", (2, 32), "q8_0", quantize.encode("q8_0", values)),
        gguf_file.TensorData("n", (3,), "f32", quantize.encode("f32", np.float32([1, 2, 3]))),
    ]
    gguf_file.write(path, keys, tensors)
    raw = path.read_bytes()
    assert raw[:4] == b"GGUF"
    assert len(raw) % gguf_file.ALIGNMENT == 0
    read_keys, read_tensors = gguf_file.read(path, quantize.BLOCKS)
    assert read_keys == keys
    assert read_tensors == tensors


def test_metadata_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not supported"):
        gguf_file.write(tmp_path / "x.gguf", {"a": {"b": 1}}, [])


def test_q8_0_block_by_hand() -> None:
    x = np.zeros(32, np.float32)
    x[0], x[1], x[31] = 127.0, -63.5, 1.2
    data = quantize.encode("q8_0", x)
    assert data[:2] == struct.pack("<e", 1.0)
    assert struct.unpack("<32b", data[2:])[:2] == (127, -64)
    assert data[33] == 1


def test_q4_0_block_by_hand() -> None:
    x = np.zeros(32, np.float32)
    x[0], x[16] = -8.0, 7.0
    data = quantize.encode("q4_0", x)
    assert data[:2] == struct.pack("<e", 1.0)
    assert data[2] == 0 | 15 << 4
    assert set(data[3:]) == {0x88}


def test_q4_k_scales_are_packed_as_readers_expect() -> None:
    """One super-block, unpacked with the formulas of ggml's get_scale_min_k4."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=256).astype(np.float32) * np.repeat(np.arange(1, 9), 32)
    raw = quantize.encode("q4_k", x)
    d, dmin = struct.unpack("<ee", raw[:4])
    packed, nibbles = raw[4:16], raw[16:]
    out = []
    for group in range(8):
        if group < 4:
            scale, minimum = packed[group] & 63, packed[group + 4] & 63
        else:
            scale = packed[group + 4] & 15 | (packed[group - 4] >> 6) << 4
            minimum = packed[group + 4] >> 4 | (packed[group] >> 6) << 4
        chunk = nibbles[group // 2 * 32 : group // 2 * 32 + 32]
        out += [d * scale * (b >> 4 if group % 2 else b & 15) - dmin * minimum for b in chunk]
    assert np.allclose(out, quantize.decode("q4_k", raw, (256,)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "bound"), [("f32", 0.0), ("q8_0", 0.006), ("q4_0", 0.1), ("q4_k", 0.085)]
)
def test_relative_error_of_a_gaussian(kind: str, bound: float) -> None:
    """Bounds: about 20% above what Gaussian weights give with correct rounding."""
    x = np.random.default_rng(1).normal(size=(8, 512)).astype(np.float32)
    back = quantize.decode(kind, quantize.encode(kind, x), x.shape)
    assert np.linalg.norm(back - x) <= bound * np.linalg.norm(x)


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_k"])
def test_zeros_and_constants_survive(kind: str) -> None:
    x = np.zeros((2, 256), np.float32)
    x[1] = 0.75
    back = quantize.decode(kind, quantize.encode(kind, x), x.shape)
    assert not back[0].any()
    assert np.allclose(back[1], 0.75, rtol=0.02)


def test_rows_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 256"):
        quantize.encode("q4_k", np.zeros((2, 96), np.float32))
