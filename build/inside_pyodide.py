"""Runs inside Pyodide under Node: compiles Python files and finds the standard library in use.

Only there is the compiler of the Python that will load the result. Reads and writes folders of
the host that ``compile_python.mjs`` mounted. Called with a job, returns a report (both JSON):
``packages`` is a list of [source file, module path, output file, whether it is our own code];
beside each output goes a JSON list of what the file imports. ``imports``, all those lists
together, asks for the part of the standard library that they lead to, in the folder ``library``.
"""

import ast
import contextlib
import importlib
import importlib.util
import json
import sys
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc
from pathlib import Path
from types import CodeType

ZIP = f"/lib/python{sys.version_info[0]}{sys.version_info[1]}.zip"

# Imported by the standard library or by Pyodide only when a certain function runs, so importing
# modules does not show them. The right column is what needs them.
LAZY = [
    "_pyodide._future_helper",  # runPython
    "_strptime",  # datetime.strptime, used by jinja2's strftime helpers of chat templates
    "asyncio",  # Pyodide's event loop
    "concurrent.futures.thread",  # asyncio.to_thread in formats.source natively
    "encodings.ascii",
    "encodings.cp437",  # names in zip files
    "encodings.idna",
    "encodings.latin_1",
    "encodings.unicode_escape",  # string literals of chat templates, jinja2.lexer
    "encodings.utf_16_le",
    "encodings.utf_32",
    "encodings.utf_8",
    "encodings.utf_8_sig",
    "csv",  # importlib.metadata
    "email.policy",
    "importlib.metadata",  # loadPackage
    "importlib.metadata._adapters",
    "importlib.readers",
    "importlib.resources._adapters",
    "importlib.resources.readers",
    "linecache",
    "pyodide._package_loader",  # loadPackage, unpackArchive
    "pyodide.code",
    "pyodide.http",
    "pyodide.webloop",
    "shutil",
    "tarfile",  # shutil.unpack_archive, imported by loadPackage
    "tracemalloc",  # warnings
    "traceback",
    "zipfile",
]


def imported_names(source: str) -> set[str]:
    """Return the absolute modules that a file imports anywhere, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def used_standard_library(imports: list[str]) -> list[str]:
    """Return the paths within the library's zip of all modules that these imports lead to."""
    for name in sorted({*LAZY, *imports}):
        if name.partition(".")[0] in sys.stdlib_module_names | {"pyodide", "_pyodide"}:
            # It may be a name inside a module, or a module of another platform.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    prefix = ZIP + "/"
    origins = (
        getattr(m.__spec__, "origin", None) or ""
        for m in list(sys.modules.values())
        if getattr(m, "__spec__", None)
    )
    return sorted({o.removeprefix(prefix) for o in origins if o.startswith(prefix)})


def without_lines(code: CodeType) -> CodeType:
    """Let all instructions of a code object say its first line: line tables compress badly.

    One entry of the location table covers at most 8 code units; kind 13 has a line delta only
    (CPython, InternalDocs/code_objects.md). Tracebacks then name functions, but not lines.
    """
    units = len(code.co_code) // 2
    table = b"".join(
        bytes((0x80 | 13 << 3 | min(8, units - at) - 1, 0)) for at in range(0, units, 8)
    )
    constants = tuple(
        without_lines(item) if isinstance(item, CodeType) else item for item in code.co_consts
    )
    return code.replace(co_linetable=table, co_consts=constants)


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop docstrings. A class keeps a blank: ``dataclass`` writes one where there is none, slowly.

    (It imports ``inspect`` and formats the signature, 5 ms for each class in a browser.)
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if ast.get_docstring(node, clean=False) is None:
            continue
        if isinstance(node, ast.ClassDef):
            node.body[0].value.value = " "
        elif len(node.body) == 1 and not isinstance(node, ast.Module):
            node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
        else:
            del node.body[0]
    return tree


def compile_to(source: bytes, name: str, target: Path, is_ours: bool) -> None:
    """Write the unchecked-hash .pyc of a source; asserts and line numbers stay in our own code."""
    tree = without_docstrings(ast.parse(source, name))
    code = compile(tree, name, "exec", dont_inherit=True, optimize=0 if is_ours else 1)
    if not is_ours:
        code = without_lines(code)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), checked=False))


def main(job: str) -> str:
    """Do one job; see the module's docstring."""
    task = json.loads(job)
    for source, name, target, is_ours in task.get("packages", ()):
        content = Path(source).read_bytes()
        compile_to(content, name, Path(target), is_ours)
        names = sorted(imported_names(content.decode()))
        Path(target).with_suffix(".json").write_text(json.dumps(names))
    if "imports" not in task:
        return json.dumps({"library": []})
    library = used_standard_library(task["imports"])
    with zipfile.ZipFile(ZIP) as archive:
        for name in library:
            target = Path(task["library"]) / (name + "c")
            compile_to(archive.read(name), f"{ZIP}/{name}", target, is_ours=False)
    return json.dumps({"library": library})
