"""Ports of this machine, and a site on one of them, in a thread, beside the runtime folder.

The site is for tests and notebooks, which have no event loop to lend. Natively only (Starlette,
uvicorn).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from ..errors import InvalidRequestError, SourceError
from .http import create_app

RUNTIME_PATH = "/tilewright"
"""Where the runtime folder lies on a hosted site."""


def find_runtime() -> Path:
    """Return the built runtime folder: ``TILEWRIGHT_RUNTIME``, or ``dist/`` of this checkout.

    Raises SourceError where there is none.
    """
    told = os.environ.get("TILEWRIGHT_RUNTIME")
    folder = Path(told) if told else Path(__file__).resolve().parents[3] / "dist"
    if not (folder / "manifest.json").is_file():
        raise SourceError(
            f"{folder} is no runtime folder: build one with `python3 build site`, or set "
            "TILEWRIGHT_RUNTIME to one.",
            folder=str(folder),
        )
    return folder


def listen(host: str, port: int) -> socket.socket:
    """Take a port (0: a free one). Raises InvalidRequestError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = "ports end at 65535"
    if 0 <= port <= 65535:
        try:
            return socket.create_server((host, port), family=family)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
    raise InvalidRequestError(
        f"Port {port} of {host} cannot be used ({reason}): choose another with --port, 0 for a "
        "free one.",
        field="port",
    )


class HostedSite:
    """Serves ``folder`` at ``/`` and the runtime at ``/tilewright/`` until it is closed.

    Args:
        folder: served as a plain static host does; None: only the runtime.
        runtime: the runtime folder; None: only the site.
        headers: added to every answer of the site, for example a policy.

    """

    def __init__(
        self,
        folder: Path | None = None,
        runtime: Path | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        routes: list[BaseRoute] = []
        if runtime is not None:
            routes.append(Mount(RUNTIME_PATH, app=create_app(runtime)))
        if folder is not None:
            # Examples may be links into another folder.
            files = StaticFiles(directory=folder, html=True, follow_symlink=True)
            routes.append(Mount("/", app=_with_headers(files, headers or {})))
        config = uvicorn.Config(
            Starlette(routes=routes), host="127.0.0.1", port=0, log_level="warning", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise SourceError("The server of the site did not start.")
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    @property
    def runtime_url(self) -> str:
        """Address of the runtime folder."""
        return self.url + RUNTIME_PATH

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)

    def __enter__(self) -> HostedSite:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _with_headers(app: Any, headers: dict[str, str]) -> Any:
    """Wrap an ASGI application so that its answers carry these headers."""
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def send_with(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await app(scope, receive, send_with)

    return wrapped
