"""The Python side of the runtime folder: trimmed standard library, compiled wheels, lock file.

Wheels hold .pyc of Pyodide's Python, so that nothing is compiled at the visitor's; archives are
stored, not deflated, because HTTP compresses them better. Knows nothing of JavaScript bundles.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tomllib
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from pyodide_lock import PyodideLockSpec

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".build" / "python"
KEPT = ROOT / ".build" / "compiled"
PYODIDE = ROOT / "web" / "node_modules" / "pyodide"


@dataclass
class Package:
    """What goes into one wheel; ``files`` maps paths in the wheel to files here."""

    name: str
    version: str
    imports: list[str]
    depends: list[str]
    files: dict[str, Path]
    is_ours: bool
    licences: dict[str, Path] = field(default_factory=dict)


def installed(name: str, depends: list[str], skip: tuple[str, ...] = ()) -> Package:
    """Describe an installed distribution; only its pure Python files are taken.

    For wgpu this is the content of the wheel that ``WGPU_PY_BUILD_NOARCH=1`` builds, less what a
    browser cannot use (the native backend, its headers, the window helpers).
    """
    distribution = metadata.distribution(name)
    files: dict[str, Path] = {}
    licences: dict[str, Path] = {}
    for entry in distribution.files or ():
        path, parts = str(entry), entry.parts
        if ".dist-info" in parts[0] and "LICENSE" in entry.name.upper():
            licences[entry.name] = Path(str(entry.locate()))
        elif entry.suffix == ".py" and not path.startswith(skip) and ".." not in parts:
            files[path] = Path(str(entry.locate()))
    return Package(name, distribution.version, [name], depends, files, False, licences)


LATER = (
    *("serve/openai/", "text/grammar/", "serve/local.py"),
    *("formats/requantized.py", "wasm/encoder.py", "wasm/kernels/encode.py"),
)
"""What the OpenAI API and quantizing while loading need: fetched when a page first uses one of
them, not at the start."""


def openai_api(version: str) -> Package:
    """Describe the part of the core that is fetched later."""
    package = ROOT / "py_core" / "tilewright"
    files = {
        f"tilewright/{path.relative_to(package).as_posix()}": path
        for folder in LATER
        for path in sorted((package / folder).rglob("*.py")) or [package / folder]
        if not path.relative_to(package).as_posix().startswith(NATIVE_ONLY)
    }
    licences = {"LICENSE": ROOT / "LICENSE"}
    return Package("tilewright_openai", version, [], ["tilewright"], files, True, licences)


NATIVE_ONLY = (
    "serve/http.py",
    "serve/cli/",
    "serve/hub/",
    "formats/gguf_writer.py",
    "serve/openai/app.py",
    "serve/openai/routes.py",
    "serve/hosting.py",
    "serve/blocking.py",
    "serve/testing.py",
    "testing.py",
    "serve/widget.py",
    "wasm/native.py",
)


def tilewright(version: str) -> Package:
    """Describe the core: Python files of py_core and the shaders beside them."""
    package = ROOT / "py_core" / "tilewright"
    files: dict[str, Path] = {}
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if (
            path.is_file()
            and "__pycache__" not in name
            and not name.startswith((*NATIVE_ONLY, *LATER))
        ):
            files[f"tilewright/{name}"] = path
    shaders = ROOT / "shaders"
    for path in sorted(shaders.rglob("*.wgsl")):
        files[f"tilewright/shaders/{path.relative_to(shaders).as_posix()}"] = path
    depends = ["jinja2", "wgpu"]
    licences = {"LICENSE": ROOT / "LICENSE"}
    return Package("tilewright", version, ["tilewright"], depends, files, True, licences)


def version() -> str:
    """Return the project's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def packages() -> list[Package]:
    """Return what is installed into the browser's Python at the start, in order of dependence."""
    native = ("wgpu/backends/wgpu_native", "wgpu/__pyinstaller", "wgpu/utils/imgui")
    return [
        installed("markupsafe", []),
        installed("jinja2", ["markupsafe"]),
        installed("wgpu", [], (*native, "wgpu/utils/glfw")),
        tilewright(version()),
    ]


