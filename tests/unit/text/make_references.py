"""Write ``references.json``: what llama.cpp and Hugging Face's tokenizers answer for variants.

Usage, from the root, in an environment with llama-cpp-python 0.3.36, gguf 0.19 and tokenizers
0.23.3: ``PYTHONPATH=py_core:. python tests/unit/text/make_references.py TOKENIZER_FOLDER OUT``.
Equal answers of several
pre-tokenizers to one text are stored once.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import tokenizers
from llama_cpp import llama_cpp
from tests.unit.text.text_variants import (
    FLAGS,
    JSON_VARIANTS,
    Metadata,
    read_metadata,
    texts,
    tokenizer_json,
    with_flags,
    with_pre_tokenizer,
)

from tilewright.text.split_patterns import PRE_TOKENIZERS

TEXTS = texts(48)


def write_vocabulary(path: Path, metadata: Metadata) -> None:
    """Write a GGUF file that has only metadata."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        if key == "general.architecture" or key.startswith("GGUF."):
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_ids(metadata: Metadata, add_special: bool, parse_special: bool) -> list[list[int]]:
    """Return llama.cpp's ids of all texts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_vocabulary(path, metadata)
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    answers = []
    for text in TEXTS:
        data = text.encode()
        room = 2 * len(data) + 16
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            vocabulary, data, len(data), buffer, room, add_special, parse_special
        )
        answers.append(list(buffer[:count]))
    llama_cpp.llama_model_free(model)
    return answers


def huggingface_ids(spec: Metadata) -> list[list[int]]:
    """Return the ids of all texts without the post-processor's."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


def main(folder: Path, target: Path) -> None:
    """Ask about every variant and write the answers."""
    bases = {
        name: asyncio.run(read_metadata(folder / f"ggml-vocab-{name}.gguf"))
        for name in ("gpt-2", "llama-spm", "bert-bge")
    }
    grouped: list[dict[str, list[str]]] = [{} for _ in TEXTS]
    for name in PRE_TOKENIZERS:
        answers = llama_ids(with_pre_tokenizer(bases["gpt-2"], name), False, True)
        for group, ids in zip(grouped, answers, strict=True):
            group.setdefault(" ".join(map(str, ids)), []).append(name)
    references: dict[str, Any] = {
        "texts": TEXTS,
        "pre_tokenizers": grouped,
        "flags": {
            name: llama_ids(with_flags(bases[vocabulary], model, flags), True, True)
            for name, (vocabulary, model, flags) in FLAGS.items()
        },
        "tokenizer_json": {
            name: huggingface_ids(tokenizer_json(bases[vocabulary], parts))
            for name, (vocabulary, parts) in JSON_VARIANTS.items()
        },
    }
    target.write_text(json.dumps(references, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    main(Path(sys.argv[1]), Path(sys.argv[2]))
