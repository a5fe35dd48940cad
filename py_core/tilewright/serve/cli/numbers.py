"""``tilewright logits``, ``embed`` and ``perplexity``: the model's numbers."""

from __future__ import annotations

import argparse
import json
import math
import struct
from array import array
from pathlib import Path
from typing import Any

from ...errors import InvalidRequestError
from . import options


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    logits = commands.add_parser("logits", help="logits at every position, as float32[T, V]")
    options.add_model(logits)
    options.add_backend(logits)
    logits.add_argument(
        "--ids", required=True, metavar="FILE", help="token ids: JSON, or separated"
    )
    logits.add_argument("--out", required=True, metavar="FILE.npy")
    logits.set_defaults(run=_logits)
    embed = commands.add_parser("embed", help="the embedding of each line of a text, as JSON")
    options.add_model(embed)
    options.add_backend(embed)
    embed.add_argument("--text", required=True, metavar="FILE", help="one text a line; - for stdin")
    embed.add_argument("--no-normalize", action="store_true", help="leave the length as it is")
    embed.set_defaults(run=_embed)
    perplexity = commands.add_parser("perplexity", help="how well a model predicts a text")
    options.add_model(perplexity)
    options.add_backend(perplexity)
    perplexity.add_argument("file", metavar="FILE")
    perplexity.add_argument("--window", type=int, default=512, help="tokens per independent window")
    perplexity.add_argument(
        "--special", action="store_true", help="names of control tokens in the text stand for them"
    )
    perplexity.set_defaults(run=_perplexity)


def write_npy(path: str, data: bytes | memoryview, shape: tuple[int, ...]) -> None:
    """Write little-endian float32 data in NumPy's format 1.0 (numpy.lib.format)."""
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape})
    padding = -(len(header) + 11) % 64
    text = (header + " " * padding + "\n").encode("latin-1")
    try:
        with Path(path).open("wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
            file.write(data)
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be written: {error.strerror}.") from error


def read_ids(path: str) -> list[int]:
    """Read token ids: a JSON list, or integers separated by spaces, commas or lines."""
    text = options.read_text(path)
    try:
        parsed = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [int(word) for word in text.replace(",", " ").split()]
        )
    except ValueError as error:
        raise InvalidRequestError(f"{path} holds no token ids: {error}.") from error
    if not isinstance(parsed, list) or not parsed or not all(type(i) is int for i in parsed):
        raise InvalidRequestError(f"{path} must hold a list of integers.")
    return parsed


async def _logits(arguments: argparse.Namespace) -> None:
    from . import print_json

    ids = read_ids(arguments.ids)
    model = await options.load(arguments)
    try:
        data = b"".join([piece async for piece in model.engine.logits(ids)])
    finally:
        await model.close()
    vocabulary = len(data) // (4 * len(ids))
    write_npy(arguments.out, data, (len(ids), vocabulary))
    print_json({"tokens": len(ids), "vocabulary": vocabulary, "out": arguments.out})


async def _embed(arguments: argparse.Namespace) -> None:
    from . import print_json

    texts = [line for line in options.read_text(arguments.text).splitlines() if line.strip()]
    if not texts:
        raise InvalidRequestError(f"{arguments.text} holds no text.")
    model = await options.load(arguments)
    try:
        for index, text in enumerate(texts):
            ids = model.tokenizer.encode(text, add_special=True)
            vector = (await model.engine.embed([ids]))[0]
            if not arguments.no_normalize:
                length = math.sqrt(math.fsum(x * x for x in vector)) or 1.0
                vector = [x / length for x in vector]
            print_json({"index": index, "tokens": len(ids), "embedding": list(vector)})
    finally:
        await model.close()


async def _perplexity(arguments: argparse.Namespace) -> None:
    """Mean negative log-likelihood over windows; each window starts anew, as llama.cpp's does."""
    from . import print_json

    model = await options.load(arguments, max_sequences=1)
    try:
        ids = model.tokenizer.encode(
            options.read_text(arguments.file), add_special=True, parse_special=arguments.special
        )
        window = min(arguments.window, model.runner.context_length)
        if len(ids) < 2 or window < 2:
            raise InvalidRequestError("The text has fewer than two tokens.")
        total, count = 0.0, 0
        for start in range(0, len(ids) - 1, window):
            piece = ids[start : start + window]
            if len(piece) < 2:
                break
            data = array("f", b"".join([part async for part in model.engine.logits(piece)]))
            vocabulary = len(data) // len(piece)
            for position, target in enumerate(piece[1:]):
                row = data[position * vocabulary : (position + 1) * vocabulary]
                peak = max(row)
                norm = math.log(math.fsum(math.exp(x - peak) for x in row))
                total += peak + norm - row[target]
                count += 1
    finally:
        await model.close()
    loss = total / count
    print_json({"tokens": count, "loss": loss, "perplexity": math.exp(min(loss, 700.0))})
