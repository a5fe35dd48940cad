"""The runtime folder as a visitor's browser meets it: any host, strict policy, no other host."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from conftest import ISOLATED, Watched

IMPORT_ALL = """
import importlib, pkgutil, sys
import tilewright
found = {}
for module in pkgutil.walk_packages(tilewright.__path__, "tilewright."):
    try:
        importlib.import_module(module.name)
    except Exception as error:
        found[module.name] = repr(error)
found
"""


async def run_python(watched: Watched, address: str, code: str) -> object:
    await watched.page.goto(address)
    script = "code => { const worker = new PythonWorker(); return worker.run(code); }"
    return await asyncio.wait_for(watched.page.evaluate(script, code), 90)


async def test_every_module_of_the_core_imports(watched: Watched, server: str) -> None:
    assert await run_python(watched, f"{server}/test.html", IMPORT_ALL) == {}


async def test_a_strict_policy_and_no_other_host(watched: Watched, server: str) -> None:
    result = await run_python(
        watched,
        f"{server}/test.html",
        "import js, jinja2, markupsafe, importlib.metadata as m\n"
        "[js.crossOriginIsolated, jinja2.Template('{{ 1 + 1 }}').render(), m.version('wgpu')]",
    )
    assert result == [ISOLATED, "2", "0.32.0"]
    assert {urlsplit(url).netloc for url in watched.requests} == {urlsplit(server).netloc}
    assert watched.complaints == []


async def test_a_sub_path_of_a_plain_static_server(
    watched: Watched, site: Path, tmp_path: Path, plain_host: Callable[[Path], str]
) -> None:
    (tmp_path / "some").mkdir()
    shutil.copytree(site, tmp_path / "some" / "path")
    address = plain_host(tmp_path) + "/some/path/test.html"
    code = "import js, tilewright\n[js.crossOriginIsolated, tilewright.__version__]"
    isolated, version = await run_python(watched, address, code)  # type: ignore[misc]
    assert isolated is False
    assert version
    assert watched.complaints == []


async def test_other_pyodide_programs_can_use_the_lock_file(watched: Watched, server: str) -> None:
    """The wheels are loadable by name, as PyScript and JupyterLite do it."""
    result = await run_python(
        watched,
        f"{server}/test.html",
        "import pyodide_js\nawait pyodide_js.loadPackage('tilewright')\n"
        "sorted(pyodide_js.loadedPackages.to_py())",
    )
    assert result == ["jinja2", "markupsafe", "tilewright", "wgpu"]


async def test_the_isolation_worker_isolates(
    watched: Watched, site: Path, plain_host: Callable[[Path], str]
) -> None:
    page = watched.page
    await page.goto(plain_host(site) + "/test.html")
    assert await page.evaluate("() => crossOriginIsolated") is False
    await page.evaluate(
        """async () => {
          await navigator.serviceWorker.register("./isolation_worker.js");
          await navigator.serviceWorker.ready;
          while (!navigator.serviceWorker.controller) await new Promise((r) => setTimeout(r, 20));
        }"""
    )
    await page.reload()
    assert await page.evaluate("() => crossOriginIsolated") is True


def test_the_manifest_lists_what_is_there(site: Path) -> None:
    manifest = json.loads((site / "manifest.json").read_text())
    for name, sizes in manifest["files"].items():
        assert (site / name).stat().st_size == sizes["bytes"]
    budget = json.loads((site.parent / "build" / "budget.json").read_text())
    assert manifest["start"]["brotli"] <= budget["start_brotli_bytes"]
