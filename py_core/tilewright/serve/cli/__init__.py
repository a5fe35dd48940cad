"""The command ``tilewright``: one module per group of subcommands, one place for errors.

Every TilewrightError becomes one sentence with its code on standard error and exit status 2.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from ... import __version__
from ...errors import TilewrightError
from . import files, generate, hub, measure, numbers, serving, texts, tuning


def parser() -> argparse.ArgumentParser:
    """Return the complete command line."""
    top = argparse.ArgumentParser(
        prog="tilewright", description="Runs language models through WebGPU, natively."
    )
    top.add_argument("--version", action="version", version=f"tilewright {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (generate, numbers, texts, measure, tuning, serving, hub, files):
        module.add_commands(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit status."""
    arguments = parser().parse_args(argv)
    try:
        asyncio.run(arguments.run(arguments))
    except TilewrightError as error:
        print(f"tilewright: {error.message} [{error.code}]", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output went away (``| head``): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0


def print_json(value: object) -> None:
    """Print one JSON value on a line of its own."""
    print(json.dumps(value, ensure_ascii=False), flush=True)