def archive(entries: dict[str, bytes]) -> bytes:
    """Return a stored zip with fixed dates, so that equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(entries):
            target.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), entries[name])
    return buffer.getvalue()


@dataclass
class Compiled:
    """Where the compiled files are: of the packages by path in the wheel, of the library."""

    packages: dict[str, Path]
    library: Path
    names: list[str]


def compile_all(wanted: list[Package]) -> Compiled:
    """Compile inside Pyodide what was not compiled before; results are kept by content."""
    KEPT.mkdir(parents=True, exist_ok=True)
    compiler = [ROOT / "build" / "inside_pyodide.py", PYODIDE / "package.json"]
    rules = b"".join(path.read_bytes() for path in compiler)
    jobs: list[tuple[str, str, str, bool]] = []
    mounts = {str(KEPT)}
    packages: dict[str, Path] = {}
    for package in wanted:
        for name, path in package.files.items():
            if path.suffix != ".py":
                continue
            key = digest(rules, name.encode(), bytes([package.is_ours]), path.read_bytes())
            packages[name] = target = KEPT / f"{key}.pyc"
            if not target.is_file() or not target.with_suffix(".json").is_file():
                jobs.append((f"/host{path}", name, f"/host{target}", package.is_ours))
                mounts.add(str(path.parents[name.count("/")]))
    if jobs:
        _inside_pyodide({"mounts": sorted(mounts), "packages": jobs}, _quick_library())
    found = (json.loads(path.with_suffix(".json").read_text()) for path in packages.values())
    imports = sorted(set().union(*found))
    library = KEPT / f"library-{digest(rules, json.dumps(imports).encode())}"
    told = library.with_suffix(".json")
    if not told.is_file():
        job = {"mounts": [str(KEPT)], "imports": imports, "library": f"/host{library}"}
        told.write_text(json.dumps(_inside_pyodide(job, "")["library"]))
    return Compiled(packages, library, json.loads(told.read_text()))


def digest(*parts: bytes) -> str:
    """Return the SHA-256 of parts in hexadecimal digits."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _quick_library() -> str:
    """Return the last library that was built: Pyodide starts from it in a third of the time."""
    built = sorted((ROOT / "dist" / "runtime").glob("stdlib-*.zip"))
    return str(built[0]) if built else ""


def _inside_pyodide(job: dict[str, object], library: str) -> dict[str, list[str]]:
    """Let ``inside_pyodide.py`` do a job; return its report."""
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "job.json").write_text(json.dumps(job))
    script = ROOT / "build" / "compile_python.mjs"
    files = [str(WORK / "job.json"), str(WORK / "report.json")]
    done = subprocess.run(["node", str(script), *files, library], check=not library)
    if done.returncode != 0:
        return _inside_pyodide(job, "")
    report: dict[str, list[str]] = json.loads((WORK / "report.json").read_text())
    return report


def library_zip(compiled: Compiled) -> bytes:
    """Return the trimmed standard library."""
    return archive({n + "c": (compiled.library / (n + "c")).read_bytes() for n in compiled.names})


def wheel(package: Package, compiled: Compiled) -> bytes:
    """Return the compiled wheel of one package."""
    entries: dict[str, bytes] = {}
    for name, path in package.files.items():
        if path.suffix == ".py":
            entries[name + "c"] = compiled.packages[name].read_bytes()
        else:
            entries[name] = path.read_bytes()
    info = f"{package.name}-{package.version}.dist-info"
    entries[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.4\nName: {package.name}\nVersion: {package.version}\n"
    ).encode()
    entries[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tilewright\nRoot-Is-Purelib: true\nTag: cp314-none-any\n"
    )
    for name, path in package.licences.items():
        entries[f"{info}/licenses/{name}"] = path.read_bytes()
    entries[f"{info}/RECORD"] = "".join(f"{n},,\n" for n in (*entries, f"{info}/RECORD")).encode()
    return archive(entries)


def wheel_name(package: Package, content: bytes) -> str:
    """Return a file name with the content's hash as the wheel's build tag (begins with a digit)."""
    digest = hashlib.sha256(content).hexdigest()[:10]
    return f"{package.name}-{package.version}-0{digest}-cp314-none-any.whl"


def lock_file(built: list[tuple[Package, str, bytes]]) -> bytes:
    """Return the lock file of these wheels; it is checked by pyodide-lock before it is used."""
    shipped = json.loads((PYODIDE / "pyodide-lock.json").read_text())
    entries = {
        package.name: {
            "name": package.name,
            "version": package.version,
            "file_name": name,
            "install_dir": "site",
            "sha256": hashlib.sha256(content).hexdigest(),
            "package_type": "package",
            "imports": package.imports,
            "depends": package.depends,
            "unvendored_tests": False,
        }
        for package, name, content in built
    }
    version = json.loads((PYODIDE / "package.json").read_text())["version"]
    lock = {"info": {"version": version, **shipped["info"]}, "packages": entries}
    PyodideLockSpec(**lock)
    return (json.dumps(lock, indent=1) + "\n").encode()
