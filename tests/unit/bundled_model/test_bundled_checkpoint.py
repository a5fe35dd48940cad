"""The compact checkpoint, and the shipped file made from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bundled_model import checkpoint, command, export, gguf_file, quantize
from bundled_model.config import Config
from bundled_model.tokenizer import Tokenizer


def test_rounding_to_bf16_by_hand() -> None:
    values = np.float32([1.0, -2.5, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0 + 2**-8 + 2**-20])
    assert [hex(bits) for bits in checkpoint.to_bf16(values)] == [
        "0x3f80",
        "0xc020",
        "0x3f80",  # a tie goes to the even neighbour
        "0x3f82",
        "0x3f81",
    ]


def test_round_trip(tmp_path: Path) -> None:
    weights = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.float32([0.5, -0.25]),
    }
    checkpoint.save(tmp_path / "x", weights, {"step": 3, "config": {"width": 2}})
    found, notes = checkpoint.load(tmp_path / "x")
    assert notes == {"step": 3, "config": {"width": 2}}
    assert list(found) == list(weights)
    for name, values in weights.items():
        assert np.array_equal(found[name], values)


def test_shipped_file_is_made_from_the_checkpoint(tmp_path: Path) -> None:
    weights, notes = checkpoint.load(command.COMPACT)
    config = Config(**notes["config"])
    assert 3e6 < sum(values.size for values in weights.values()) < 8e6
    path = tmp_path / "x.gguf"
    template = (command.FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer = Tokenizer.load(command.TOKENIZER)
    export.write(path, weights, config, tokenizer, template, command.SHIPPED_FORMAT)
    assert path.read_bytes() == command.SHIPPED.read_bytes()
    assert path.stat().st_size <= 6_000_000


def test_joined_matrices_are_split_in_order() -> None:
    config = Config(
        vocabulary=8, width=4, layers=1, heads=2, kv_heads=1, head_size=2, feed_forward=3
    )
    block = "blocks.0."
    weights = {
        "embedding.weight": np.zeros((8, 4), np.float32),
        "norm.weight": np.ones(4, np.float32),
        f"{block}qkv.weight": np.arange(32, dtype=np.float32).reshape(8, 4),
        f"{block}gate_up.weight": np.arange(24, dtype=np.float32).reshape(6, 4),
    } | {
        f"{block}{name}.weight": np.ones(4, np.float32)
        for name in ("attention_norm", "query_norm", "key_norm", "output", "feed_forward_norm")
    }
    weights[f"{block}down.weight"] = np.ones((4, 3), np.float32)
    named = export.named_tensors(weights, config)
    assert named["blk.0.attn_q.weight"].shape == (4, 4)
    assert named["blk.0.attn_k.weight"][0, 0] == 16
    assert named["blk.0.attn_v.weight"][0, 0] == 24
    assert named["blk.0.ffn_up.weight"][0, 0] == 12
    assert gguf_file.ALIGNMENT % 32 == 0
    assert quantize.BLOCKS["q8_0"] == (32, 34)
