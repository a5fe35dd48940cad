"""A GPU device: adapter choice, capabilities, pipelines, buffers, small reads.

Everything that needs ``wgpu`` descriptors and is not on the token path is here. Knows nothing of
models.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .. import settings
from ..errors import DeviceLostError, DeviceUnavailableError, KernelError, OutOfMemoryError
from .api import IN_BROWSER, wgpu
from .kernels.kernel import Capabilities, Kernel

_WANTED_FEATURES = ("shader-f16", "subgroup", "subgroups", "timestamp-query")
_WANTED_LIMITS = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-storage-buffers-per-shader-stage",
    "max-compute-invocations-per-workgroup",
    "max-compute-workgroup-size-x",
    "max-compute-workgroup-storage-size",
)


@dataclass(frozen=True)
class BufferRange:
    """A part of a GPU buffer, as it is bound."""

    buffer: Any
    offset: int
    size: int


@dataclass(frozen=True)
class Pipeline:
    """A compiled kernel."""

    label: str
    handle: Any
    layout: Any


@dataclass(frozen=True)
class Fence:
    """A point in the queue's work that can be waited for."""

    device: Device
    staging: Any
    ready: Any

    async def reached(self) -> None:
        """Wait until the GPU has come here; DeviceLostError when it never will."""
        try:
            await self.ready
        except Exception as error:
            raise DeviceLostError(f"The GPU did not finish its work: {error}") from error
        finally:
            self.device.release(self.staging)


_undo: ContextVar[dict[int, Any] | None] = ContextVar("_undo", default=None)
"""Buffers made by the running task inside ``Device.all_or_nothing``, by identity."""


def buffer_bytes(size: int) -> int:
    """Return the bytes of a buffer that was asked for with ``size``: a multiple of 16."""
    return max(16, (size + 15) & ~15)


