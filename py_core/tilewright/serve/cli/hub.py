"""``tilewright models`` and ``tilewright pull``: which models there are, and getting them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from ..hub.cache import default_folder, default_token, local_models
from ..hub.client import Client, default_hub
from ..hub.pull import pull
from . import options

_CURATED = "curated_models.json"


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    models = commands.add_parser("models", help="models worth trying, and those on this machine")
    models.add_argument("--local", action="store_true", help="only those on this machine")
    models.add_argument("--folder", type=Path, help="the cache (default: the Hub's own)")
    models.add_argument("--json", action="store_true")
    models.set_defaults(run=_models)
    get = commands.add_parser("pull", help="fetch a model into the Hub's cache")
    get.add_argument(
        "reference",
        metavar="REF",
        help="hf:org/repo[:QUANT][/file][@revision]; hf: may be left out",
    )
    get.add_argument("--folder", type=Path, help="the cache (default: the Hub's own)")
    get.add_argument("--hub", default=None, help="address of a mirror (default: HF_ENDPOINT)")
    get.add_argument("--budget", type=int, metavar="MB", help="prefer a file of at most so much")
    get.add_argument("--retries", type=int, default=5, help="of each request")
    get.add_argument("--pause", type=float, default=0.5, help="seconds before the first retry")
    get.add_argument("--quiet", action="store_true", help="no progress bar")
    get.set_defaults(run=_pull)


async def _pull(arguments: argparse.Namespace) -> None:
    from . import print_json

    text = arguments.reference
    reference = text if text.startswith("hf:") else f"hf:{text}"
    client = Client(
        (arguments.hub or default_hub()).rstrip("/"),
        default_token(),
        retries=arguments.retries,
        pause=arguments.pause,
    )
    bar = options.ProgressBar(enabled=sys.stderr.isatty() and not arguments.quiet)
    try:
        found = await pull(
            reference,
            client=client,
            folder=arguments.folder,
            budget=None if arguments.budget is None else arguments.budget * 1_000_000,
            on_progress=bar.show,
        )
    finally:
        bar.close()
    print_json(
        {
            "reference": reference,
            "path": str(found.path),
            "chosen": found.label,
            "commit": found.commit,
            "files": list(found.files),
            "bytes_fetched": found.fetched,
        }
    )


async def _models(arguments: argparse.Namespace) -> None:
    from . import print_json

    folder = arguments.folder or default_folder()
    here = await asyncio.to_thread(lambda: list(local_models(folder)))
    curated = [] if arguments.local else curated_models()
    if arguments.json:
        local = [
            {"reference": model.reference, "path": str(model.path), "bytes": model.nbytes}
            for model in here
        ]
        print_json({"curated": curated, "local": local})
        return
    for model in curated:
        print(f"{model['bytes'] / 1e6:7.0f} MB  {model['name']} ({model['license']})")
        print(f"            {model['reference']}")
        print(f"            {model['good_at']}")
    if here:
        print(f"On this machine, in {folder}:")
    for found in here:
        print(f"{found.nbytes / 1e6:7.0f} MB  {found.reference}")


def curated_models() -> list[dict[str, Any]]:
    """Return the list that comes with Tilewright; the page shows the same."""
    text = (resources.files("tilewright.serve") / _CURATED).read_text(encoding="utf-8")
    models: list[dict[str, Any]] = json.loads(text)["models"]
    return models
