"""References to repositories of a hub, room for models, and the clock, against a scripted hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_host import ModelHost
from playwright.async_api import BrowserContext, Page
from store_page import (
    CONTENT,
    DIGEST,
    NAME,
    PREPARE,
    SIZE,
    context,
    fetch,
    host,
    kept,
    open_tab,
    page,
    visit,
)

__all__ = ["context", "host", "open_tab", "page", "visit"]

RESOLVE = """async ([reference, looking]) => {
  try {
    const pace = { retries: 1, pauseMs: 10 };
    const found = await store.resolve(reference, { pace, ...looking });
    const { label, bytes } = found;
    const names = found.choices.map((choice) => choice.name);
    return { path: found.main.path, sha256: found.main.sha256, label, bytes, names };
  } catch (error) {
    return { code: error.code, message: error.message, ...error.details };
  }
}"""
OPEN = """async ([reference, place]) => {
  const model = await openModel({ url: reference, pace: { retries: 1, pauseMs: 10 }, ...place });
  const parts = [];
  for (const name of ["", "config.json", "missing.json", "model-00002-of-00002.safetensors"]) {
    const source = name ? await model.main.find(name) : model.main;
    parts.push(source && [source.name, source.size]);
  }
  const stored = await model.settle();
  model.close();
  return { parts, stored };
}"""


async def resolve(page: Page, reference: str, **looking: Any) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(RESOLVE, [reference, looking])
    return found


@pytest.fixture
def repository(host: ModelHost) -> ModelHost:
    """A repository with several quantizations, one of them in two files, and no models."""
    (host.folder / NAME).unlink()
    for name, size in {
        "tiny-Q2_K.gguf": 3000,
        "tiny-Q4_K_M.gguf": 5000,
        "tiny-Q8_0.gguf": 9000,
        "tiny-UD-Q4_K_XL.gguf": 5500,
        "F16/tiny-F16-00001-of-00002.gguf": 8000,
        "F16/tiny-F16-00002-of-00002.gguf": 8001,
        "tiny-BF16-00001-of-00002.gguf": 7,  # its second part was never uploaded
        "mmproj-tiny-F16.gguf": 100,
        "README.md": 10,
    }.items():
        path = host.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT[:size])
    host.page = 3
    return host


async def test_a_repository_is_listed_page_by_page(page: Page, repository: ModelHost) -> None:
    hub = repository.hub
    usual = await resolve(page, "hf:org/repo", hub=hub)
    assert usual["path"] == "tiny-Q4_K_M.gguf"
    assert usual["names"] == ["F16", "Q8_0", "UD-Q4_K_XL", "Q4_K_M", "Q2_K"]
    assert repository.lists_asked == 3
    named = await resolve(page, "hf:org/repo:q8_0@main", hub=hub)
    assert (named["path"], named["label"]) == ("tiny-Q8_0.gguf", "Q8_0")
    parts = await resolve(page, "hf:org/repo:F16", hub=hub)
    assert (parts["path"], parts["bytes"]) == ("tiny-F16-00001-of-00002.gguf", 16001)
    plain = await resolve(page, "hf:org/repo:Q4_K_XL", hub=hub)
    assert plain["path"] == "tiny-UD-Q4_K_XL.gguf"
    # What fits the device is preferred, and the smallest where nothing does.
    assert (await resolve(page, "hf:org/repo", hub=hub, budget=4000))["label"] == "Q2_K"
    assert (await resolve(page, "hf:org/repo", hub=hub, budget=10))["label"] == "Q2_K"
    missing = await resolve(page, "hf:org/repo:Q6_K", hub=hub)
    assert missing["reason"] == "missing"
    assert "it has F16, Q8_0, UD-Q4_K_XL, Q4_K_M, Q2_K" in missing["message"]
    for wrong in ("hf:org", "hf:org/repo/../x.gguf", "hf:org/repo@a/x.gguf@b"):
        assert (await resolve(page, wrong, hub=hub))["code"] == "invalid_request"


async def test_a_sharded_safetensors_model(page: Page, host: ModelHost) -> None:
    (host.folder / NAME).unlink()
    for name in ("config.json", "model.safetensors.index.json", "tokenizer.json"):
        (host.folder / name).write_text("{}")
    for number in (1, 2):
        path = host.folder / f"model-0000{number}-of-00002.safetensors"
        path.write_bytes(CONTENT[: 70000 + number])
    opened = await page.evaluate(OPEN, ["hf:org/repo", {"hub": host.hub}])
    assert opened == {
        "parts": [
            ["model.safetensors.index.json", 2],
            ["config.json", 2],
            None,
            ["model-00002-of-00002.safetensors", 70002],
        ],
        "stored": True,
    }
    assert not [path for path, _ in host.asked if "missing" in path]
    # The same folder as files that were picked.
    chosen = await page.evaluate(
        """async () => {
          const names = ["config.json", "model.safetensors.index.json", "tokenizer.json"];
          const model = await openModel({ files: names.map((name) => new File(["{}"], name)) });
          return [model.main.name, (await model.main.find("config.json")).size];
        }"""
    )
    assert chosen == ["model.safetensors.index.json", 2]


async def test_a_token_goes_to_the_hub_alone(page: Page, host: ModelHost) -> None:
    host.token = "hf_secret"
    reference = f"hf:org/repo/{NAME}"
    closed = await page.evaluate(
        "([url, hub]) => openModel({ url, hub }).catch((error) => [error.message, error.details])",
        [reference, host.hub],
    )
    assert closed[1] == {"status": 401, "reason": "gated"}
    assert "gated" in closed[0]
    headers = {"Authorization": "Bearer hf_secret"}
    opened = await page.evaluate(OPEN, [reference, {"hub": host.hub, "headers": headers}])
    assert (opened["parts"][0], opened["stored"]) == ([NAME, SIZE], True)
    assert host.tokens == []
    left = await page.evaluate(
        "async () => JSON.stringify([await store.list(), await (await caches.open("
        "'tilewright-references')).keys()]) + JSON.stringify(localStorage)"
    )
    assert "hf_secret" not in left


async def test_the_digest_of_the_list_is_checked(page: Page, host: ModelHost) -> None:
    found = await resolve(page, f"hf:org/repo/{NAME}", hub=host.hub)
    assert found["sha256"] == DIGEST
    host.damage = {SIZE - 1}
    told = await page.evaluate(
        """async ([url, hub]) => {
          const model = await openModel({ url, hub });
          const told = await model.settle().catch((error) => error.details);
          model.close();
          return told;
        }""",
        [f"hf:org/repo/{NAME}", host.hub],
    )
    assert (told["reason"], told["expected"]) == ("corrupt", DIGEST)


async def test_a_mirror_without_lists(page: Page, host: ModelHost) -> None:
    host.lists = False
    opened = await page.evaluate(OPEN, [f"hf:org/repo/{NAME}", {"hub": host.hub}])
    assert opened["parts"] == [[NAME, SIZE], None, None, None]


async def test_a_revision_that_disappeared(page: Page, host: ModelHost) -> None:
    """What is here stays usable; what is not is refused with the reason."""
    host.revisions = {"main", "v1"}
    place = {"hub": host.hub}
    assert (await page.evaluate(OPEN, ["hf:org/repo:Q4_0@v1", place]))["stored"] is True
    host.revisions = {"main"}
    before = host.sent
    assert (await page.evaluate(OPEN, ["hf:org/repo:Q4_0@v1", place]))["stored"] is True
    assert host.sent == before
    gone = await resolve(page, "hf:org/repo:Q4_0@v2", hub=host.hub)
    assert (gone["status"], gone["reason"]) == (404, "missing")
    assert "revision" in gone["message"]


GRANT = """(quota) => {
  navigator.storage.estimate = async () => {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("tilewright-models");
    let usage = 0;
    for await (const handle of folder.values()) usage += (await handle.getFile()).size;
    return { usage, quota };
  };
}"""


@pytest.fixture
def quota(page: Page) -> Callable[[int], Any]:
    """Sets what the browser grants, as the store hears it."""

    async def grant(nbytes: int) -> None:
        (worker,) = page.workers
        await worker.evaluate(GRANT, nbytes)

    return grant


async def test_the_file_used_longest_ago_gives_way(
    page: Page, host: ModelHost, quota: Callable[[int], Any]
) -> None:
    """Pinned files stay; the order of use is a count, so a clock that jumps changes nothing."""
    url = f"{host.storage}/{NAME}"
    await fetch(page, f"{url}?pinned")
    await page.evaluate(
        "(url) => store.call({ method: 'pin', url, pinned: true })", f"{url}?pinned"
    )
    await fetch(page, f"{url}?old")
    for worker in page.workers:
        await worker.evaluate("() => { Date.now = () => 1000; }")  # back to 1970
    await fetch(page, f"{url}?new")
    await quota(16 * 1024 * 1024 + 4 * SIZE - 500_000)
    result = await fetch(page, f"{url}?next")
    assert (result["sha256"], result["stored"]) == (DIGEST, True)
    names = [entry["url"].partition("?")[2] for entry in await kept(page)]
    assert sorted(names) == ["new", "next", "pinned"]


async def test_a_model_too_large_for_the_quota_is_used_without_being_kept(
    page: Page, host: ModelHost, quota: Callable[[int], Any]
) -> None:
    url = f"{host.storage}/{NAME}"
    await fetch(page, f"{url}?other")
    await quota(16 * 1024 * 1024 + SIZE)
    result = await fetch(page, url, sha256=DIGEST)
    assert (result["sha256"], result["stored"]) == (DIGEST, False)
    assert result["verified"] is True
    # Nothing was thrown away for a file that would not have fitted.
    assert (await fetch(page, f"{url}?other", keep=False))["sha256"] == DIGEST


async def test_the_disk_is_full_in_the_middle(page: Page, host: ModelHost) -> None:
    """What was written is kept and goes on; the rest passes through memory."""
    for worker in page.workers:
        await worker.evaluate(
            """() => {
              const write = FileSystemSyncAccessHandle.prototype.write;
              FileSystemSyncAccessHandle.prototype.write = function (data, options) {
                if (options.at > 1000000) throw new DOMException("full", "QuotaExceededError");
                return write.call(this, data, options);
              };
            }"""
        )
    url = f"{host.storage}/{NAME}"
    result = await fetch(page, url, sha256=DIGEST)
    assert (result.get("sha256"), result.get("stored")) == (DIGEST, False), result
    assert result["why"]


async def test_without_a_file_system_the_cache_api_keeps(
    context: BrowserContext,
    host: ModelHost,
    site: Path,
    plain_host: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(site / "assets", folder / "assets")
    shutil.copy(site / "test.html", folder)
    (script,) = (folder / "assets").glob("store_worker-*.js")
    without = "delete FileSystemFileHandle.prototype.createSyncAccessHandle;\n"
    script.write_text(without + script.read_text())
    tab = await context.new_page()
    await tab.goto(f"{plain_host(folder)}/test.html")
    await tab.evaluate(PREPARE)
    await tab.evaluate("() => store.list()")  # its worker runs
    url = f"{host.storage}/{NAME}"
    first = await fetch(tab, url, sha256=DIGEST)
    assert (first.get("sha256"), first.get("stored")) == (DIGEST, True), first
    before = host.sent
    again = await fetch(tab, url)
    assert (again["sha256"], again["verified"]) == (DIGEST, True)
    assert host.sent == before
    assert await tab.evaluate("(url) => store.call({ method: 'remove', url })", url) is True
    assert await kept(tab) == []
