"""The pytest plugin ``tilewright.testing``: tests of a site that embeds the elements.

It starts Chromium through Playwright with a software WebGPU device, serves the site with the
runtime folder and the bundled model at ``/tilewright/``, makes generation deterministic, and waits
for answers. Where the plugin is installed its fixtures are there; their names begin with
``tilewright_``. ``examples/test-your-site/`` shows it. Natively only.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..errors import SourceError
from .hosting import HostedSite, find_runtime

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Software WebGPU, and no talk of the browser's own to any host."""

DETERMINISTIC = """(() => {
  const post = Worker.prototype.postMessage;
  const fix = (fields) => ({ ...fields, temperature: 0, seed: 1 });
  Worker.prototype.postMessage = function (message, ...rest) {
    if (message?.type === "generate") message = { ...message, sampling: fix(message.sampling) };
    if (message?.type === "api" && message.path.endsWith("completions")) {
      message = { ...message, body: JSON.stringify(fix(JSON.parse(message.body))) };
    }
    return post.call(this, message, ...rest);
  };
})();"""
"""Run in each page before its own scripts: what is asked of the engine gets temperature 0."""

WAIT_S = 240.0
"""How long to wait for a model or an answer: software devices are slow, busy machines slower."""


def chromium() -> str | None:
    """Return the path of an installed Chromium; None lets Playwright use its own."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = (shutil.which(name) for name in names)
    return os.environ.get("CHROMIUM") or next(filter(None, found), None)


def launch_options() -> dict[str, Any]:
    """Return the arguments for Playwright's ``chromium.launch``, of either of its interfaces."""
    return {"executable_path": chromium(), "args": list(FLAGS)}


class ChatDriver:
    """Uses a ``<tilewright-chat>`` of a page as a visitor does.

    Args:
        page: has the element, or will have it.
        selector: which one, if there are several.

    """

    def __init__(self, page: Page, selector: str = "tilewright-chat") -> None:
        self.page = page
        self.element = page.locator(selector)

    @property
    def state(self) -> str:
        """What the element does: idle, loading, ready, answering or failed."""
        return str(self.element.evaluate("element => element.state"))

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation: ``role`` and ``content`` of each message."""
        found: list[dict[str, str]] = self.element.evaluate("element => element.messages")
        return found

    def wait_ready(self, timeout_s: float = WAIT_S) -> None:
        """Load the model, if it is not there, and wait for it."""
        self.element.evaluate("element => { element.prepare().catch(() => {}); }")
        self._wait("ready", timeout_s)

    def send(self, text: str) -> None:
        """Type a message and press Enter."""
        field = self.element.get_by_role("textbox")
        field.fill(text)
        field.press("Enter")

    def ask(self, text: str, timeout_s: float = WAIT_S) -> str:
        """Send a message and return the answer once it is complete."""
        before = len(self.messages)
        self.send(text)
        self._wait("ready", timeout_s)
        messages = self.messages
        assert len(messages) == before + 2, "the model had nothing to say"
        return messages[-1]["content"]

    def _wait(self, wanted: str, timeout_s: float) -> None:
        """Wait for a state; a failure of the element is the test's, in the element's words."""
        deadline = time.monotonic() + timeout_s
        while (state := self.state) != wanted:
            if state == "failed":
                raise AssertionError(self.element.get_by_role("alert").inner_text())
            if time.monotonic() > deadline:
                raise AssertionError(f"The chat is still {state} after {timeout_s:g} s.")
            self.page.wait_for_timeout(50)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the site."""
    parser.addini(
        "tilewright_site", "folder of the site under test, from the root folder", default="."
    )
    group = parser.getgroup("tilewright")
    group.addoption("--tilewright-site", help="folder of the site under test")


@pytest.fixture(scope="session")
def tilewright_runtime() -> Path:
    """The runtime folder with the bundled model; skips where it is not built."""
    try:
        return find_runtime()
    except SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tilewright_site(pytestconfig: pytest.Config, tilewright_runtime: Path) -> Iterator[str]:
    """Address of the site under test (``tilewright_site`` of the configuration)."""
    told = pytestconfig.getoption("--tilewright-site")
    folder = Path(told) if told else pytestconfig.rootpath / pytestconfig.getini("tilewright_site")
    if not folder.is_dir():
        raise pytest.UsageError(f"tilewright_site: {folder} is no folder.")
    with HostedSite(folder, tilewright_runtime) as hosted:
        yield hosted.url


@pytest.fixture(scope="session")
def tilewright_browser() -> Iterator[Browser]:
    """One headless Chromium with a software WebGPU device; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        if chromium() is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip(
                "no Chromium here: apt-get install chromium, or playwright install chromium"
            )
        browser = playwright.chromium.launch(**launch_options())
        yield browser
        browser.close()


@pytest.fixture
def tilewright_page(tilewright_browser: Browser, tilewright_site: str) -> Iterator[Page]:
    """A page in a fresh profile: ``goto("/")`` is the site; generation is deterministic."""
    context = tilewright_browser.new_context(base_url=tilewright_site)
    context.add_init_script(DETERMINISTIC)
    yield context.new_page()
    context.close()


@pytest.fixture
def tilewright_chat(tilewright_page: Page) -> ChatDriver:
    """The page's first ``<tilewright-chat>``, once the test has opened a page."""
    return ChatDriver(tilewright_page, "tilewright-chat >> nth=0")
