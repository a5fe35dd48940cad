"""``python3 build/bundled_model [command]``: makes the model that ships with the project.

setup      a virtual environment with PyTorch in .build/train-venv train      tokenizer (if
absent) and training, resumed where a checkpoint lies (--minutes, default 180) export     the GGUF
files: the shipped one, and F32, Q8_0, Q4_0, Q4_K under .build/bundled_model/ evaluate   prints
one JSON object (--format picks the weights: f32, q8_0, q4_0, q4_k) all        all of these in
turn (the default)
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from bundled_model.command import main

    sys.exit(main(sys.argv[1:]))
