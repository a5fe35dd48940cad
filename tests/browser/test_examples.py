"""The example pages, run as a visitor does: with real models, and with scripted answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvicorn
from playwright.async_api import Page, expect
from scripted_page import FAKE, shot

from conftest import ROOT, Watched
from tilewright.serve.http import ISOLATION, TYPES, create_app

JS = TYPES[".js"]
MODELS = ROOT / ".build" / "models"
WAIT_MS = 100_000
CALL = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
ANSWERS = {
    "kitchen": CALL.format("switch_light", '{"room": "kitchen", "state": "on"}'),
    "cellar": CALL.format("switch_light", '{"room": "cellar", "state": "on"}'),
    "tea": CALL.format("timer", '{"minutes": 7, "label": "tea"}'),
    "soup": CALL.format("timer", '{"minutes": "seven"}'),
    "plants": CALL.format("add_todo", '{"task": "<b>water</b> it", "priority": "high"}'),
    "forest": CALL.format("change_theme", '{"theme": "forest"}'),
    "prototype": CALL.format("change_theme", '{"theme": "dark", "constructor": "x"}'),
    "nothing": CALL.format("add_todo", '{"task": ""}'),
    "rocket": CALL.format("launch", "{}"),
    "broken": '<tool_call>\n{"name": "change_theme", "argu',
    "Rome": "None of my tools can do that.",
}
TEXT = """Cats sleep up to sixteen hours a day.

The last ferry to the island leaves at half past nine.

Interest is paid at the end of the quarter.

Glass is made of sand, soda and lime."""


@pytest.fixture(scope="session")
async def examples(site: Path) -> AsyncIterator[str]:
    """Our server (strict policy) with the site and the models that the build can make."""
    if not (site / "examples").is_dir():
        pytest.skip("dist/ has no examples: run python3 build site")
    app = create_app(site, MODELS if MODELS.is_dir() else None)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    running = uvicorn.Server(config)
    task = asyncio.ensure_future(running.serve())
    while not running.started:
        await asyncio.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/examples"
    running.should_exit = True
    await task


def need_bundled(site: Path) -> None:
    if not (site / "models" / "tilewright-tiny.gguf").is_file():
        pytest.skip("the bundled model is not in dist/models")


async def ready(page: Page) -> None:
    """Wait until the model is there; fail at once, with the page's words, where it cannot come."""
    ends = "html[data-model=ready], html[data-model=missing]"
    await page.wait_for_selector(ends, state="attached", timeout=WAIT_MS)
    state = await page.evaluate("() => document.documentElement.dataset.model")
    assert state == "ready", await page.get_by_role("status").first.text_content()


async def ask(page: Page, sentence: str) -> str:
    """Have a sentence performed; return the outcome."""
    await page.locator("#sentence").fill(sentence)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("html[data-outcome]", state="attached", timeout=WAIT_MS)
    return str(await page.evaluate("() => document.documentElement.dataset.outcome"))


async def scripted(watched: Watched, address: str) -> Page:
    """The page of actions with a worker that gives ANSWERS."""
    script = f"const PLAN = {json.dumps({'answers': ANSWERS})};\n{FAKE}"
    await watched.page.context.route(
        "**/assets/worker-*.js",
        # Without the server's headers an isolated page may not load it.
        lambda route: route.fulfill(headers={**ISOLATION, "Content-Type": JS}, body=script),
    )
    await watched.page.goto(f"{address}/page-actions/")
    await ready(watched.page)
    return watched.page


async def test_actions_move_the_controls(watched: Watched, examples: str) -> None:
    page = await scripted(watched, examples)
    kitchen = page.get_by_role("button", name="kitchen", exact=True)
    await expect(kitchen).to_have_attribute("aria-pressed", "false")
    for _ in range(2):  # "on" twice is still on
        assert await ask(page, "light in the kitchen please") == "done"
        await expect(kitchen).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#said")).to_have_text("The kitchen light is on.")
    assert await ask(page, "the tea needs seven minutes") == "done"
    await expect(page.locator("#timers li")).to_have_text(re.compile(r"tea (7:00|6:5\d)"))
    assert await ask(page, "note the plants") == "done"
    await expect(page.locator("#tasks li")).to_have_text("<b>water</b> it high")
    await shot(page, "actions")
    assert await ask(page, "forest") == "done"
    await expect(page.locator("html")).to_have_attribute("data-theme", "forest")
    await shot(page, "actions-forest")
    assert watched.complaints == []


