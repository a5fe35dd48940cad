"""Builds ``dist/``: what any static server serves. Runs in the project's environment.

Names of immutable files carry a hash of their content; pages and entry modules keep their names.
Beside each file lie its brotli and gzip forms, and ``manifest.json`` lists all sizes. Fails when
the start needs more bytes than ``budget.json`` allows.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import brotli
import python_packages

try:
    import fcntl
except ImportError:  # Windows: two builds at once are the user's affair
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / ".build" / "site"  # becomes dist/ when it is complete
PUBLISHED = ROOT / "dist"
LOCK = ROOT / ".build" / "site.lock"
WEB = ROOT / "web"
EXAMPLES = ROOT / "examples"
CACHE = ROOT / ".build" / "compressed"
QUICK = "--quick" in sys.argv
PYODIDE_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm")
COMPRESSED = {
    ".js",
    ".mjs",
    ".wasm",
    ".json",
    ".html",
    ".css",
    ".svg",
    ".bin",
    ".zip",
    ".whl",
    ".txt",
}

EXAMPLE_FILES = {".html", ".js", ".css", ".txt"}
SITES_OF_THEIR_OWN = {"test-your-site", "pyscript"}
"""Examples that have the engine elsewhere than the site has."""


def digest(*parts: bytes) -> str:
    """Return ten hexadecimal digits of the content's SHA-256."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:10]


def write(path: str, content: bytes) -> str:
    """Write a file of the site; return its path."""
    target = DIST / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return path


def write_pyodide() -> str:
    """Copy Pyodide into a folder named by its content; return the folder."""
    source = python_packages.PYODIDE
    contents = [(source / name).read_bytes() for name in PYODIDE_FILES]
    folder = f"runtime/pyodide-{digest(*contents)}"
    for name, content in zip(PYODIDE_FILES, contents, strict=True):
        # The map is not shipped; without the comment, developer tools do not ask for it.
        is_script = name.endswith("mjs")
        text = re.sub(rb"\n//# sourceMappingURL=.*\n?$", b"\n", content) if is_script else content
        write(f"{folder}/{name}", text)
    return folder


def write_python() -> dict[str, Any]:
    """Compile and write the Python side; return where the worker finds it."""
    wanted = python_packages.packages()
    later = python_packages.openai_api(python_packages.version())
    compiled = python_packages.compile_all([*wanted, later])
    library = python_packages.library_zip(compiled)
    built: list[tuple[python_packages.Package, str, bytes]] = []
    for package in wanted:
        content = python_packages.wheel(package, compiled)
        built.append((package, python_packages.wheel_name(package, content), content))
        write(f"runtime/{built[-1][1]}", content)
    content = python_packages.wheel(later, compiled)
    return {
        "openai": "../" + write(f"runtime/{python_packages.wheel_name(later, content)}", content),
        "pyodide": f"../{write_pyodide()}/",
        "library": "../" + write(f"runtime/stdlib-{digest(library)}.zip", library),
        "lock": "../" + write("runtime/pyodide-lock.json", python_packages.lock_file(built)),
        "wheels": [f"../runtime/{name}" for _, name, _ in built],
        "snapshot": "",
    }


def without_zeros(snapshot: bytes) -> bytes:
    """Leave out the pages that are all zero, a third of a memory.

    u32[2 + 2 n]: bytes up to the last other page, n, then offset and length of each run of other
    pages; then the runs. ``web/src/snapshot.ts`` reads it.
    """
    page = 4096
    runs: list[list[int]] = []
    for at in range(0, len(snapshot), page):
        part = snapshot[at : at + page]
        if part.count(0) == len(part):
            continue
        if runs and sum(runs[-1]) == at:
            runs[-1][1] += len(part)
        else:
            runs.append([at, len(part)])
    numbers = [sum(runs[-1]), len(runs), *(number for run in runs for number in run)]
    head = struct.pack(f"<{len(numbers)}I", *numbers)
    return head + b"".join(snapshot[at : at + length] for at, length in runs)


