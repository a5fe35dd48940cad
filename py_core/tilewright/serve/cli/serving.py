"""``tilewright serve`` and ``tilewright devices``."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from ...errors import InvalidRequestError
from ...webgpu.api import wgpu
from . import options


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    serve = commands.add_parser("serve", help="the OpenAI API over HTTP, and the page beside it")
    options.add_either_model(serve)
    options.add_backend(serve)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    serve.add_argument("--name", help="how requests name the model (default: its own name)")
    serve.add_argument("--sequences", type=int, default=4, help="answers decoded in one batch")
    serve.add_argument("--api-key", help="wanted from clients (default: TILEWRIGHT_API_KEY)")
    serve.add_argument("--cors", metavar="ORIGIN", help="pages of this origin may call (or *)")
    serve.add_argument("--site", type=Path, help="folder of the page, served at /")
    serve.add_argument("--models", type=Path, help="folder of model files for the page")
    serve.set_defaults(run=_serve)
    devices = commands.add_parser("devices", help="list the GPU adapters")
    devices.add_argument("--json", action="store_true")
    devices.set_defaults(run=_devices)


async def _serve(arguments: argparse.Namespace) -> None:
    try:
        import uvicorn

        from ..hosting import listen
        from ..openai.app import create_openai_app
    except ImportError as error:
        raise InvalidRequestError(
            f"Serving needs the package {error.name}: pip install 'tilewright[serve]'."
        ) from error
    with listen(arguments.host, arguments.port) as listener:
        model = await options.load(arguments, max_sequences=arguments.sequences)
        try:
            app = create_openai_app(
                model,
                name=arguments.name,
                api_key=arguments.api_key or os.environ.get("TILEWRIGHT_API_KEY"),
                cors=arguments.cors,
                site=arguments.site,
                models=arguments.models,
            )
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.02)
            if server.started:
                port = listener.getsockname()[1]
                print(f"The OpenAI API is at http://{arguments.host}:{port}/v1", flush=True)
            await serving
        finally:
            await model.close()


async def _devices(arguments: argparse.Namespace) -> None:
    from . import print_json

    for adapter in await wgpu().gpu.enumerate_adapters_async():
        info = {key: value for key, value in dict(adapter.info).items() if value not in ("", None)}
        features = sorted(name for name in adapter.features if name in _INTERESTING)
        limits = {name: adapter.limits[name] for name in _LIMITS if name in adapter.limits}
        if arguments.json:
            print_json({"info": info, "features": features, "limits": limits})
            continue
        print(f"{info.get('device', '?')} ({info.get('backend_type')}, {info.get('adapter_type')})")
        print(f"  driver    {info.get('description', '')}")
        print(f"  features  {', '.join(features) or 'none of those that matter'}")
        print(f"  binding   {limits['max-storage-buffer-binding-size'] / 2**20:.0f} MiB")


_INTERESTING = ("shader-f16", "subgroup", "subgroups", "timestamp-query")
_LIMITS = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-compute-workgroup-storage-size",
    "max-compute-invocations-per-workgroup",
)