async def test_actions_refuse_what_does_not_fit(watched: Watched, examples: str) -> None:
    page = await scripted(watched, examples)
    for sentence, outcome, said in (
        ("fly to Rome", "none", "None of my tools can do that."),
        ("light the cellar", "error", "There is no room “cellar”, only kitchen, bedroom"),
        ("time the soup", "error", "minutes must be of type integer"),
        ("add nothing", "error", "task is empty"),
        ("a rocket", "error", "there is no function launch"),
        ("prototype", "error", "there is no parameter constructor"),
        ("broken", "error", "the call is not JSON"),
        ("crash", "error", "The GPU device was lost."),
    ):
        assert await ask(page, sentence) == outcome, sentence
        await expect(page.locator("#said")).to_contain_text(said)
    assert await page.locator("#timers li, #tasks li, [aria-pressed=true]").count() == 0
    await page.get_by_role("button", name="office").click()  # by hand
    await expect(page.get_by_role("button", name="office")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert watched.complaints == []


async def test_actions_with_the_bundled_model(watched: Watched, examples: str, site: Path) -> None:
    """The page does exactly what the model wrote, right or wrong, and says which."""
    need_bundled(site)
    page = watched.page
    await page.goto(f"{examples}/page-actions/")
    await ready(page)
    calls = 0
    for sentence in ("set a timer for 7 minutes for the tea", "use the forest theme"):
        outcome = await ask(page, sentence)
        written = await page.locator("#raw").text_content() or ""
        called = re.fullmatch(r"\s*<tool_call>\s*(\{.*\})\s*</tool_call>\s*", written, re.DOTALL)
        calls += called is not None
        if outcome == "done":
            assert called is not None
            name = json.loads(called[1])["name"]
            moved = {"timer": "#timers li", "add_todo": "#tasks li"}
            assert await page.locator(moved.get(name, "[aria-pressed=true]")).count() >= 1
        else:
            said = await page.locator("#said").text_content()
            assert said, "nothing was done and nothing said why"
    assert calls >= 1, "the bundled model called no function"
    await shot(page, "actions-bundled")
    assert watched.complaints == []


async def test_search_finds_by_meaning(watched: Watched, examples: str) -> None:
    if not (MODELS / "all-MiniLM-L6-v2-q8_0.gguf").is_file():
        pytest.skip("the embedding model is a download: python3 build models minilm")
    page = watched.page
    await page.goto(f"{examples}/semantic-search/")
    await page.locator("#text").fill(TEXT)
    await ready(page)
    await page.get_by_role("button", name="Index this text").click()
    await page.wait_for_selector("html[data-index=ready]", state="attached", timeout=WAIT_MS)
    first = page.locator("#results li").first
    for query, best in (("when does the boat go", "ferry"), ("a napping kitten", "Cats")):
        await page.locator("#query").fill(query)
        await page.wait_for_selector(
            f'html[data-answered="{query}"]', state="attached", timeout=WAIT_MS
        )
        await expect(first).to_contain_text(best)
    await page.keyboard.press("ArrowDown")
    await expect(first.locator("button")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#passages p.found")).to_have_text(TEXT.split("\n\n")[0])
    await shot(page, "search")
    await page.emulate_media(color_scheme="dark")
    await shot(page, "search-dark")
    await page.keyboard.press("Escape")
    await expect(page.locator("#results li")).to_have_count(0)
    assert watched.complaints == []


async def test_search_says_how_to_get_the_model(watched: Watched, examples: str) -> None:
    page = watched.page
    await page.goto(f"{examples}/semantic-search/?model=../../models/not-there.gguf")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("python3 build models minilm", timeout=60_000)
    await expect(notice).to_contain_text("not-there.gguf")
    await expect(page.get_by_role("button", name="Index this text")).to_be_disabled()
    await shot(page, "search-missing")
    assert [text for text in watched.complaints if "404" not in text] == []


async def test_passages_and_ranking(watched: Watched, examples: str) -> None:
    await watched.page.goto(f"{examples}/semantic-search/sample.txt")
    found = await watched.page.evaluate(
        """async ([address, texts]) => {
          const { LONGEST, nearest, normalized, toPassages } = await import(address);
          const cut = texts.map(toPassages);
          const vectors = [[1, 0], [0, 2], [3, 3]].map(normalized);
          return { LONGEST, cut, ranked: nearest(vectors, normalized([0, 5]), 2) };
        }""",
        [
            f"{examples}/semantic-search/passages.js",
            ["\r\n\r\na\r\n \r\nb\n\n\n", "A sentence. " * 100, "한" * 900, "😀" * 700, ""],
        ],
    )
    small, sentences, hangul, faces, empty = found["cut"]
    assert small == ["a", "b"]
    assert empty == []
    assert all(len(piece) <= found["LONGEST"] for piece in sentences)
    assert all(piece.endswith("sentence.") for piece in sentences)
    assert " ".join(sentences) == ("A sentence. " * 100).strip()
    assert "".join(hangul) == "한" * 900
    assert max(map(len, hangul)) * 3 <= found["LONGEST"]
    assert "".join(faces) == "😀" * 700
    assert [row["index"] for row in found["ranked"]] == [1, 2]
    assert found["ranked"][1]["score"] == pytest.approx(0.5**0.5)


async def test_minimal_page_streams_from_a_sub_path(
    watched: Watched, examples: str, site: Path, tmp_path: Path, plain_host: Callable[[Path], str]
) -> None:
    need_bundled(site)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "path").symlink_to(site)
    page = watched.page
    await page.goto(f"{plain_host(tmp_path)}/some/path/examples/minimal-page/")
    answer = page.locator("#answer")
    await expect(answer).to_have_text("Ready.", timeout=WAIT_MS)
    await page.get_by_role("button", name="Ask").click()
    await expect(answer).to_have_text(re.compile(r"(\S+\s+){20}"), timeout=WAIT_MS)
    assert watched.complaints == []
    assert all("/some/path/" in url for url in watched.requests)


async def test_elements_in_a_plain_page(watched: Watched, examples: str) -> None:
    plan = {"answers": {"fox": "There was a fox.", "Once": " upon a time"}, "tokenMs": 1}
    script = f"const PLAN = {json.dumps(plan)};\n{FAKE}"
    await watched.page.context.route(
        "**/assets/worker-*.js",
        lambda route: route.fulfill(headers={**ISOLATION, "Content-Type": JS}, body=script),
    )
    page = watched.page
    await page.goto(f"{examples}/chat-element/")
    await page.get_by_role("button", name="A story about a fox").click()
    await expect(page.get_by_role("article", name="Answer")).to_contain_text("There was a fox.")
    field = page.get_by_role("textbox", name="Your story")
    await field.press_sequentially("Once")
    await expect(page.locator(".ghost")).to_have_text(" upon a time")
    await shot(page, "chat-element")
    await page.keyboard.press("Tab")
    await expect(field).to_have_value("Once upon a time")
    assert watched.complaints == []


def test_a_site_tests_itself(site: Path) -> None:
    """The example of the pytest plugin, run as its README says."""
    need_bundled(site)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tilewright.testing"],
        cwd=ROOT / "examples" / "test-your-site",
        env={**os.environ, "PYTHONPATH": str(ROOT / "py_core"), "TILEWRIGHT_RUNTIME": str(site)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


async def ask_example(page: Page, address: str, words: int) -> None:
    """Open an example, press its button when it is ready, and wait for an answer."""
    await page.goto(address)
    answer = page.locator("#answer")
    await expect(answer).to_have_text("Ready.", timeout=WAIT_MS)
    await page.get_by_role("button", name="Ask").click()
    await expect(answer).to_have_text(re.compile(rf"(\S+\s+){{{words}}}"), timeout=WAIT_MS)


async def test_the_openai_client_in_the_page(watched: Watched, examples: str, site: Path) -> None:
    need_bundled(site)
    page = watched.page
    await ask_example(page, f"{examples}/openai-client/", words=20)
    await shot(page, "openai-client")
    assert not [url for url in watched.requests if "/v1/" in url]
    assert watched.complaints == []


async def test_structured_extraction_fits_its_schema(
    watched: Watched, examples: str, site: Path
) -> None:
    need_bundled(site)
    page = watched.page
    await page.goto(f"{examples}/structured/")
    said = page.get_by_role("status")
    await expect(said).to_have_text("Ready.", timeout=WAIT_MS)
    await page.get_by_role("button", name="Extract").click()
    await expect(said).not_to_have_text("Reading …", timeout=WAIT_MS)
    await expect(said).to_have_text("Done.")
    await shot(page, "structured")
    rows = await page.locator("#found tr").all_inner_texts()
    found = dict(row.split("\t") for row in rows)
    assert list(found) == ["task", "minutes", "priority"]
    assert found["task"]
    assert 0 <= int(found["minutes"]) <= 600
    assert found["priority"] in ("low", "medium", "high")
    assert watched.complaints == []


async def test_pyscript_runs_it_in_process(
    watched: Watched, site: Path, tmp_path: Path, plain_host: Callable[[Path], str]
) -> None:
    need_bundled(site)
    packages = ROOT / "web" / "node_modules"
    if not (packages / "@pyscript" / "core").is_dir():
        pytest.skip("web/node_modules has no @pyscript/core: run python3 build setup")
    for file in (ROOT / "examples" / "pyscript").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "pyscript").symlink_to(packages / "@pyscript" / "core" / "dist")
    (tmp_path / "pyodide").symlink_to(packages / "pyodide")
    (tmp_path / "tilewright").symlink_to(site)
    page = watched.page
    await ask_example(page, f"{plain_host(tmp_path)}/index.html", words=10)
    await shot(page, "pyscript")
    assert [url for url in watched.requests if "127.0.0.1" not in url and "blob:" not in url] == []
    assert watched.complaints == []
