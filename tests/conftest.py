"""Fixtures shared by all tests: where the reference data lies, what was compared with it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tilewright import settings

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT.parent / "shared" / "oracle"

# Where nobody says otherwise, tests mean the GPU path, also on a software adapter.
os.environ.setdefault("TILEWRIGHT_BACKEND", "webgpu")

_compared: dict[str, set[str]] = defaultdict(set)


@pytest.fixture(scope="session", autouse=True)
def _backend() -> Iterator[None]:
    """The same for this process: a plugin may have read the settings before this file."""
    with settings.scope(backend=os.environ["TILEWRIGHT_BACKEND"]):
        yield


@pytest.fixture(scope="session")
def oracle() -> Path:
    """Folder of the reference models, tokenizers and templates (skips where absent)."""
    if not ORACLE.is_dir():
        pytest.skip("the reference data ../shared/oracle is not on this machine")
    return ORACLE


@pytest.fixture(scope="session")
def compared() -> Callable[[str, str], None]:
    """``compared(kind, name)`` notes that something was held against a reference."""
    return lambda kind, name: _compared[kind].add(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was compared with references."""
    for kind in sorted(_compared):
        terminalreporter.write_line(f"compared with references: {len(_compared[kind])} {kind}")
