"""The shape of the house: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "py_core" / "tilewright"
MOST_LINES = 500

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "settings": set(),
    "formats": {"errors"},
    "text": {"errors"},
    "graph": {"errors", "formats"},
    "models": {"errors", "formats", "graph"},
    "webgpu": {"errors", "settings", "formats", "graph", "models"},
    "wasm": {"errors", "settings", "formats", "graph", "models"},
    "tuning": {"errors", "settings", "formats", "graph", "models", "webgpu", "wasm"},
    "engine": {"errors", "settings", "formats", "graph", "models", "webgpu", "wasm", "tuning"},
    "serve": {
        *("errors", "settings", "formats", "text", "graph", "models", "webgpu", "wasm"),
        *("tuning", "engine"),
    },
    "testing": {"serve"},
}
"""Lower layers never import upper ones; ``engine`` knows no text, ``webgpu`` and ``wasm`` not each
other, ``formats`` no GPU."""

BROWSER_ONLY = {"js", "pyodide", "pyodide_js"}
NATIVE_ONLY = {"numpy", "cffi", "threading", "multiprocessing", "subprocess"}
NOT_SHARED = {("serve", "hosting.py"), ("serve", "blocking.py"), ("wasm", "native.py")}
"""Modules that are never in a browser and need a thread."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a module imports, relative imports resolved."""
    place = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = place if path.name == "__init__.py" else place[:-1]
    if path.name == "__init__.py":
        package = place[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "tilewright" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_lower_layers_never_import_upper_ones(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imports(path):
        found = layer(name)
        if found is None or found == own or found.startswith("__"):
            continue
        assert found in ALLOWED[own], f"{own} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_shared_code_runs_in_both_worlds(path: Path) -> None:
    inside = path.relative_to(PACKAGE).parts
    top = {name.split(".")[0] for name in imports(path)}
    assert inside in NOT_SHARED or not top & NATIVE_ONLY, (
        "numpy, threads and processes are not for shared code"
    )
    bridges = {("webgpu", "bridge"), ("wasm", "browser.py")}
    if inside[:2] not in bridges and inside[0] != "serve":
        assert not top & BROWSER_ONLY, "only the bridge and the worker know the browser"


def test_only_the_api_module_names_wgpu() -> None:
    for path in modules():
        if path.relative_to(PACKAGE).parts[:2] in {("webgpu", "api.py"), ("webgpu", "bridge")}:
            continue
        assert "wgpu" not in {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize(
    "path",
    [
        p
        for folder, pattern in (
            ("py_core", "*.py"),
            ("shaders", "*.wgsl"),
            ("web/src", "*.ts"),
            ("build", "*.py"),
            ("tests", "*.py"),
        )
        for p in sorted((ROOT / folder).rglob(pattern))
        if "node_modules" not in p.parts
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MOST_LINES, f"{path.name} has {lines} lines: split it"


def test_the_top_level_holds_only_what_belongs_there() -> None:
    allowed = {
        *("pyproject.toml", "README.md", "py_core", "shaders", "web", "build", "tests"),
        *("examples", "LICENSE", "CHANGELOG.md", "dist"),
    }
    extra = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - allowed
    assert not extra - {"test-artifacts"}, extra
