"""Tilewright: language models inside a web page, and natively, from one Python core.

``Engine`` is the model in this process, ``BlockingEngine`` the same without ``await``,
``ChatWidget`` the chat in a notebook, whose model runs in the reader's browser. Each is imported
when first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .serve.blocking import BlockingEngine as BlockingEngine
    from .serve.local import Engine as Engine
    from .serve.widget import ChatWidget as ChatWidget

__version__ = "0.1.0"

_PLACES = {"Engine": "local", "BlockingEngine": "blocking", "ChatWidget": "widget"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".serve.{_PLACES[name]}", __name__), name)
