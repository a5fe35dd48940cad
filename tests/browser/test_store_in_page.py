"""The store of models against a scripted hub: nothing is lost, whatever breaks on the way.

Which test has which fault (natively ``tests/unit/cli/test_hub_faults.py`` has such a table):

| fault | test |
|---|---|
| network cut at every stage | a_cut_connection_goes_on_at_the_byte, |
| | the_network_is_gone_for_a_while |
| server ignoring Range | a_server_that_ignores_ranges |
| wrong length | another_length_than_listed_is_refused |
| changed ETag between ranges | a_file_that_changes_between_ranges |
| corrupt piece | a_damaged_piece_is_noticed_and_never_used_again, |
| | damage_on_the_disk_costs_one_block, and of test_store_hub: the_digest_of_the_list_is_checked |
| 403, 404, 429, 5xx | refusals_are_told_at_once, what_may_pass_is_waited_for |
| quota exceeded in the middle | of test_store_hub: the_disk_is_full_in_the_middle, |
| | a_model_too_large_for_the_quota_is_used_without_being_kept; of test_downloads: a_full_disk |
| tab killed while writing | a_killed_tab_loses_little, a_half_written_entry_is_no_entry |
| two tabs at once | two_tabs_share_one_download, here and with models in test_downloads |
| clock jumps | a_clock_that_jumps; of test_store_hub: the_file_used_longest_ago_gives_way |
| a revision that disappeared | of test_store_hub: a_revision_that_disappeared |
| a stop, a reload | a_stop_is_at_once_and_the_next_load_goes_on; |
| | of test_downloads: a_reload_goes_on |
| the device lost, memory short | numerics/test_load_memory.py, numerics/test_streaming.py |
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from model_host import ModelHost
from playwright.async_api import BrowserContext, Error, Page
from store_page import (
    BLOCK,
    CONTENT,
    DIGEST,
    NAME,
    SIZE,
    context,
    fetch,
    host,
    kept,
    open_tab,
    page,
    ranges,
    visit,
)

__all__ = ["context", "host", "open_tab", "page", "visit"]


async def test_a_file_arrives_in_parallel_ranges_and_is_checked(
    page: Page, host: ModelHost
) -> None:
    url = f"{host.storage}/{NAME}"
    result = await fetch(page, url, sha256=DIGEST)
    assert result["sha256"] == DIGEST
    assert (result["stored"], result["verified"], result["have"]) == (True, True, SIZE)
    # No byte was asked for twice, and several ranges were asked for.
    asked = sorted(ranges(host))
    assert asked[0] == (0, 65535)
    assert len(asked) > 8
    assert [last + 1 for _, last in asked[:-1]] == [first for first, _ in asked[1:]]
    assert host.sent == SIZE
    # Once it is stored, no host is needed.
    host.status = 500
    before = len(host.asked)
    assert (await fetch(page, url))["sha256"] == DIGEST
    assert len(host.asked) == before
    (entry,) = await kept(page)
    assert (entry["name"], entry["complete"], entry["verified"]) == (NAME, True, True)


async def test_small_reads_fetch_little(page: Page, host: ModelHost) -> None:
    """A header can be looked at without fetching the weights."""
    got = await page.evaluate(
        """async (url) => {
          const source = await store.open({ url });
          const some = await source.read(70000, 4);
          source.close();
          return [...some];
        }""",
        f"{host.storage}/{NAME}",
    )
    assert bytes(got) == CONTENT[70000:70004]
    assert host.sent <= 65536 + 2 * BLOCK


@pytest.mark.parametrize("where", [10, 65536, SIZE // 2, SIZE - 5])
async def test_a_cut_connection_goes_on_at_the_byte(
    page: Page, host: ModelHost, where: int
) -> None:
    asking = asyncio.ensure_future(fetch(page, f"{host.storage}/{NAME}", sha256=DIGEST))
    host.bytes_per_second = 8e6
    while host.sent < where and not asking.done():
        await asyncio.sleep(0.005)
    host.break_after = 1000
    result = await asking
    assert result["sha256"] == DIGEST
    # Twice at most what one connection had on its way.
    assert host.sent <= SIZE + BLOCK


async def test_the_network_is_gone_for_a_while(
    page: Page, host: ModelHost, context: BrowserContext
) -> None:
    host.bytes_per_second = 1e6
    url = f"{host.storage}/{NAME}"
    pace = {"retries": 12, "pauseMs": 50}
    asking = asyncio.ensure_future(fetch(page, url, sha256=DIGEST, pace=pace))
    while host.sent < SIZE // 4:
        await asyncio.sleep(0.01)
    refused = (503, {"Retry-After": "0"})
    host.refusals = [refused] * 6
    host.break_after = 1
    host.bytes_per_second = 0
    result = await asking
    assert result["sha256"] == DIGEST
    assert host.sent <= SIZE + 2 * BLOCK


async def test_a_server_that_ignores_ranges(page: Page, host: ModelHost) -> None:
    host.ranges = False
    host.break_after = SIZE // 2
    result = await fetch(page, f"{host.storage}/{NAME}", sha256=DIGEST)
    assert result["sha256"] == DIGEST
    assert result["verified"] is True
    assert len(host.asked) == 2  # the broken one, and once more


async def test_a_host_that_shows_no_headers(page: Page, host: ModelHost) -> None:
    """Without Access-Control-Expose-Headers a page sees Content-Length alone."""
    host.readable = False
    result = await fetch(page, f"{host.storage}/{NAME}", sha256=DIGEST)
    assert result["sha256"] == DIGEST


async def test_another_length_than_listed_is_refused(page: Page, host: ModelHost) -> None:
    result = await fetch(page, f"{host.storage}/{NAME}", size=SIZE + 1)
    assert (result["code"], result["reason"]) == ("source_unavailable", "changed")
    assert await kept(page) == []


async def test_a_file_that_changes_between_ranges(page: Page, host: ModelHost) -> None:
    url = f"{host.storage}/{NAME}"
    host.bytes_per_second = 2e6
    asking = asyncio.ensure_future(fetch(page, url))
    while host.sent < SIZE // 4:
        await asyncio.sleep(0.01)
    new = bytes(reversed(CONTENT))
    (host.folder / NAME).write_bytes(new)
    host.etag = '"two"'
    result = await asking
    assert (result["code"], result["reason"]) == ("source_unavailable", "changed")
    # The next load takes nothing of the old file.
    host.bytes_per_second = 0
    again = await fetch(page, url)
    assert again["sha256"] == hashlib.sha256(new).hexdigest()


async def test_a_damaged_piece_is_noticed_and_never_used_again(page: Page, host: ModelHost) -> None:
    url = f"{host.storage}/{NAME}"
    host.damage = {SIZE // 2}
    result = await fetch(page, url, sha256=DIGEST)
    assert (result["code"], result["reason"]) == ("source_unavailable", "corrupt")
    assert result["expected"] == DIGEST
    assert (await fetch(page, url, sha256=DIGEST))["sha256"] == DIGEST


async def test_a_closed_file_is_free(page: Page, host: ModelHost) -> None:
    """Where closing forgot a handle, the file could not be kept again until memory was cleaned."""
    url = f"{host.storage}/{NAME}"
    for _ in range(12):
        found = await fetch(page, url, sha256=DIGEST)
        assert (found["sha256"], found["stored"]) == (DIGEST, True)
        while not await page.evaluate("(url) => store.call({ method: 'remove', url })", url):
            await asyncio.sleep(0.02)


async def test_damage_on_the_disk_costs_one_block(page: Page, host: ModelHost) -> None:
    url = f"{host.storage}/{NAME}"
    await fetch(page, url, sha256=DIGEST)
    await page.evaluate(
        """async () => {
          const root = await navigator.storage.getDirectory();
          const folder = await root.getDirectoryHandle("tilewright-models");
          // The store's worker closes the file a moment after it was told to.
          const writable = async (handle) => {
            for (;;) {
              try {
                return await handle.createWritable({ keepExistingData: true });
              } catch (error) {
                if (error.name !== "NoModificationAllowedError") throw error;
                await new Promise((resolve) => setTimeout(resolve, 20));
              }
            }
          };
          for await (const [name, handle] of folder.entries()) {
            if (name.endsWith(".json")) continue;
            const stream = await writable(handle);
            const data = new Uint8Array([1, 2, 3]);
            await stream.write({ type: "write", position: 1000000, data });
            await stream.close();
          }
        }"""
    )
    found = await page.evaluate("(url) => store.call({ method: 'verify', url })", url)
    assert found == {"blocks": 12, "damaged": 1}
    before = host.sent
    again = await fetch(page, url, sha256=DIGEST)
    assert (again["sha256"], again["verified"]) == (DIGEST, True)
    assert host.sent - before <= 65536 + BLOCK
    assert await page.evaluate("(url) => store.call({ method: 'verify', url })", url) == {
        "blocks": 12,
        "damaged": 0,
    }


@pytest.mark.parametrize(
    ("status", "reason", "word"),
    [(403, "gated", "token"), (404, "missing", "does not exist"), (418, "refused", "418")],
)
async def test_refusals_are_told_at_once(
    page: Page, host: ModelHost, status: int, reason: str, word: str
) -> None:
    host.refusals = [(status, {})] * 9
    result = await fetch(page, f"{host.storage}/{NAME}")
    assert (result["status"], result["reason"]) == (status, reason)
    assert word in result["message"]
    assert len(host.asked) == 1


@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (503, "server")])
async def test_what_may_pass_is_waited_for(
    page: Page, host: ModelHost, status: int, reason: str
) -> None:
    refused = (status, {"Retry-After": "0"})
    url = f"{host.storage}/{NAME}"
    host.refusals = [refused] * 3
    assert (await fetch(page, url, sha256=DIGEST))["sha256"] == DIGEST
    host.refusals = [refused] * 9
    result = await fetch(page, url + "?other")
    assert (result["status"], result["reason"]) == (status, reason)


async def test_a_stop_is_at_once_and_the_next_load_goes_on(page: Page, host: ModelHost) -> None:
    url = f"{host.storage}/{NAME}"
    host.bytes_per_second = 1e6
    stopped = await fetch(page, url, stopAt=SIZE // 3)
    assert stopped["code"] == "cancelled"
    host.bytes_per_second = 0
    entry: dict[str, Any] = {"have": 0}
    async with asyncio.timeout(10):  # what came is flushed and noted after the stop
        while entry["have"] <= SIZE // 4:
            entry = next(iter(await kept(page)), entry)  # none before the first note
    assert entry["have"] < SIZE
    before = host.sent
    assert (await fetch(page, url, sha256=DIGEST))["sha256"] == DIGEST
    assert host.sent - before <= SIZE - entry["have"] + 65536


COLLECT = """() => {
  for (const kind of [FileSystemFileHandle, FileSystemDirectoryHandle]) {
    for (const name of Object.getOwnPropertyNames(kind.prototype)) {
      const { value } = Object.getOwnPropertyDescriptor(kind.prototype, name);
      if (typeof value !== "function" || name === "constructor") continue;
      kind.prototype[name] = function (...given) {
        queueMicrotask(gc);
        setTimeout(gc);
        return value.apply(this, given);
      };
    }
  }
}"""
"""Has garbage collected right after anything is asked of a file or a folder."""


async def test_no_answer_is_lost_to_the_garbage_collector(page: Page, host: ModelHost) -> None:
    """Chromium drops what a handle was asked when the handle is collected first."""
    for worker in page.workers:
        await worker.evaluate(COLLECT)
    host.bytes_per_second = 1e6  # what came is noted every second
    assert (await fetch(page, f"{host.storage}/{NAME}", sha256=DIGEST))["verified"]


async def test_a_killed_tab_loses_little(
    visit: Callable[[], Any], page: Page, host: ModelHost
) -> None:
    """The tab goes away in the middle of a write; what it noted before is used, the rest is not."""
    url = f"{host.storage}/{NAME}"
    host.bytes_per_second = 0.25e6
    running = asyncio.ensure_future(fetch(page, url))
    while host.sent < SIZE * 0.6:
        assert not running.done(), running.result()
        await asyncio.sleep(0.02)
    await page.close()
    with pytest.raises(Error):
        await running
    host.bytes_per_second = 0
    tab = await visit()
    (entry,) = await kept(tab)
    assert 0 < entry["have"] < SIZE
    before = host.sent
    result = await fetch(tab, url, sha256=DIGEST)
    assert (result["sha256"], result["verified"]) == (DIGEST, True)
    assert host.sent - before <= SIZE - entry["have"] + 65536


@pytest.mark.parametrize("year", [1970, 2100])
async def test_a_clock_that_jumps(page: Page, host: ModelHost, year: int) -> None:
    """In the middle of a download, and while a server names a date until which to wait."""
    host.bytes_per_second = 2e6
    url = f"{host.storage}/{NAME}"
    asking = asyncio.ensure_future(fetch(page, url, sha256=DIGEST))
    while host.sent < SIZE // 4:
        await asyncio.sleep(0.01)
    for worker in page.workers:
        await worker.evaluate(f"() => {{ Date.now = () => Date.UTC({year}); }}")
    then = f"Thu, 01 Jan {year} 00:00:00 GMT"
    host.refusals = [(503, {"Retry-After": then})] * 2
    host.break_after = 1
    host.bytes_per_second = 0
    assert (await asking)["sha256"] == DIGEST
    assert host.sent <= SIZE + 2 * BLOCK
    # Stored under the wrong date, and found under the right one.
    for worker in page.workers:
        await worker.evaluate("() => { Date.now = () => Date.UTC(2026); }")
    before = host.sent
    assert (await fetch(page, url))["sha256"] == DIGEST
    assert host.sent == before


async def test_a_half_written_entry_is_no_entry(page: Page, host: ModelHost) -> None:
    url = f"{host.storage}/{NAME}"
    await fetch(page, url)
    await page.evaluate(
        """async () => {
          const root = await navigator.storage.getDirectory();
          const folder = await root.getDirectoryHandle("tilewright-models");
          for await (const [name, handle] of folder.entries()) {
            if (!name.endsWith(".json")) continue;
            const text = await (await handle.getFile()).text();
            const stream = await handle.createWritable();
            await stream.write(text.slice(0, text.length / 2));
            await stream.close();
          }
        }"""
    )
    assert await kept(page) == []
    assert (await fetch(page, url, sha256=DIGEST))["sha256"] == DIGEST


async def test_two_tabs_share_one_download(
    visit: Callable[[], Any], page: Page, host: ModelHost
) -> None:
    other = await visit()
    host.bytes_per_second = 1e6
    url = f"{host.storage}/{NAME}"
    results = await asyncio.gather(*(fetch(tab, url, keep=True) for tab in (page, other)))
    assert [result["sha256"] for result in results] == [DIGEST, DIGEST]
    assert host.sent == SIZE
    # What a tab reads is not removed under it.
    assert await page.evaluate("(url) => store.call({ method: 'remove', url })", url) is False
    for tab in (page, other):
        await tab.evaluate("() => kept.close()")
    async with asyncio.timeout(10):  # both let go of it a little later
        while not await page.evaluate("(url) => store.call({ method: 'remove', url })", url):
            await asyncio.sleep(0.02)
    assert await kept(page) == []
