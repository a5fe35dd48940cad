"""Bundles a script of the tests with the npm packages it imports, for a page or for Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"


def bundled(script: Path, package: str, platform: str = "browser") -> str:
    """Return the script as one ES module (skips where the package is not installed)."""
    if not (WEB / "node_modules" / package).is_dir():
        pytest.skip(f"web/node_modules has no {package}: run python3 build setup")
    command = [
        str(WEB / "node_modules" / ".bin" / "esbuild"),
        str(script),
        "--bundle",
        "--format=esm",
        f"--platform={platform}",
        "--log-level=error",
    ]
    environment = {"NODE_PATH": str(WEB / "node_modules"), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout
