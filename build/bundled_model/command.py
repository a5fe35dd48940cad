"""The commands of ``python3 build/bundled_model``.

What needs PyTorch runs inside its own environment, made on first use.
"""

from __future__ import annotations

import argparse
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
TOKENIZER = FOLDER / "tokenizer.json"
COMPACT = FOLDER / "checkpoint.pt"
RESULTS = FOLDER / "results"
SHIPPED = ROOT / "web" / "public" / "models" / "tilewright-tiny.gguf"


def setup() -> Path:
    """The Python of the training environment, made if absent."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PYTORCH, "numpy"], check=True)
    return python


def _inside(arguments: list[str]) -> int | None:
    """Run this command in the training environment; None if we are in it already."""
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return None
    # Measured on two shared cores: threads that spin while they wait cost 3/4 of the speed.
    variables = {"OMP_WAIT_POLICY": "passive"} | dict(os.environ)
    return subprocess.run([setup(), FOLDER, *arguments], env=variables, check=False).returncode


def make_tokenizer() -> None:
    """Train the tokenizer on the first conversations of the corpus and write tokenizer.json."""
    from .chat_format import render
    from .corpus import stream
    from .tokenizer import SPECIALS, Tokenizer, train

    def texts() -> list[str]:
        found = []
        for _, chat in islice(stream(1, progress=0.2), 20_000):
            text = render(*chat)
            for special in SPECIALS:
                text = text.replace(special, "\n")
            found.append(text)
        return found

    Tokenizer(train(texts())).save(TOKENIZER)


def main(arguments: list[str]) -> int:
    """Parse and run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 build/bundled_model")
    parser.add_argument(
        "command", nargs="?", default="all", choices=("setup", "train", "export", "evaluate", "all")
    )
    parser.add_argument(
        "--minutes", type=float, default=180.0, help="training time, earlier runs counted"
    )
    parser.add_argument("--format", default="q8_0", choices=("f32", "q8_0", "q4_0", "q4_k"))
    parser.add_argument("--requests", type=int, default=400, help="held-out requests to evaluate")
    options = parser.parse_args(arguments)
    status = _inside(arguments)
    if status is not None:
        return status
    from .tokenizer import Tokenizer

    if options.command in ("train", "all"):
        if not TOKENIZER.exists():
            make_tokenizer()
        from .train import train

        train(
            WORK,
            Tokenizer.load(TOKENIZER),
            options.minutes,
            start=COMPACT if COMPACT.exists() else None,
        )
    if options.command in ("export", "all"):
        export()
    if options.command in ("evaluate", "all"):
        from .evaluate import evaluate

        print(
            json.dumps(
                evaluate(WORK / f"tiny-{options.format}.gguf", options.requests),
                indent=1,
                ensure_ascii=False,
            )
        )
    return 0


def export() -> None:
    """Write all formats from the newest checkpoint and ship Q8_0.

    Also keeps the compact checkpoint and the log beside the scripts.
    """
    import torch

    from .export import write
    from .model import Config, Model
    from .tokenizer import Tokenizer
    from .train import save_compact

    tokenizer = Tokenizer.load(TOKENIZER)
    saved = torch.load(WORK / "last.pt", map_location="cpu", weights_only=True)
    model = Model(Config(vocabulary=len(tokenizer.tokens)))
    model.load_state_dict(saved["model"])
    template = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    for kind in ("f32", "q8_0", "q4_0", "q4_k"):
        write(
            WORK / f"tiny-{kind}.gguf", model.state_dict(), model.config, tokenizer, template, kind
        )
    SHIPPED.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(WORK / f"tiny-{SHIPPED_FORMAT}.gguf", SHIPPED)
    save_compact(COMPACT, model, saved["state"])
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(WORK / "log.jsonl", RESULTS / "training_log.jsonl")
