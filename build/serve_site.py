"""Serves ``dist/`` and a folder of models on this machine; prints the address, opens a browser."""

from __future__ import annotations

import argparse
import asyncio
import socket
import webbrowser
from pathlib import Path

import uvicorn

from tilewright.errors import InvalidRequestError
from tilewright.serve.hosting import listen
from tilewright.serve.http import create_app

ROOT = Path(__file__).resolve().parent.parent


async def serve(app: object, host: str, listener: socket.socket, opens: bool) -> None:
    """Serve until interrupted."""
    config = uvicorn.Config(app, log_level="warning", lifespan="off")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.05)
    if server.started:
        found = listener.getsockname()[1]
        address = f"http://{'localhost' if host == '127.0.0.1' else host}:{found}/"
        print(f"Tilewright is at {address} (stop with Ctrl+C)", flush=True)
        if opens:
            webbrowser.open(address)
    await task


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python3 build serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    parser.add_argument("--models", type=Path, help="folder of model files, served at /models/")
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    options = parser.parse_args()
    app = create_app(ROOT / "dist", options.models)
    try:
        listener = listen(options.host, options.port)
    except InvalidRequestError as error:
        raise SystemExit(str(error)) from None
    try:
        asyncio.run(serve(app, options.host, listener, not options.no_open))
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
