"""Hands out the ``wgpu`` API of the world we run in; no other module asks which world that is.

Natively it is wgpu-native through the ``wgpu`` package. In Pyodide it is the same package over
``navigator.gpu``, made complete by ``webgpu/bridge``. Only the asynchronous half is used.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from ..errors import DeviceUnavailableError

IN_BROWSER = sys.platform == "emscripten"


def wgpu() -> Any:
    """Return the ``wgpu`` module; DeviceUnavailableError where it is not installed."""
    if IN_BROWSER:
        from . import bridge

        bridge.install()
    else:
        # Without it Wayland's client library complains on standard error, even headless.
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    try:
        import wgpu as module
    except ImportError as error:
        raise DeviceUnavailableError(
            "The package 'wgpu' is not installed: run `pip install tilewright[native]`."
        ) from error
    return module


def library() -> str:
    """Return name and version of what compiles the shaders: part of every tuning record's key.

    Natively the GPU library, in a page the browser.
    """
    if IN_BROWSER:
        from . import bridge

        return bridge.user_agent()
    return f"wgpu {wgpu().__version__}"
