"""wgpu over ``navigator.gpu`` in a worker of a real browser: compute, errors, replay, streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.webgpu

SETUP = '''
from array import array
from tilewright.webgpu import bridge
bridge.install()
import wgpu

adapter = await wgpu.gpu.request_adapter_async()
device = await adapter.request_device_async()
CODE = """
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> total: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&total)) { total[id.x] = total[id.x] + a[id.x]; }
}
"""
B = wgpu.BufferUsage
N = 100
a = device.create_buffer_with_data(data=array("f", range(N)), usage=B.STORAGE)
total = device.create_buffer(size=4 * N, usage="STORAGE|COPY_SRC|COPY_DST")
module = device.create_shader_module(code=CODE)
pipeline = await device.create_compute_pipeline_async(
    layout="auto", compute={"module": module, "entry_point": "main"}
)
group = device.create_bind_group(
    layout=pipeline.get_bind_group_layout(0),
    entries=[{"binding": i, "resource": {"buffer": b}} for i, b in enumerate((a, total))],
)

async def read(buffer, offset=0, size=None):
    size = buffer.size - offset if size is None else size
    staging = device.create_buffer(size=size, usage=B.MAP_READ | B.COPY_DST)
    encoder = device.create_command_encoder()
    encoder.copy_buffer_to_buffer(buffer, offset, staging, 0, size)
    device.queue.submit([encoder.finish()])
    await staging.map_async("READ")
    data = bytes(staging.read_mapped())
    staging.unmap()
    return data
'''

Run = Callable[..., Any]


async def test_compute_writes_and_reads(python: Run) -> None:
    result = await python(
        SETUP
        + """
device.queue.write_buffer(total, 0, array("f", [0.5] * N))
encoder = device.create_command_encoder()
compute = encoder.begin_compute_pass()
compute.set_pipeline(pipeline)
compute.set_bind_group(0, group)
compute.dispatch_workgroups(2)
compute.end()
device.queue.submit([encoder.finish()])
await device.queue.on_submitted_work_done_async()
list(memoryview(await read(total)).cast("f"))
"""
    )
    assert result == [index + 0.5 for index in range(100)]


async def test_the_adapter_is_described_as_natively(python: Run) -> None:
    result = await python(
        SETUP
        + """
info = adapter.info
[sorted(adapter.features), adapter.limits["max-buffer-size"], info["backend_type"],
 info["adapter_type"], info.subgroup_min_size, isinstance(device, wgpu.GPUDevice),
 type(wgpu.gpu).__module__]
"""
    )
    features, max_buffer, backend, kind, subgroup, is_device, module = result
    assert "subgroups" in features
    assert max_buffer >= 1 << 28
    assert (backend, kind, is_device) == ("WebGPU", "CPU", True)
    assert subgroup >= 1
    assert module == "tilewright.webgpu.bridge.backend"


async def test_a_shader_error_names_its_line(python: Run) -> None:
    result = await python(
        SETUP
        + """
bad = device.create_shader_module(code="\\n\\n@compute @workgroup_size(1) fn main() { oops(); }")
try:
    await device.create_compute_pipeline_async(
        layout="auto", compute={"module": bad, "entry_point": "main"}
    )
except wgpu.GPUValidationError as error:
    found = str(error)
info = await bad.get_compilation_info_async()
[found, info.messages[0].line_num, info.messages[0].type]
"""
    )
    assert ":3:" in result[0]
    assert "oops" in result[0]
    assert result[1:] == [3, "error"]


async def test_error_scopes_and_uncaptured_errors(python: Run) -> None:
    result = await python(
        SETUP
        + """
device.push_error_scope("validation")
device.create_buffer(size=4, usage="MAP_READ|STORAGE")
first = await device.pop_error_scope_async()
device.push_error_scope("validation")
second = await device.pop_error_scope_async()
device.create_buffer(size=4, usage="MAP_READ|STORAGE")
await read(total)
[type(first).__name__, second is None, len(device.uncaptured_errors)]
"""
    )
    assert result == ["GPUValidationError", True, 1]


async def test_a_plan_is_replayed_and_read_back_late(python: Run) -> None:
    result = await python(
        SETUP
        + """
copy = device.create_buffer(size=4 * N, usage="COPY_SRC|COPY_DST")
plan = bridge.Plan(device, [pipeline], [group], [total, copy], array("i", [
    bridge.DISPATCH, 0, 0, 2, 1, 1,
    bridge.DISPATCH, 0, 0, 2, 1, 1,
    bridge.COPY, 0, 1, 0, 0, 4 * N,
    bridge.CLEAR, 0, 0, 0, 4, 0,
]))
ring = bridge.ReadRing(device, 8, 4)
for _ in range(4):
    plan.replay(ring, total, 4, 8)
try:
    plan.replay(ring, total, 4, 8)
    full = None
except Exception as error:
    full = str(error)
pending = ring.pending
late = [list(memoryview(await ring.pop()).cast("f")) for _ in range(4)]
plan.patch(0, 1, 1, 1)
bridge.replay(plan)
ring.destroy()
[late, pending, full, list(memoryview(await read(copy)).cast("f"))[:2]]
"""
    )
    late, pending, full, copied = result
    assert late == [[2.0, 4.0], [4.0, 8.0], [6.0, 12.0], [8.0, 16.0]]
    assert pending == 4
    assert "full" in full
    assert copied == [0.0, 10.0]  # element 0 is cleared by every replay


async def test_bytes_are_streamed_from_every_kind_of_source(python: Run, server: str) -> None:
    result = await python(
        SETUP
        + """
from js import Blob, Uint8Array
from pyodide.ffi import to_js
from tilewright_sources import BlobSource, UrlSource

url = str(data["url"])
network = bridge.BrowserSource(await UrlSource.open(url))
head = await network.read(0, 4)
target = device.create_buffer(size=1 << 20, usage="COPY_DST|COPY_SRC")
pieces = []
written = await bridge.stream_into(network, 3, 700_001, target, 8, pieces.append)
expected = await network.read(3, 700_001)
same = (await read(target, 0, 700_012)) == bytes(8) + expected + bytes(3)
blob = bridge.BrowserSource(BlobSource.new(Blob.new(to_js([Uint8Array.new(to_js(b"0123456789"))]))))
await bridge.stream_into(blob, 2, 5, target, 0)
part = await read(target, 0, 8)
errors = []
for offset, length in ((0, network.size + 1), (-1, 4)):
    try:
        await network.read(offset, length)
    except Exception as error:
        errors.append(error.code)
try:
    await UrlSource.open(url + ".missing")
except Exception as error:
    missing = str(error)
[bytes(head).decode(), written, same, sum(pieces), part.hex(), errors, missing]
""",
        {"url": f"{server}/models/llama.F16.gguf"},
    )
    head, written, same, counted, part, errors, missing = result
    assert head == "GGUF"
    assert (written, counted, same) == (700_001, 700_001, True)
    assert bytes.fromhex(part) == b"23456\0\0\0"
    assert errors == ["source_unavailable", "source_unavailable"]
    assert "404" in missing


async def test_a_lost_device_is_told(python: Run) -> None:
    result = await python(
        SETUP
        + """
ring = bridge.ReadRing(device, 4, 1)
lost = device.lost_async
device.destroy()
info = await lost
[info.reason, bool(info.message)]
"""
    )
    assert result == ["destroyed", True]
