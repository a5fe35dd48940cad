"""The compute half of the ``wgpu`` API over the browser's ``navigator.gpu``, for Pyodide.

``install()`` registers it as wgpu's backend, after which ``import wgpu`` works in a page or worker;
``Plan``, ``ReadRing`` and ``stream_into`` are the three things that must not be done call by call.
Usable without the rest of Tilewright: the page registers the JavaScript half (``gpu_bridge.js`` of
the runtime folder) as ``tilewright_gpu_bridge`` with ``pyodide.registerJsModule``.
Knows nothing about models or kernels.
"""

from __future__ import annotations

from .backend import install, user_agent
from .replay import CLEAR, COPY, DISPATCH, DISPATCH_INDIRECT, RECORD_FIELDS, Plan, ReadRing, replay
from .stream import BrowserSource, open_source, stream_into

__all__ = [
    "CLEAR",
    "COPY",
    "DISPATCH",
    "DISPATCH_INDIRECT",
    "RECORD_FIELDS",
    "BrowserSource",
    "Plan",
    "ReadRing",
    "install",
    "open_source",
    "replay",
    "stream_into",
    "user_agent",
]
