"""The CPU path in a page: forced, with and without isolation, and where there is no WebGPU."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from conftest import FLAGS, Watched, chromium

GREEDY = """async ([url, ids, options]) => {
  const { Tilewright } = await import("./tilewright.js");
  const engine = await Tilewright.load(url, { context_length: 256, backend: "wasm", ...options });
  const run = async (signal) => {
    const made = [];
    const sampling = { temperature: 0, max_tokens: 32, ignore_eos: true };
    for await (const part of engine.complete({ ids, sampling, signal })) {
      made.push(...part.tokens.map((token) => token.id));
    }
    return made;
  };
  const made = await run();
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 5);
  const stopped = await run(stop.signal).then(() => "not stopped", (error) => error.name);
  const again = await run();
  const { threads } = await engine.stats();
  await engine.unload();
  return { made, again, stopped, threads, info: engine.info, isolated: crossOriginIsolated };
}"""


@pytest.fixture
def bare_site(site: Path, oracle: Path, tmp_path: Path) -> Iterator[str]:
    """The site and the models from a server without isolation headers."""
    (tmp_path / "site").symlink_to(site)
    (tmp_path / "models").symlink_to(oracle / "models_and_logits" / "models")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def native_ids(oracle: Path, name: str, ids: list[int]) -> list[int]:
    """Return what the same modules give through wasmtime."""
    pytest.importorskip("wasmtime")
    from tilewright.engine.engine import Engine
    from tilewright.engine.sampling import SamplingParams
    from tilewright.engine.wasm_runner import WasmRunner
    from tilewright.formats.open import open_model

    file = await open_model(str(oracle / "models_and_logits" / "models" / name))
    runner = await WasmRunner.load(file, context_length=256)
    engine = Engine(runner)
    params = SamplingParams(temperature=0, max_tokens=32, ignore_eos=True)
    made = [token.id async for token in engine.generate(ids, params)]
    await engine.close()
    await runner.close()
    file.close()
    return made


async def evaluate(page: Page, script: str, argument: object) -> Any:
    return await asyncio.wait_for(page.evaluate(script, argument), 100)


@pytest.mark.isolated
@pytest.mark.parametrize("name", ["llama.Q4_0.gguf", "qwen3moe.Q4_0.gguf", "llama.Q4_K.gguf"])
async def test_an_isolated_page_has_threads_and_the_native_ids(
    watched: Watched, server: str, oracle: Path, manifest: dict[str, Any], name: str
) -> None:
    ids = manifest[name]["exact"]["greedy_prompt_ids"]
    await watched.page.goto(f"{server}/test.html")
    cores = await watched.page.evaluate("() => navigator.hardwareConcurrency")
    result = await evaluate(watched.page, GREEDY, [f"{server}/models/{name}", ids, {}])
    assert result["isolated"]
    assert result["threads"] == min(cores, max(4, min(cores // 2, 8)))
    assert result["made"] == await native_ids(oracle, name, ids)
    assert result["again"] == result["made"]
    assert result["stopped"] == "AbortError"
    assert result["info"]["backend"] == "wasm"
    assert watched.complaints == []


async def test_a_page_without_isolation_has_one_thread_and_the_same_ids(
    watched: Watched, bare_site: str, oracle: Path, manifest: dict[str, Any]
) -> None:
    name = "llama.Q4_0.gguf"
    ids = manifest[name]["exact"]["greedy_prompt_ids"]
    await watched.page.goto(f"{bare_site}/site/test.html")
    asked = [f"{bare_site}/models/{name}", ids, {"threads": 4}]
    result = await evaluate(watched.page, GREEDY, asked)
    assert not result["isolated"]
    assert result["threads"] == 1
    assert result["made"] == await native_ids(oracle, name, ids)
    assert watched.complaints == []


async def answer(page: Page, text: str) -> str:
    """Say something to the chat page and wait for the whole answer."""
    before = await page.get_by_text("tokens/s").count()
    await page.get_by_role("textbox").first.fill(text)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("tokens/s").nth(before)).to_be_visible(timeout=90_000)
    return await page.get_by_role("article").last.inner_text()


@pytest.mark.parametrize(
    "isolated", [pytest.param(True, marks=pytest.mark.isolated), False], ids=["isolated", "plain"]
)
async def test_two_tabs_of_the_chat_page_answer(
    watched: Watched, server: str, site: Path, plain_host: Callable[[Path], str], isolated: bool
) -> None:
    """The bundled model, under the page's own policy, in two tabs at once."""
    if not list((site / "models").glob("*.gguf")):
        pytest.skip("dist/models holds no model")
    host = server if isolated else plain_host(site)
    pages = [watched.page, await watched.page.context.new_page()]
    for page in pages:
        await page.goto(f"{host}/index.html?backend=wasm")
    assert await pages[0].evaluate("() => crossOriginIsolated") == isolated
    texts = await asyncio.gather(*(answer(page, "Tell me a story.") for page in pages))
    assert all(len(text.split()) > 20 for text in texts), texts
    await pages[0].get_by_role("button", name="Statistics", exact=True).click()
    await expect(pages[0].locator("#stats-body")).to_contain_text("CPU (WebAssembly SIMD")
    assert watched.complaints == []


@pytest.fixture(scope="module")
async def without_webgpu() -> AsyncIterator[Browser]:
    """A Chromium as most people's on Linux: no WebGPU at all."""
    flags = [f for f in FLAGS if "webgpu" not in f]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=[*flags, "--disable-gpu", "--disable-features=WebGPU"]
        )
        yield browser
        await browser.close()


async def test_a_browser_without_webgpu_simply_answers(
    without_webgpu: Browser, server: str, site: Path
) -> None:
    if not list((site / "models").glob("*.gguf")):
        pytest.skip("dist/models holds no model")
    page = await without_webgpu.new_page()
    await page.goto(f"{server}/index.html")
    assert not await page.evaluate(
        "async () => Boolean(navigator.gpu && await navigator.gpu.requestAdapter())"
    )
    assert len((await answer(page, "Tell me a story.")).split()) > 20
    await page.close()


@pytest.mark.webgpu
async def test_a_software_adapter_is_found_out(watched: Watched, server: str) -> None:
    """Nobody chooses: SwiftShader is the same processor, with less of it in use."""
    await watched.page.goto(f"{server}/test.html")
    chosen = await evaluate(
        watched.page,
        """async (url) => {
          const { Tilewright } = await import("./tilewright.js");
          const found = [];
          for (const options of [{}, { backend: "webgpu" }]) {
            const engine = await Tilewright.load(url, { context_length: 64, ...options });
            found.push(engine.info.backend);
            await engine.unload();
          }
          return found;
        }""",
        f"{server}/models/llama.Q4_0.gguf",
    )
    assert chosen == ["wasm", "webgpu"]
