"""Makes the npm package from ``dist/``: ``python3 build npm`` writes ``.build/npm`` and packs it.

The package holds the client's modules, their types, and the runtime folder beside them, so that it
can be imported from any CDN that serves npm packages, or copied to a site.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import python_packages

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TARGET = ROOT / ".build" / "npm"
MODULES = {".": "tilewright", "./webllm": "webllm", "./elements": "elements"}
"""Imports of the package and the modules that answer them."""
SCRIPTS = ("openai_service_worker.js", "isolation_worker.js")


def package_json() -> dict[str, Any]:
    """Return the package's description."""
    source = json.loads((ROOT / "web" / "package.json").read_text())
    exports: dict[str, Any] = {
        name: {"types": f"./types/{module}.d.ts", "default": f"./{module}.js"}
        for name, module in MODULES.items()
    }
    exports |= {f"./{name}": f"./{name}" for name in SCRIPTS}
    exports |= {"./runtime/*": "./runtime/*", "./assets/*": "./assets/*"}
    exports["./package.json"] = "./package.json"
    return {
        "name": source["name"],
        "version": python_packages.version(),
        "description": "Runs language models inside a web page, with the OpenAI API.",
        "license": source["license"],
        "type": "module",
        "sideEffects": ["./elements.js", *(f"./{name}" for name in SCRIPTS)],
        "exports": exports,
    }


def write_types(folder: Path) -> None:
    """Write the declarations of the client's modules and of what they import."""
    tsc = ROOT / "web" / "node_modules" / ".bin" / "tsc"
    options = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly"]
    command = [str(tsc), "-p", "web", *options, "--rootDir", "web/src", "--outDir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    needed: set[Path] = set()
    pending = [folder / f"{module}.d.ts" for module in MODULES.values()]
    while pending:
        path = pending.pop()
        if path in needed:
            continue
        needed.add(path)
        for name in re.findall(r'"(\.[^"]+)\.ts"', path.read_text()):
            pending.append((path.parent / f"{name}.d.ts").resolve())
    for path in sorted(folder.rglob("*.d.ts")):
        if path in needed:
            path.write_text(re.sub(r'("\.[^"]+)\.ts"', r'\1.js"', path.read_text()))
        else:
            path.unlink()


def write_package() -> Path:
    """Write the package's folder; return it."""
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    for name in (*(f"{module}.js" for module in MODULES.values()), *SCRIPTS):
        shutil.copy(DIST / name, TARGET / name)
    for folder in ("assets", "runtime"):
        for path in sorted((DIST / folder).rglob("*")):
            used = folder == "runtime" or path.name.startswith(("worker-", "python_worker-"))
            # The snapshot is as large as all else together; a page does without.
            if path.is_file() and used and path.suffix not in (".br", ".gz"):
                target = TARGET / path.relative_to(DIST)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    write_types(TARGET / "types")
    shutil.copy(ROOT / "LICENSE", TARGET / "LICENSE")
    for name in ("README.md", "src/elements/README.md"):  # the first links to the other
        (TARGET / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "web" / name, TARGET / name)
    (TARGET / "package.json").write_text(json.dumps(package_json(), indent=2) + "\n")
    return TARGET


def main() -> int:
    """Write and pack the package."""
    folder = write_package()
    command = ["npm", "pack", "--loglevel=error", "--pack-destination", str(folder.parent)]
    return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
