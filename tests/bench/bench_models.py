"""Prefill, decode, memory of the S shape (SmolLM2-135M, random weights) in three formats.

Prints one JSON line per model, those of ``tilewright bench``. ``--shape M`` measures Qwen2.5-0.5B's
shape; ``--model FILE`` a model of yours. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]

CLI = "import sys; from tilewright.serve.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> int:
    """Measure each model in a process of its own, so that peak memory is its own."""
    from tests.bench.random_models import make_all

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shape", choices=("S", "M"), default="S")
    arguments.add_argument("--model", action="append", type=Path, default=[])
    arguments.add_argument("--decode", default="32")
    given = arguments.parse_args()
    models = given.model or make_all(ROOT / ".build" / "bench", (given.shape,))
    status = 0
    for model in models:
        command = [sys.executable, "-c", CLI, "bench", str(model), "--json", "--context", "1024"]
        done = subprocess.run([*command, "--decode", given.decode], check=False)
        status = max(status, done.returncode)
    return status


if __name__ == "__main__":
    sys.exit(main())
