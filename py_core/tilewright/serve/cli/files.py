"""``tilewright quantize`` and ``tilewright verify``: model files, without running them."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from ...errors import FormatError, InvalidRequestError, SourceError
from ...formats import gguf_writer
from ...formats.model_file import ModelFile
from ...formats.open import open_model
from ...formats.requantized import TARGETS, requantize
from ...formats.source import FileSource
from ...models.registry import build_graph, read_constants
from ...wasm.encoder import Encoder
from ...webgpu.memory import Progress
from . import options

_FILE_TYPES = {"Q8_0": 7, "Q4_0": 2, "Q4_K": 15}
"""``general.file_type`` as ggml numbers it (``enum llama_ftype``)."""
_PIECE = 8 << 20


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    quantize = commands.add_parser(
        "quantize", help="write a model with smaller weights, as one .gguf file"
    )
    quantize.add_argument("model", metavar="IN", help="a .gguf or .safetensors model, or a folder")
    quantize.add_argument("out", metavar="OUT.gguf")
    quantize.add_argument("--type", required=True, choices=TARGETS)
    quantize.add_argument("--force", action="store_true", help="write over OUT")
    quantize.add_argument("--quiet", action="store_true", help="no progress bar")
    quantize.set_defaults(run=_quantize)
    verify = commands.add_parser("verify", help="check that a model's files are whole and sound")
    verify.add_argument("model", metavar="MODEL", help="a file, a folder, or hf:org/repo/file")
    verify.add_argument("--sha256", help="of MODEL, where it is one file")
    verify.set_defaults(run=_verify)


async def _quantize(arguments: argparse.Namespace) -> None:
    from . import print_json

    out = Path(arguments.out)
    if out.exists() and not arguments.force:
        raise InvalidRequestError(f"{out} is there already: choose another name, or give --force.")
    original = await open_model(await options.local_path(arguments.model))
    file = requantize(original, arguments.type, Encoder().encode)
    part = out.with_name(out.name + ".part")
    begun = time.perf_counter()
    try:
        await _write(file, part, arguments)
        part.replace(out)
    except OSError as error:
        raise SourceError(f"{out} cannot be written ({error.strerror}).") from error
    finally:
        file.close()
        part.unlink(missing_ok=True)
    seconds = time.perf_counter() - begun
    stored = sum(tensor.nbytes for tensor in original.items())
    print_json(
        {
            "file": str(out),
            "type": arguments.type,
            "bytes_in": stored,
            "bytes_out": out.stat().st_size,
            "seconds": round(seconds, 3),
            "mb_per_second": round(stored / 1e6 / seconds, 1),
        }
    )


async def _write(file: ModelFile, path: Path, arguments: argparse.Namespace) -> None:
    bar = options.ProgressBar(enabled=sys.stderr.isatty() and not arguments.quiet)
    total = sum(tensor.nbytes for tensor in file.items())
    done, begun = 0, time.perf_counter()
    changes = {
        "general.file_type": _FILE_TYPES[arguments.type],
        "general.quantization_version": 2,
    }
    with path.open("wb") as stream:
        stream.write(gguf_writer.header(file, changes))
        for tensor in file.items():
            async for piece in gguf_writer.pieces(file, tensor):
                stream.write(piece)
                done += len(piece)
                seconds = time.perf_counter() - begun
                bar.show(Progress("quantizing", min(done, total), total, seconds))
        stream.flush()
        os.fsync(stream.fileno())
    bar.close()


async def _verify(arguments: argparse.Namespace) -> None:
    """Check structure, and content where a checksum is known."""
    from . import print_json

    path = await options.local_path(arguments.model)
    file = await open_model(path)
    try:
        checked: list[dict[str, Any]] = []
        for source in file.sources:
            if isinstance(source, FileSource):
                known = arguments.sha256 if len(checked) == 0 else None
                checked.append(await _check_file(source, known))
        last = max(file.items(), key=lambda tensor: tensor.offset + tensor.nbytes)
        await file.sources[last.source].read(last.offset, min(last.nbytes, 1))
        build_graph(file, context_length=1, constants=await read_constants(file))
    finally:
        file.close()
    print_json(
        {
            "model": str(arguments.model),
            "architecture": file.architecture,
            "tensors": len(file.tensors),
            "files": checked,
            "ok": True,
        }
    )


async def _check_file(source: FileSource, expected: str | None) -> dict[str, Any]:
    """Hash one file; the Hub's cache names a blob by its sha256."""
    digest = hashlib.sha256()
    for at in range(0, source.size, _PIECE):
        digest.update(await source.read(at, min(_PIECE, source.size - at)))
    found = digest.hexdigest()
    blob = source.path.resolve().name
    if expected is None and len(blob) == 64 and not set(blob) - set("0123456789abcdef"):
        expected = blob
    if expected is not None and found != expected.lower():
        raise FormatError(
            f"{source.name} is damaged: its sha256 is {found}, not {expected}. Fetch it again.",
            file=source.name,
            sha256=found,
            expected=expected,
        )
    state = "matches" if expected is not None else "not known"
    return {"file": source.name, "bytes": source.size, "sha256": found, "checksum": state}