def write_snapshot(runtime: dict[str, Any]) -> str:
    """Make and write the memory snapshot; return its path.

    Pyodide's mechanism is private: the site works without, but a build fails when something of
    ours no longer fits into it. Nothing is returned where the host
    has too little memory. Kept by content; ``--quick`` makes no new one.
    """
    unpack = ROOT / ".build" / "unpack.mjs"
    esbuild = WEB / "node_modules" / ".bin" / "esbuild"
    options = ["--bundle", "--format=esm", "--define:RUNTIME={}", "--log-level=error"]
    entry = WEB / "src" / "runtime.ts"
    subprocess.run([str(esbuild), str(entry), *options, f"--outfile={unpack}"], check=True)
    files = [str((DIST / "assets" / path).resolve()) for path in runtime["wheels"]]
    library = str((DIST / "assets" / runtime["library"]).resolve())
    script = str(ROOT / "build" / "make_snapshot.mjs")
    pyodide = str(python_packages.PYODIDE)
    scripts = (unpack.read_bytes(), Path(script).read_bytes())
    # The names of files have their contents' hashes.
    words = [runtime["pyodide"], Path(library).name, *runtime["wheels"]]
    target = ROOT / ".build" / f"snapshot-{digest(*scripts, *(w.encode() for w in words))}.bin"
    if target.is_file():
        content = without_zeros(target.read_bytes())
        return "../" + write(f"runtime/snapshot-{digest(content)}.bin", content)
    if QUICK:
        return ""  # starts are slower without, and this build is not
    for old in target.parent.glob("snapshot*.bin"):
        old.unlink()
    command = ["node", script, pyodide, library, str(target), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:  # killed: too little memory here; the site works without
        print(f"WARNING: no memory snapshot: Node was ended by signal {-done.returncode}.")
        print("Every start of this site will take three times as long.")
        return ""
    if done.returncode != 0 or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if "Error" in line and len(line) < 300]
        why = lines[-1].strip() if lines else done.stderr[-2000:]
        raise SystemExit(f"The memory snapshot was not made ({script} under Node): {why}")
    content = without_zeros(target.read_bytes())
    return "../" + write(f"runtime/snapshot-{digest(content)}.bin", content)


def bundle(
    entries: list[Path], folder: str, defines: dict[str, Any], hashed: bool = True
) -> dict[str, str]:
    """Bundle entry points with esbuild; return the outputs by the entry's plain name."""
    if not entries:
        return {}
    meta = ROOT / ".build" / "bundle.json"
    command = [
        str(WEB / "node_modules" / ".bin" / "esbuild"),
        *(str(entry.relative_to(WEB)) for entry in entries),
        "--bundle",
        "--format=esm",
        "--target=es2022",
        "--minify",
        "--legal-comments=none",
        "--log-level=warning",
        f"--entry-names=[name]{'-[hash]' if hashed else ''}",
        f"--outdir={DIST / folder}",
        f"--metafile={meta}",
        *(f"--define:{name}={json.dumps(value)}" for name, value in defines.items()),
    ]
    subprocess.run(command, cwd=WEB, check=True)
    outputs = json.loads(meta.read_text())["outputs"]
    named: dict[str, str] = {}
    for output, facts in outputs.items():
        if "entryPoint" in facts:
            plain = Path(facts["entryPoint"]).with_suffix(Path(output).suffix).name
            named[plain] = Path(output).name
    return named


