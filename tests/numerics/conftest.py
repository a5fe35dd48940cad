"""One GPU device for all numerics tests; skipped, saying so, where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tilewright.errors import DeviceUnavailableError
from tilewright.webgpu.device import Device


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def device() -> AsyncIterator[Device]:
    try:
        opened = await Device.open()
    except DeviceUnavailableError as error:
        pytest.skip(f"no WebGPU device: {error.message}")
    yield opened
