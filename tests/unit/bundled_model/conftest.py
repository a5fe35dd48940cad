"""Puts build/ on the path: the package bundled_model is a build tool, not part of the wheel."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "build"))
