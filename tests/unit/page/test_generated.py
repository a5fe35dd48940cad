"""What is generated is up to date, and bytes cross between names as they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wgpu

from tilewright.webgpu.bridge.backend import COMPUTE_CLASSES, make_registry
from tilewright.webgpu.bridge.convert import camel, limit_name, to_plain
from tilewright.webgpu.bridge.generate import js_name

ROOT = Path(__file__).resolve().parents[3]


def test_the_protocol_of_the_page_is_the_one_of_the_worker() -> None:
    done = subprocess.run(
        [sys.executable, "build/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("javascript", "python"),
    [
        ("maxTextureDimension1D", "max-texture-dimension-1d"),
        ("maxStorageBufferBindingSize", "max-storage-buffer-binding-size"),
        ("maxComputeWorkgroupSizeX", "max-compute-workgroup-size-x"),
        ("maxBindGroupsPlusVertexBuffers", "max-bind-groups-plus-vertex-buffers"),
    ],
)
def test_limits_are_named_as_natively(javascript: str, python: str) -> None:
    assert limit_name(javascript) == python


def test_names_and_descriptors() -> None:
    assert camel("copy_buffer_to_buffer") == "copyBufferToBuffer"
    assert js_name("map_async") == "map"
    assert js_name("create_compute_pipeline_async") == "createComputePipelineAsync"
    entry = {"binding": 0, "visibility": "COMPUTE", "buffer": {"min_binding_size": None}}
    assert to_plain([entry]) == [{"binding": 0, "visibility": 4, "buffer": {}}]
    stage = {"entry_point": "main", "constants": {"tile_size": 4}}
    assert to_plain(stage) == {"entryPoint": "main", "constants": {"tile_size": 4}}


def test_every_compute_method_of_wgpu_has_a_body() -> None:
    registry = make_registry()
    assert set(registry) == set(COMPUTE_CLASSES)
    wanted = {
        "GPUCommandEncoder": [
            "begin_compute_pass",
            "copy_buffer_to_buffer",
            "clear_buffer",
            "resolve_query_set",
            "finish",
        ],
        "GPUComputePassEncoder": [
            "set_pipeline",
            "set_bind_group",
            "dispatch_workgroups",
            "dispatch_workgroups_indirect",
            "end",
        ],
        "GPUDevice": [
            "create_bind_group",
            "create_bind_group_layout",
            "create_pipeline_layout",
            "create_compute_pipeline",
            "create_command_encoder",
        ],
        "GPUComputePipeline": ["get_bind_group_layout"],
        "GPUQueue": ["submit"],
        "GPUQuerySet": ["destroy"],
    }
    for name, methods in wanted.items():
        for method in methods:
            assert getattr(registry[name], method).__module__.endswith("bridge.generate"), method


def test_generated_methods_call_javascript_with_its_names() -> None:
    calls: list[tuple[object, ...]] = []

    class FakePass:
        def dispatchWorkgroups(self, *args: object) -> None:
            calls.append(args)

        def setBindGroup(self, *args: object) -> None:
            calls.append(args)

    registry = make_registry()
    compute = registry["GPUComputePassEncoder"]("", FakePass(), None)
    group = registry["GPUBindGroup"]("", "js group", None)
    compute.dispatch_workgroups(7)  # type: ignore[attr-defined]
    compute.dispatch_workgroups(1, 2, 3)  # type: ignore[attr-defined]
    compute.set_bind_group(0, group)  # type: ignore[attr-defined]
    compute.set_bind_group(index=1, bind_group=group)  # type: ignore[attr-defined]
    assert calls == [(7,), (1, 2, 3), (0, "js group"), (1, "js group")]
    with pytest.raises(TypeError, match="unknown arguments"):
        compute.dispatch_workgroups(1, depth=3)  # type: ignore[attr-defined]
    assert isinstance(compute, wgpu.GPUComputePassEncoder)
