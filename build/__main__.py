"""``python3 build COMMAND``: everything a clone needs, by any Python from 3.11 on.

| command | what it does |
|---|---|
| ``setup`` | makes ``.venv``, installs Python, npm and (as root on Debian) apt packages |
| ``serve`` | builds the site and serves it, with a folder of models (``--models DIR``) |
| ``test`` | ruff, mypy, tsc, then pytest: unit, numerics, browser |
| ``check`` | the tables of differences from the reference models, natively and in the browser |
| ``bench`` | runs ``tests/bench/*.py``, which print JSON lines |
| ``site`` | builds ``dist/``, the folder for any static server |
| ``npm`` | builds the npm package from it (``.build/npm``) |
| ``model …`` | makes the bundled model (``build/bundled_model``); ``--check`` evaluates it |
| ``models …`` | builds other models from what the user downloads (``build/models``) |
| ``tilewright …`` | the command line of the engine |

Each command first brings the environment up to date, which takes no time when nothing changed.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("Tilewright needs Python 3.11 or newer: run this command with it.")

import environment
import tasks


def main(arguments: list[str]) -> int:
    """Run one command; return the exit status."""
    name, *rest = arguments or ["help"]
    if name not in tasks.COMMANDS:
        print(__doc__)
        return 0 if name in ("help", "-h", "--help") else 2
    tested = name in ("setup", "test", "check", "bench")
    environment.set_up(browser=tested, gpu=tested or name == "tilewright")
    return tasks.COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
