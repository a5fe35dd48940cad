"""Runs one kernel on the GPU for a test: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilewright.webgpu.device import BufferRange, Device
from tilewright.webgpu.kernels.kernel import Kernel


async def run(
    device: Device, kernel: Kernel, arrays: Mapping[str, np.ndarray], *, repeat: int = 1
) -> dict[str, np.ndarray]:
    """Bind ``arrays`` by name, dispatch, and return the final content of the writable ones.

    Uniforms are given as u32 arrays. Storage arrays are padded to 16 bytes.
    """
    pipeline = await device.pipeline(kernel)
    buffers = {}
    for binding in kernel.bindings:
        array = np.ascontiguousarray(arrays[binding.name])
        usage = ("UNIFORM",) if binding.access == "uniform" else ()
        buffer = device.buffer(array.nbytes, label=binding.name, usage=usage)
        data = array.tobytes()
        device.queue.write_buffer(buffer, 0, data + bytes(-len(data) % 4))
        buffers[binding.name] = buffer
    group = device.bind(
        pipeline,
        [BufferRange(buffers[b.name], 0, buffers[b.name].size) for b in kernel.bindings],
    )
    encoder = device.handle.create_command_encoder()
    compute = encoder.begin_compute_pass()
    for _ in range(repeat):
        compute.set_pipeline(pipeline.handle)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(*kernel.grid)
    compute.end()
    device.queue.submit([encoder.finish()])
    results = {}
    for binding in kernel.bindings:
        if binding.access == "read_write":
            array = arrays[binding.name]
            data = await device.read(buffers[binding.name], 0, array.nbytes)
            results[binding.name] = np.frombuffer(data, array.dtype).reshape(array.shape).copy()
    for buffer in buffers.values():
        device.release(buffer)
    return results
