"""The name under which pytest and tests know ``serve/testing.py``."""

from .serve.hosting import HostedSite, find_runtime
from .serve.testing import (
    DETERMINISTIC,
    FLAGS,
    ChatDriver,
    chromium,
    launch_options,
    pytest_addoption,
    tilewright_browser,
    tilewright_chat,
    tilewright_page,
    tilewright_runtime,
    tilewright_site,
)

__all__ = [
    "DETERMINISTIC",
    "FLAGS",
    "ChatDriver",
    "HostedSite",
    "chromium",
    "find_runtime",
    "launch_options",
    "pytest_addoption",
    "tilewright_browser",
    "tilewright_chat",
    "tilewright_page",
    "tilewright_runtime",
    "tilewright_site",
]