class Device:
    """One open GPU device."""

    def __init__(self, adapter: Any, handle: Any, capabilities: Capabilities) -> None:
        self.adapter = adapter
        self.handle = handle
        self.capabilities = capabilities
        self._pipelines: dict[str, Pipeline] = {}
        self._compiling: dict[str, asyncio.Future[Pipeline]] = {}
        self._marker: Any = None
        self.allocated = 0
        """Bytes of live buffers made by ``buffer``."""

    @staticmethod
    async def probe() -> Capabilities:
        """Return what ``open`` would give, without opening a device."""
        adapter = await _choose_adapter(wgpu(), settings.current().adapter)
        features = [name for name in _WANTED_FEATURES if name in adapter.features]
        return _capabilities(adapter, adapter, features)

    @classmethod
    async def open(cls) -> Device:
        """Open the best adapter (or the one named by TILEWRIGHT_ADAPTER)."""
        api = wgpu()
        adapter = await _choose_adapter(api, settings.current().adapter)
        features = [name for name in _WANTED_FEATURES if name in adapter.features]
        limits = {name: adapter.limits[name] for name in _WANTED_LIMITS if name in adapter.limits}
        try:
            handle = await adapter.request_device_async(
                required_features=features, required_limits=limits
            )
        except Exception as error:
            raise DeviceUnavailableError(f"The GPU adapter refused a device: {error}") from error
        device = cls(adapter, handle, _capabilities(adapter, handle, features))
        if settings.current().debug >= 1:
            print(f"device: {device.name} {device.capabilities}")
        return device

    @property
    def name(self) -> str:
        """The adapter's name."""
        info = self.adapter.info
        return str(info.get("device") or info.get("description") or info.get("vendor") or "GPU")

    @property
    def queue(self) -> Any:
        """The device's queue."""
        return self.handle.queue

    def buffer(self, size: int, *, label: str = "", usage: Sequence[str] = ()) -> Any:
        """Create a zeroed storage buffer of at least ``size`` bytes, copyable both ways.

        ``usage`` adds names such as ``UNIFORM``; ``MAP_READ`` alone makes a staging buffer.
        """
        size = buffer_bytes(size)
        if size > self.capabilities.max_buffer:
            raise OutOfMemoryError(
                f"A buffer of {size} bytes for {label or 'a tensor'} exceeds this device's "
                f"{self.capabilities.max_buffer}: choose a smaller context or model.",
                size=size,
            )
        flags = wgpu().BufferUsage
        if "MAP_READ" in usage:
            bits = flags.MAP_READ | flags.COPY_DST
        else:
            bits = flags.STORAGE | flags.COPY_SRC | flags.COPY_DST
            for name in usage:
                bits |= getattr(flags, name)
        try:
            handle = self.handle.create_buffer(size=size, usage=bits, label=label)
        except Exception as error:
            raise OutOfMemoryError(
                f"The GPU has no room for {size} bytes ({label}): {error}", size=size
            ) from error
        self.allocated += size
        made = _undo.get()
        if made is not None:
            made[id(handle)] = handle
        return handle

    @asynccontextmanager
    async def all_or_nothing(self) -> AsyncIterator[None]:
        """Free every buffer that the running task made in the block, should the block fail.

        In a browser a buffer that found no room is only reported later: that, too, ends the block,
        as OutOfMemoryError.
        """
        made: dict[int, Any] = {}
        outer = _undo.get()
        token = _undo.set(made)
        try:
            async with self._out_of_memory_scope():
                yield
            if outer is not None:
                outer.update(made)
        except BaseException:
            for buffer in list(made.values()):
                self.release(buffer)
            raise
        finally:
            _undo.reset(token)

    @asynccontextmanager
    async def _out_of_memory_scope(self) -> AsyncIterator[None]:
        if not hasattr(self.handle, "push_error_scope"):  # natively creation itself fails
            yield
            return
        self.handle.push_error_scope("out-of-memory")
        error = None
        try:
            yield
        finally:
            error = await self._pop_scope()
        if error is not None:
            raise OutOfMemoryError(
                f"The GPU has no room for this model: {error} Choose a smaller context or model, "
                "or close other pages that use the GPU."
            )

    async def _pop_scope(self) -> Any:
        try:
            return await self.handle.pop_error_scope_async()
        except Exception:  # the device is gone; what lost it has been, or will be, reported
            return None

    def release(self, buffer: Any) -> None:
        """Destroy a buffer made by ``buffer``."""
        self.allocated -= buffer.size
        made = _undo.get()
        if made is not None:
            made.pop(id(buffer), None)
        buffer.destroy()

    async def pipeline(self, kernel: Kernel) -> Pipeline:
        """Compile ``kernel`` (once per text); KernelError with file and line where that fails."""
        digest = kernel.source.digest
        if digest not in self._pipelines:
            # One asks the compiler; the others that come meanwhile wait for the same answer.
            if digest not in self._compiling:
                self._compiling[digest] = asyncio.ensure_future(self._compile(kernel))
            try:
                self._pipelines[digest] = await asyncio.shield(self._compiling[digest])
            finally:
                self._compiling.pop(digest, None)
        return self._pipelines[digest]

    async def _compile(self, kernel: Kernel) -> Pipeline:
        if settings.current().debug >= 4:
            print(f"// {kernel.label}\n{kernel.source.code}")
        shader_stage = wgpu().ShaderStage.COMPUTE
        kinds = {"read": "read-only-storage", "read_write": "storage", "uniform": "uniform"}
        try:
            code = kernel.source.code
            if not IN_BROWSER:
                # naga knows subgroup functions but refuses the directive that Tint asks for
                code = code.replace("enable subgroups;", "// enable subgroups;")
            module = self.handle.create_shader_module(code=code, label=kernel.label)
            layout = self.handle.create_bind_group_layout(
                entries=[
                    {
                        "binding": number,
                        "visibility": shader_stage,
                        "buffer": {"type": kinds[binding.access]},
                    }
                    for number, binding in enumerate(kernel.bindings)
                ]
            )
            handle = await self.handle.create_compute_pipeline_async(
                layout=self.handle.create_pipeline_layout(bind_group_layouts=[layout]),
                compute={"module": module, "entry_point": "main"},
                label=kernel.label,
            )
        except Exception as error:
            raise KernelError(_explain(kernel, str(error)), kernel=kernel.label) from error
        return Pipeline(kernel.label, handle, layout)

    def bind(self, pipeline: Pipeline, ranges: Sequence[BufferRange]) -> Any:
        """Create the bind group of a dispatch."""
        return self.handle.create_bind_group(
            layout=pipeline.layout,
            entries=[
                {
                    "binding": number,
                    "resource": {"buffer": r.buffer, "offset": r.offset, "size": r.size},
                }
                for number, r in enumerate(ranges)
            ],
        )

    def fence(self) -> Fence:
        """Return what waits until all work submitted so far is done.

        By a small read-back: wgpu 0.32's native ``on_submitted_work_done`` cannot be called.
        """
        if self._marker is None:
            token = _undo.set(None)  # it outlives whatever is being made now
            self._marker = self.buffer(16, label="fence")
            _undo.reset(token)
        staging = self.buffer(16, label="fence", usage=("MAP_READ",))
        encoder = self.handle.create_command_encoder()
        encoder.copy_buffer_to_buffer(self._marker, 0, staging, 0, 4)
        self.queue.submit([encoder.finish()])
        return Fence(self, staging, staging.map_async("READ", 0, 4))

    async def finish(self) -> None:
        """Wait until all submitted work is done."""
        await self.fence().reached()

    async def read(self, buffer: Any, offset: int = 0, size: int | None = None) -> bytes:
        """Copy a range back to the host (waits for the GPU; not for the token path)."""
        size = buffer.size - offset if size is None else size
        padded = (size + 3) & ~3
        staging = self.buffer(padded, label="read-back", usage=("MAP_READ",))
        try:
            encoder = self.handle.create_command_encoder()
            encoder.copy_buffer_to_buffer(buffer, offset, staging, 0, padded)
            self.queue.submit([encoder.finish()])
            await staging.map_async("READ", 0, padded)
            data = bytes(staging.read_mapped(0, padded))[:size]
            staging.unmap()
        except Exception as error:
            raise DeviceLostError(f"The GPU did not return its result: {error}") from error
        finally:
            self.release(staging)
        return data


