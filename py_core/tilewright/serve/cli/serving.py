"""``tilewright serve`` and ``tilewright devices``."""

from __future__ import annotations

import argparse
from typing import Any

from ...webgpu.api import wgpu


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    devices = commands.add_parser("devices", help="list the GPU adapters")
    devices.add_argument("--json", action="store_true")
    devices.set_defaults(run=_devices)


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
