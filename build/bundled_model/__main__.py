"""``python3 build model [command]``: makes and checks the model that ships with the project.

| command | what it does |
|---|---|
| ``--check``, ``evaluate`` | evaluates the shipped file: one JSON object (``--requests N``) |
| ``setup`` | a virtual environment with PyTorch in .build/train-venv |
| ``train`` | tokenizer (if absent) and training, resumed where a checkpoint lies (``--minutes``) |
| ``compact`` | the compact checkpoint from the newest full one, also while training runs |
| ``export`` | the shipped GGUF from the compact checkpoint |
| ``all`` | setup, train, export, evaluate (the default) |
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from bundled_model.command import main

    sys.exit(main(sys.argv[1:]))