async def _choose_adapter(api: Any, wanted: str) -> Any:
    try:
        if wanted:
            for adapter in await api.gpu.enumerate_adapters_async():
                if wanted.lower() in str(dict(adapter.info)).lower():
                    return adapter
            raise DeviceUnavailableError(f"No GPU adapter's name contains {wanted!r}.")
        adapter = await api.gpu.request_adapter_async(power_preference="high-performance")
    except DeviceUnavailableError:
        raise
    except Exception as error:
        raise DeviceUnavailableError(f"WebGPU is not usable here: {error}") from error
    if adapter is None:
        raise DeviceUnavailableError(
            "No WebGPU adapter was found: install a Vulkan driver (Debian: mesa-vulkan-drivers) "
            "or, in a browser, enable WebGPU."
        )
    return adapter


def _capabilities(adapter: Any, handle: Any, features: Sequence[str]) -> Capabilities:
    limits, info = handle.limits, adapter.info
    subgroups = "subgroup" in features or "subgroups" in features
    names = ("vendor", "architecture", "device", "description", "backend_type")
    swiftshader = "swiftshader" in str(dict(info)).lower()
    return Capabilities(
        max_binding=int(limits["max-storage-buffer-binding-size"]),
        max_buffer=int(limits["max-buffer-size"]),
        max_workgroups=int(limits["max-compute-workgroups-per-dimension"]),
        max_invocations=int(limits["max-compute-invocations-per-workgroup"]),
        workgroup_memory=int(limits["max-compute-workgroup-storage-size"]),
        storage_buffers=int(limits["max-storage-buffers-per-shader-stage"]),
        offset_alignment=int(limits["min-storage-buffer-offset-alignment"]),
        f16="shader-f16" in features,
        subgroups=subgroups,
        subgroup_min=_subgroup(info, "min", 4) if subgroups else 1,
        # wgpu-native tells the language's largest size, but SwiftShader has only one
        subgroup_max=(4 if swiftshader else _subgroup(info, "max", 128)) if subgroups else 1,
        timestamps="timestamp-query" in features,
        packed_dot=True,
        software=swiftshader or str(info.get("adapter_type", "")).upper() == "CPU",
        key="|".join(str(info.get(name, "")) for name in names),
    )


def _subgroup(info: Any, end: str, default: int) -> int:
    """Read a subgroup size; wgpu 0.32 spells the native key ``stackgroup``."""
    found = info.get(f"subgroup_{end}_size") or info.get(f"stackgroup_{end}_size")
    return int(found or default)


def _explain(kernel: Kernel, message: str) -> str:
    """Name the shader file and line behind a compiler message."""
    match = re.search(r"(?:wgsl|tint)?:(\d+):(\d+)", message)
    where = ""
    if match:
        file, line = kernel.source.origin(int(match.group(1)))
        where = f" at {file}:{line}"
    return f"The kernel {kernel.label} does not compile{where}: {message.strip()}"
