"""The commands of ``python3 build``, each a short list of other commands to run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import environment
from environment import PYTHON, ROOT, run

RUN_CLI = "import sys; from tilewright.serve.cli import main; sys.exit(main(sys.argv[1:]))"
SITE_INPUTS = (
    "build",
    "py_core",
    "shaders",
    "web/src",
    "web/public",
    "web/package-lock.json",
    "examples",
)


def setup(arguments: list[str]) -> int:
    """Say that the environment is ready (the caller has set it up)."""
    del arguments
    print("Ready: try `python3 build serve`.")
    return 0


def site(arguments: list[str]) -> int:
    """Build ``dist/`` unless it is up to date; ``--force``: anyway, ``--quick``: lightly."""
    quick = [word for word in arguments if word == "--quick"]
    key = " ".join([environment.hash_of([ROOT / name for name in SITE_INPUTS]), *quick])
    complete = (ROOT / "dist" / "manifest.json").is_file()
    if "--force" in arguments or not complete or not environment.is_done("site", key):
        run([PYTHON, "build/runtime_folder.py", *quick])
        environment.mark_done("site", key)
    return 0


def serve(arguments: list[str]) -> int:
    """Build the site and serve it."""
    site([])
    return call([PYTHON, "build/serve_site.py", *arguments])


def test(arguments: list[str]) -> int:
    """Run the checkers and all tests; arguments go to pytest.

    Without arguments the browser's tests, which mostly wait, run beside the others; what they print
    comes last.
    """
    site([])
    pytest: list[str | Path] = [PYTHON, "-m", "pytest", "-q", "--durations=10"]
    checks: list[tuple[str, list[str | Path]]] = [
        ("ruff", [PYTHON, "-m", "ruff", "check", "."]),
        ("ruff format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
        ("mypy", [PYTHON, "-m", "mypy"]),
        ("generated", [PYTHON, "build/generate.py", "--check"]),
        ("tsc", [ROOT / "web/node_modules/.bin/tsc", "-p", "web"]),
        ("pytest", [*pytest, *(arguments or ["tests/unit", "tests/numerics"])]),
    ]
    failed = []
    in_browser = None if arguments else Beside("pytest tests/browser", [*pytest, "tests/browser"])
    for name, command in checks:
        begun = time.monotonic()
        print(f"── {name}", flush=True)
        if call(command) != 0:
            failed.append(name)
        print(f"── {name}: {time.monotonic() - begun:.0f} s", flush=True)
    if in_browser and in_browser.finish() != 0:
        failed.append(in_browser.name)
    if failed:
        print(f"Failed: {', '.join(failed)}.")
    return 1 if failed else 0


class Beside:
    """A command that runs beside others; what it prints is kept until it is asked for."""

    def __init__(self, name: str, command: list[str | Path]) -> None:
        self.name = name
        self._begun = time.monotonic()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env=environment.variables(),
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def finish(self) -> int:
        """Wait for the end, print the output, return the status."""
        status = self._process.wait()
        self._output.seek(0)
        print(f"── {self.name}", flush=True)
        print(self._output.read().decode(errors="replace"), end="", flush=True)
        print(f"── {self.name}: {time.monotonic() - self._begun:.0f} s", flush=True)
        return status


def npm(arguments: list[str]) -> int:
    """Build the site and the npm package of it, in ``.build/``."""
    site(arguments)
    return call([PYTHON, "build/npm_package.py"])


def check(arguments: list[str]) -> int:
    """Print how far every reference model is from its reference, natively and in the browser."""
    site([])
    status = call([PYTHON, "tests/numerics/check_models.py", *arguments])
    return call([PYTHON, "tests/browser/check_models_in_browser.py", *arguments]) or status


def bench(arguments: list[str]) -> int:
    """Run the benchmarks, or those whose file names are given; they print JSON lines.

    ``--tuning``: that of the tuner alone, with its options; ``--store``: that of loading, where
    ``throughput``, ``first-token``, ``memory`` and ``streaming`` name parts.
    ``--backend wasm --against wllama`` compares the CPU path with wllama, model by model.
    """
    if "--help" not in arguments:
        site([])
    if "--tuning" in arguments:
        rest = [word for word in arguments if word != "--tuning"]
        return call([PYTHON, "tests/bench/bench_tuning.py", *rest])
    if "--store" in arguments:
        rest = [word for word in arguments if word != "--store"]
        return call([PYTHON, "tests/bench/bench_store.py", *rest])
    if arguments[:2] == ["--backend", "wasm"]:
        folder = ROOT / "tests" / "bench"
        made = call([PYTHON, folder / "random_models.py", ROOT / ".build" / "bench"])
        return made or call([PYTHON, folder / "bench_wasm_rivals.py", *arguments[2:]])
    scripts = {path.stem: path for path in sorted((ROOT / "tests" / "bench").glob("bench_*.py"))}
    if not set(arguments) <= set(scripts):
        print(f"{bench.__doc__}\n    Benchmarks: {', '.join(scripts)}.")
        return 0 if "--help" in arguments else 2
    return max(call([PYTHON, scripts[name]]) for name in arguments or scripts)


def tilewright(arguments: list[str]) -> int:
    """Run the engine's command line."""
    return call([PYTHON, "-c", RUN_CLI, *arguments])


def models(arguments: list[str]) -> int:
    """Run the builder of one of the models that are a download of the user's own."""
    makers = {path.stem: path for path in sorted((ROOT / "build" / "models").glob("*.py"))}
    if not arguments or arguments[0] not in makers:
        print(f"Say which one: {', '.join(makers)}.")
        return 2
    return call([PYTHON, makers[arguments[0]], *arguments[1:]])


def model(arguments: list[str]) -> int:
    """Make the model that ships with the project, or with ``--check`` evaluate it."""
    return call([PYTHON, ROOT / "build" / "bundled_model", *arguments])


def call(command: list[str | Path]) -> int:
    """Run a command in the project's environment; return its status."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, cwd=ROOT, env=environment.variables(), check=False).returncode
    except KeyboardInterrupt:
        return 130


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "setup": setup,
    "serve": serve,
    "test": test,
    "check": check,
    "bench": bench,
    "site": site,
    "npm": npm,
    "model": model,
    "models": models,
    "tilewright": tilewright,
}

if __name__ == "__main__":
    sys.exit("Run `python3 build COMMAND`.")
