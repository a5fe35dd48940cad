"""The commands of ``python3 build model``.

What needs PyTorch (training) runs inside its own environment, made on first use; the exporter needs
numpy, the evaluation Tilewright itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
from itertools import islice
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
WORK = ROOT / ".build" / "bundled_model"
ENVIRONMENT = ROOT / ".build" / "train-venv"
PYTORCH = "torch==2.13.0"
SHIPPED_FORMAT = "q8_0"
FORMATS = ("f32", "q8_0", "q4_k", "q4_0")
REQUESTS = 80
TOKENIZER = FOLDER / "tokenizer.json"
COMPACT = FOLDER / "checkpoint.safetensors"
RESULTS = FOLDER / "results"
SHIPPED = ROOT / "web" / "public" / "models" / "tilewright-tiny.gguf"


def setup() -> Path:
    """The Python of the training environment, made if absent."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PYTORCH, "numpy"], check=True)
    return python


def _with_pytorch(*arguments: str) -> int:
    """Run one of these commands in the training environment; its status."""
    # Measured on two shared cores: threads that spin while they wait cost 3/4 of the speed, memory
    # that is given back and taken again a fifth.
    variables = {
        "OMP_WAIT_POLICY": "passive",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    } | dict(os.environ)
    return subprocess.run([setup(), FOLDER, *arguments], env=variables, check=False).returncode


def _has_pytorch() -> bool:
    """Whether this Python has it: that of the environment, or one that brings it along."""
    return importlib.util.find_spec("torch") is not None


def make_tokenizer() -> None:
    """Train the tokenizer on the first conversations of the corpus and write tokenizer.json."""
    from .chat_format import render
    from .corpus import stream
    from .tokenizer import SPECIALS, Tokenizer, train
    from .words import held_out_words

    def texts() -> list[str]:
        found = []
        for _, chat in islice(stream(1, progress=0.2), 20_000):
            text = render(*chat)
            for special in SPECIALS:
                text = text.replace(special, "\n")
            found.append(text)
        return found

    Tokenizer(train(texts(), never_spaced=held_out_words())).save(TOKENIZER)


def main(arguments: list[str]) -> int:
    """Parse and run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 build model")
    names = ("setup", "train", "compact", "export", "evaluate", "all")
    parser.add_argument("command", nargs="?", default="all", choices=names)
    parser.add_argument(
        "--check", action="store_true", help="evaluate the shipped file and print the numbers"
    )
    parser.add_argument(
        "--minutes", type=float, default=180.0, help="training time, earlier runs counted"
    )
    parser.add_argument(
        "--pause", type=float, help="stop after so many minutes, to be gone on with"
    )
    parser.add_argument(
        "--requests", type=int, default=REQUESTS, help="held-out requests to evaluate"
    )
    options = parser.parse_args(arguments)
    command = "evaluate" if options.check else options.command
    if command in ("setup", "all"):
        setup()
    if command in ("train", "all", "compact"):
        status = _train(command, options.minutes, options.pause)
        if status:
            return status
    if command in ("export", "all"):
        export()
    if command in ("evaluate", "all"):
        from .evaluate import evaluate

        formats = write_formats()
        if formats[SHIPPED_FORMAT].read_bytes() != SHIPPED.read_bytes():
            print(f"{SHIPPED.name} is not made from {COMPACT.name}: export it.", file=sys.stderr)
            return 1
        found = evaluate(SHIPPED, options.requests, list(formats.values()), WORK)
        print(json.dumps(found, indent=1, ensure_ascii=False))
    return 0


def _train(command: str, minutes: float, pause: float | None) -> int:
    """Train, or make the newest checkpoint compact; in the environment that has PyTorch."""
    if not _has_pytorch():
        name = "train" if command == "all" else command
        pausing = ["--pause", str(pause)] if pause else []
        return _with_pytorch(name, "--minutes", str(minutes), *pausing)
    from .tokenizer import Tokenizer
    from .train import compact, train

    if not TOKENIZER.exists():
        make_tokenizer()
    tokenizer = Tokenizer.load(TOKENIZER)
    if command == "train":
        start = COMPACT if COMPACT.exists() else None
        train(WORK, TOKENIZER, minutes, start=start, pause=pause)
    compact(WORK, COMPACT, tokenizer)
    return 0


def write_formats() -> dict[str, Path]:
    """All formats of the compact checkpoint, under .build/bundled_model/, by their names."""
    from . import checkpoint
    from .config import Config
    from .export import write
    from .tokenizer import Tokenizer

    WORK.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.load(TOKENIZER)
    weights, _ = checkpoint.load(COMPACT)
    template = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    config = Config(vocabulary=len(tokenizer.tokens))
    paths = {kind: WORK / f"tiny-{kind}.gguf" for kind in FORMATS}
    for kind, path in paths.items():
        write(path, weights, config, tokenizer, template, kind)
    return paths


def export() -> None:
    """Ship Q8_0 of the compact checkpoint, and keep the training log beside the scripts."""
    SHIPPED.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(write_formats()[SHIPPED_FORMAT], SHIPPED)
    log = WORK / "log.jsonl"
    if log.exists():
        RESULTS.mkdir(exist_ok=True)
        shutil.copyfile(log, RESULTS / "training_log.jsonl")
