"""Tuning in the page: it runs while idle, keeps its records, and never changes an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conftest import Watched

MODEL = "llama.Q4_0.gguf"
PAGE = """
const { Tilewright } = await import("./tilewright.js");
const options = { context_length: 128, kv: "f32", max_sequences: 1, backend: "webgpu" };
const greedy = async (engine, count = 24) => {
  const made = [];
  const sampling = { temperature: 0, max_tokens: count, ignore_eos: true };
  for await (const part of engine.complete({ ids: [3, 9, 27, 17, 5], sampling })) {
    made.push(...part.tokens.map((token) => token.id));
  }
  return made;
};
// Tunes until `count` kernels are done, however long this machine takes; returns the events.
const tuneSome = async (engine, count) => {
  const events = [];
  const pause = new AbortController();
  const onProgress = (event) => {
    events.push(event);
    if (events.filter(({ done }) => done).length >= count) pause.abort();
  };
  await engine.tune({ budget: 60, share: 1, signal: pause.signal, onProgress }).catch((error) => {
    if (error.name !== "AbortError") throw error;
  });
  return events;
};
"""


async def evaluate(watched: Watched, body: str, argument: object) -> Any:
    script = f"async (given) => {{ {PAGE} {body} }}"
    return await asyncio.wait_for(watched.page.evaluate(script, argument), 170)


@pytest.mark.webgpu
async def test_records_survive_a_reload_and_ids_stay(watched: Watched, server: str) -> None:
    await watched.page.goto(f"{server}/test.html")
    url = f"{server}/models/{MODEL}"
    first = await evaluate(
        watched,
        """
        const engine = await Tilewright.load(given, options);
        const plain = await greedy(engine);
        const tuning = tuneSome(engine, 3);
        const busy = await engine.tune().catch((error) => error.code);
        const during = await greedy(engine); // plans are swapped, measurements go on around it
        const events = await tuning;
        const after = await greedy(engine);
        const document = await engine.exportRecords();
        await engine.unload();
        return { plain, during, after, busy, events, document };
        """,
        url,
    )
    assert first["during"] == first["plain"]
    assert first["after"] == first["plain"]
    assert first["busy"] == "busy"
    done = [event for event in first["events"] if event["done"] and event["kernel"]]
    assert len(done) >= 3
    assert done[-1]["finished"] == len(done)
    assert done[-1]["total"] >= len(done)
    assert all(e["seconds"] > 0 and e["roofline"] >= 0 for e in done)
    document = json.loads(first["document"])
    assert len(document["records"]) == len(done)

    await watched.page.reload()
    second = await evaluate(
        watched,
        """
        const engine = await Tilewright.load(given, options);
        const events = [];
        const result = await engine.tune({ budget: 0, onProgress: (event) => events.push(event) });
        const ids = await greedy(engine);
        await engine.unload();
        return { ids, result, known: events.filter((event) => event.known).length };
        """,
        url,
    )
    assert second["ids"] == first["plain"]
    assert second["result"]["bursts"] == 0
    assert second["result"]["ceilings"] == document["ceilings"]
    assert second["known"] == len(done)
    assert watched.complaints == []


@pytest.mark.webgpu
async def test_shipped_records_and_what_is_not_ours(watched: Watched, server: str) -> None:
    """A site's records are used at once; foreign keys and broken stores count for nothing."""
    await watched.page.goto(f"{server}/test.html")
    result = await evaluate(
        watched,
        """
        let engine = await Tilewright.load(given, options);
        await tuneSome(engine, 1);
        const document = JSON.parse(await engine.exportRecords());
        await engine.unload();
        const keys = async (mode, act) => new Promise((resolve, reject) => {
          const opening = indexedDB.open("tilewright-tuning");
          opening.onerror = () => reject(new Error("open"));
          opening.onsuccess = () => {
            const transaction = opening.result.transaction("records", mode);
            const asked = act(transaction.objectStore("records"));
            transaction.oncomplete = () => (opening.result.close(), resolve(asked.result));
          };
        });
        const [name] = await keys("readonly", (table) => table.getAllKeys());
        const count = async (more) => {
          await keys("readwrite", (table) => table.put("{broken", name));
          const engine = await Tilewright.load(given, { ...options, ...more });
          const known = [];
          await engine.tune({ budget: 0, onProgress: ({ known: k }) => k && known.push(k) });
          await engine.unload();
          return known.length;
        };
        const foreign = structuredClone(document);
        for (const record of foreign.records) record.key = record.key.split("").reverse().join("");
        const found = {
          records: document.records.length,
          broken: await count({}),
          foreign: await count({ records: foreign }),
          shipped: await count({ records: document }),
        };
        engine = await Tilewright.load(given, options);
        found.taken = await engine.importRecords(JSON.stringify(document));
        found.refused = await engine.importRecords("{}").catch((error) => error.code);
        await engine.unload();
        return found;
        """,
        f"{server}/models/{MODEL}",
    )
    assert result["records"] > 0
    assert result["broken"] == 0
    assert result["foreign"] == 0
    assert result["shipped"] == result["records"]
    assert result["taken"] == result["records"]
    assert result["refused"] == "invalid_request"
    assert watched.complaints == []


async def test_the_cpu_path_is_tuned_too(watched: Watched, server: str) -> None:
    """The same records and store; a second visit measures nothing, and no answer changes."""
    url = f"{server}/models/{MODEL}"
    body = """
    const engine = await Tilewright.load(given, { ...options, backend: "wasm" });
    const plain = await greedy(engine);
    const events = [];
    const result = await engine.tune({ budget: 60, share: 1, onProgress: (e) => events.push(e) });
    const after = await greedy(engine);
    const document = JSON.parse(await engine.exportRecords());
    await engine.unload();
    const done = events.filter((event) => event.done && event.kernel);
    return { plain, after, result, done, records: document.records };
    """
    seen = []
    for _ in range(2):
        await watched.page.goto(f"{server}/test.html")
        seen.append(await evaluate(watched, body, url))
    first, second = seen
    assert first["result"]["bursts"] > 0
    assert second["result"]["bursts"] == 0
    assert all(event["known"] for event in second["done"])
    assert len(first["records"]) == len(first["done"]) == len(second["done"]) >= 2
    assert all(event["tried"] > 3 and event["rejected"] == 0 for event in first["done"])
    assert [first["plain"], first["after"], second["plain"]] == [second["after"]] * 3
    assert watched.complaints == []
