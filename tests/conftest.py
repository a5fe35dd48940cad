"""Fixtures shared by all tests: where the reference data lies."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT.parent / "shared" / "oracle"


@pytest.fixture(scope="session")
def oracle() -> Path:
    """Folder of the reference models, tokenizers and templates (skips where absent)."""
    if not ORACLE.is_dir():
        pytest.skip("the reference data ../shared/oracle is not on this machine")
    return ORACLE