def write_scripts(runtime: dict[str, Any]) -> None:
    """Bundle workers, pages and entry modules; copy the public files with their assets named."""
    source = WEB / "src"
    stores = bundle([source / "store" / "store_worker.ts"], "assets", {})
    store = {"STORE_WORKER": f"./{stores['store_worker.js']}"}
    threads = bundle([source / "wasm_worker.ts"], "assets", {})
    defines = {"RUNTIME": runtime, "WASM_WORKER": f"./{threads['wasm_worker.js']}", **store}
    workers = bundle([source / "worker.ts", source / "python_worker.ts"], "assets", defines)
    here = {
        **store,
        "WORKER": f"./{workers['worker.js']}",
        "PYTHON_WORKER": f"./{workers['python_worker.js']}",
    }
    pages = sorted([*(source / "pages").glob("*.ts"), *(source / "pages").glob("*.css")])
    assets = bundle(pages, "assets", here)
    above = {name: value.replace("./", "./assets/") for name, value in here.items()}
    entries = [source / f"{name}.ts" for name in ("tilewright", "gpu_bridge", "elements", "webllm")]
    bundle(entries, ".", above, hashed=False)
    inside = json.loads(json.dumps(runtime).replace("../", "./"))
    threads_above = {"WASM_WORKER": f"./assets/{threads['wasm_worker.js']}"}
    within = {"RUNTIME": inside, "STORE_WORKER": above["STORE_WORKER"], **threads_above}
    bundle([source / "in_pyodide.ts"], ".", within, hashed=False)
    # The npm client as one module, for the example that uses it.
    client = WEB / "node_modules" / "openai" / "index.mjs"
    renamed = bundle([client], "examples/openai-client", {}, hashed=False)
    (DIST / "examples" / "openai-client" / renamed["index.js"]).rename(
        DIST / "examples" / "openai-client" / "openai.js"
    )
    services = ("isolation_worker", "openai_service_worker")
    bundle([source / f"{name}.ts" for name in services], ".", {}, hashed=False)
    for path in sorted((WEB / "public").rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".html":
            content = name_assets(path, content.decode(), assets).encode()
        write(path.relative_to(WEB / "public").as_posix(), content)


def write_examples() -> None:
    """Copy the example pages as they are: they import the entry module by its relative address."""
    for path in sorted(EXAMPLES.rglob("*")):
        if path.suffix in EXAMPLE_FILES and not SITES_OF_THEIR_OWN & set(path.parts):
            write(f"examples/{path.relative_to(EXAMPLES).as_posix()}", path.read_bytes())


def name_assets(page: Path, text: str, assets: dict[str, str]) -> str:
    """Replace ``@asset/name`` in a page by the hashed file, and fail on one that is not there."""

    def name(match: re.Match[str]) -> str:
        if match[1] not in assets:
            raise SystemExit(f"{page.name} names the asset {match[1]}; there are {sorted(assets)}")
        return f"./assets/{assets[match[1]]}"

    return re.sub(r"@asset/([\w.-]+)", name, text)


def compress(content: bytes) -> tuple[bytes, bytes]:
    """Return the brotli and gzip forms of a file; results are kept by content.

    With ``--quick`` (for work on the site) new ones are light, and the budget is not checked.
    """
    key = hashlib.sha256(content).hexdigest()
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"{key}.br", CACHE / f"{key}.gz"
    if QUICK and not kept[0].exists():
        return brotli.compress(content, quality=1), gzip.compress(content, 1, mtime=0)
    if not kept[0].exists() or not kept[1].exists():
        kept[1].write_bytes(gzip.compress(content, 9, mtime=0))
        # Quality 11 takes a minute for the 30 MB snapshot, for a twentieth fewer bytes.
        kept[0].write_bytes(brotli.compress(content, quality=11 if len(content) < 2**24 else 9))
    return kept[0].read_bytes(), kept[1].read_bytes()


def write_manifest(runtime: dict[str, Any]) -> dict[str, Any]:
    """Compress every file, write ``manifest.json`` and return it."""
    begin = ("runtime/pyodide-", "runtime/stdlib-", "assets/worker-", "assets/store_worker-")
    wheels = {path.removeprefix("../") for path in runtime["wheels"]}
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(DIST.rglob("*")):
        name = path.relative_to(DIST).as_posix()
        if not path.is_file() or path.suffix not in COMPRESSED:
            continue
        content = path.read_bytes()
        small, older = compress(content)
        for suffix, data in ((".br", small), (".gz", older)):
            if len(data) < len(content):
                path.with_name(path.name + suffix).write_bytes(data)
        starts = name.startswith(begin) or name in wheels or name == "runtime/pyodide-lock.json"
        files[name] = {
            "bytes": len(content),
            "brotli": len(small),
            "gzip": len(older),
            "start": starts,
        }
    total = {
        form: sum(entry[form] for entry in files.values() if entry["start"])
        for form in ("bytes", "brotli", "gzip")
    }
    manifest = {"start": total, "files": files}
    write("manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def check_budget(manifest: dict[str, Any]) -> None:
    """Fail when the start or a client's module is heavier than allowed."""
    budget = json.loads((ROOT / "build" / "budget.json").read_text())
    allowed = budget["start_brotli_bytes"]
    used = manifest["start"]["brotli"]
    files = sorted(manifest["files"].items(), key=lambda item: -item[1]["brotli"])
    for name, sizes in files:
        if sizes["start"]:
            print(f"{sizes['brotli']:>10,}  {sizes['bytes']:>10,}  {name}")
    print(f"{used:>10,}  bytes for the start, brotli; {allowed:,} are allowed")
    if used > allowed and not QUICK:
        raise SystemExit("The start is over the budget of build/budget.json.")
    for name in ("tilewright.js", "webllm.js", "openai_service_worker.js"):
        size = manifest["files"][name]["brotli"]
        print(f"{size:>10,}  {name}")
        if size > budget["client_brotli_bytes"]:
            raise SystemExit(f"{name} is over the budget of build/budget.json.")


def main() -> None:
    """Build the whole folder; one build at a time."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        build()


def build() -> None:
    """Build in a folder of its own, then put that in the place of ``dist/``."""
    shutil.rmtree(DIST, ignore_errors=True)
    runtime = write_python()
    runtime["snapshot"] = write_snapshot(runtime)
    write_scripts(runtime)
    write_examples()
    check_budget(write_manifest(runtime))
    shutil.rmtree(PUBLISHED, ignore_errors=True)
    DIST.rename(PUBLISHED)
    print(f"{PUBLISHED.name}/ is complete: copy it to any static server.")


if __name__ == "__main__":
    main()
