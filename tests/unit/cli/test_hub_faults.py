"""Pulls natively: nothing is lost, whatever breaks on the way.

Which test has which fault (in a page: ``tests/browser/test_store_in_page.py``):

| fault | test |
|---|---|
| network cut at every stage | of test_hub: broken_connections_and_refusals, |
| | a_pull_that_was_stopped; here: the_list_is_cut |
| server ignoring Range | of test_hub: a_server_that_ignores_ranges |
| wrong length | another_length_than_listed |
| changed between ranges | a_file_that_changes_between_ranges |
| corrupt piece | of test_hub: a_damaged_file_is_thrown_away |
| 403, 404, 429 | of test_hub: refusals_say_what_to_do |
| 5xx | a_server_that_stays_broken; once: of test_hub: broken_connections_and_refusals |
| quota exceeded in the middle | the_disk_is_full_in_the_middle; before: of test_hub: no_room |
| killed while writing | a_killed_process_loses_little |
| two at once | two_pulls_share_one_download |
| clock jumps | a_clock_that_jumps |
| a revision that disappeared | a_revision_that_disappeared |
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.cli.hub_server import COMMIT, Hub, serving

from tilewright.errors import SourceError
from tilewright.serve.hub import pull as pulling
from tilewright.serve.hub.client import Client
from tilewright.serve.hub.pull import already_here, pull

CONTENT = bytes(range(256)) * 4096
NAME = "tiny-Q4_K_M.gguf"
REFERENCE = f"hf:org/repo/{NAME}"
KILLED = """
import asyncio, sys
from pathlib import Path
from tilewright.serve.hub import pull as pulling
from tilewright.serve.hub.client import Client
pulling.PIECE = 1 << 16
asyncio.run(pulling.pull(sys.argv[2], client=Client(sys.argv[1]), folder=Path(sys.argv[3])))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub({NAME: CONTENT})) as made:
        yield made
        made.go.set()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PIECE", 1 << 16)


async def fetch(hub: Hub, folder: Path) -> pulling.Pulled:
    return await pull(REFERENCE, client=Client(hub.hub, retries=3, pause=0.001), folder=folder)


async def test_the_list_is_cut(hub: Hub, tmp_path: Path) -> None:
    hub.hub_refusals = [(503, {}), (502, {})]
    assert (await fetch(hub, tmp_path)).path.read_bytes() == CONTENT


async def _swapped(hub: Hub, folder: Path, content: bytes) -> pulling.Pulled:
    """Pull while the file becomes another one after some of its pieces."""
    hub.hold_after = 5
    pulled = asyncio.ensure_future(fetch(hub, folder))
    while len(hub.asked) <= hub.hold_after:
        await asyncio.sleep(0.005)
    hub.files[NAME] = content
    hub.go.set()
    return await pulled


async def test_another_length_than_listed_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="another file") as error:
        await _swapped(hub, tmp_path, CONTENT + b"more")
    assert error.value.details["reason"] == "changed"
    assert already_here(REFERENCE, tmp_path) is None


async def test_a_file_that_changes_between_ranges(hub: Hub, tmp_path: Path) -> None:
    new = bytes(reversed(CONTENT))
    with pytest.raises(SourceError, match="arrived damaged"):
        await _swapped(hub, tmp_path, new)
    assert already_here(REFERENCE, tmp_path) is None
    # The next pull takes nothing of the old file.
    found = await fetch(hub, tmp_path)
    assert found.path.read_bytes() == new
    assert found.fetched == len(new)


async def test_a_server_that_stays_broken(hub: Hub, tmp_path: Path) -> None:
    hub.refusals = [(500, {})] * 100
    with pytest.raises(SourceError) as error:
        await fetch(hub, tmp_path)
    assert error.value.details["status"] == 500
    hub.refusals = []
    assert (await fetch(hub, tmp_path)).path.read_bytes() == CONTENT


async def test_the_disk_is_full_in_the_middle(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = os.pwrite, 6

    def full(handle: int, data: bytes, at: int) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: len(data) // 2 + 1], at)  # a system may write less

    with monkeypatch.context() as patched:
        patched.setattr(pulling.os, "pwrite", full)
        with pytest.raises(SourceError, match=r"No space left .* make room"):
            await fetch(hub, tmp_path)
    assert already_here(REFERENCE, tmp_path) is None
    found = await fetch(hub, tmp_path)
    assert found.path.read_bytes() == CONTENT


async def test_a_killed_process_loses_little(hub: Hub, tmp_path: Path) -> None:
    hub.hold_after = 9
    arguments = [sys.executable, "-c", KILLED, hub.hub, REFERENCE, str(tmp_path)]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while len(hub.asked) <= hub.hold_after + 2:  # others wait: what has come is noted down
        assert process.poll() is None
        await asyncio.sleep(0.01)
    process.kill()
    process.wait()
    hub.go.set()
    assert already_here(REFERENCE, tmp_path) is None  # half a file is never used
    found = await fetch(hub, tmp_path)
    assert found.path.read_bytes() == CONTENT
    assert found.fetched < len(CONTENT)


async def test_two_pulls_share_one_download(hub: Hub, tmp_path: Path) -> None:
    found = await asyncio.gather(fetch(hub, tmp_path), fetch(hub, tmp_path))
    assert found[0].path == found[1].path
    assert found[0].path.read_bytes() == CONTENT
    assert hub.sent == len(CONTENT)


@pytest.mark.parametrize("now", [0.0, 4e9])
async def test_a_clock_that_jumps(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    hub.break_after = [65536, 1000]
    monkeypatch.setattr(time, "time", lambda: now)
    assert (await fetch(hub, tmp_path)).path.read_bytes() == CONTENT
    assert hub.sent == len(CONTENT)


async def test_a_revision_that_disappeared(hub: Hub, tmp_path: Path) -> None:
    found = await fetch(hub, tmp_path)
    hub.hub_refusals = [(404, {})]
    with pytest.raises(SourceError, match="check the name") as error:
        await fetch(hub, tmp_path)
    assert error.value.details["status"] == 404
    # What is here stays usable, under its name and under its commit.
    assert already_here(REFERENCE, tmp_path) == found.path
    assert already_here(f"{REFERENCE}@{COMMIT}", tmp_path) == found.path
