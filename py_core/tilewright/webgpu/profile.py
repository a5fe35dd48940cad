"""Measures the device itself: the ceiling that kernels are held against.

Knows nothing of models or kernels.
"""

from __future__ import annotations

import time

from .device import Device


async def copy_bandwidth(device: Device, nbytes: int = 64 << 20, repeat: int = 5) -> float:
    """Return bytes per second that a buffer copy reads (it writes as many again).

    The best of ``repeat`` bursts, each long enough that submitting does not matter.
    """
    nbytes = min(nbytes, device.capabilities.max_buffer // 2)
    source = device.buffer(nbytes, label="bandwidth source")
    target = device.buffer(nbytes, label="bandwidth target")
    best = 0.0
    try:
        for _ in range(repeat):
            encoder = device.handle.create_command_encoder()
            for _ in range(4):
                encoder.copy_buffer_to_buffer(source, 0, target, 0, nbytes)
            start = time.perf_counter()
            device.queue.submit([encoder.finish()])
            await device.finish()
            best = max(best, 4 * nbytes / (time.perf_counter() - start))
    finally:
        device.release(source)
        device.release(target)
    return best
