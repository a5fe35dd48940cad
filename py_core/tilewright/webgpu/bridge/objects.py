"""The bodies of wgpu methods that are more than one JavaScript call.

Mapping and writing memory, compile messages, error scopes, lost devices, and constructors with
more than a label. Each class here is mixed over the class of the same name in ``wgpu.classes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wgpu import classes, flags

from .convert import limit_name, to_number, to_plain
from .promise import BridgePromise, gpu_error


class Edge:
    """What every wrapper shares: the way a descriptor becomes a JavaScript object."""

    _internal: Any
    _device: Any

    def _descriptor(self, fields: dict[str, Any]) -> Any:
        from js import Object
        from pyodide.ffi import to_js

        return to_js(to_plain(fields), dict_converter=Object.fromEntries)

    def _argument(self, value: Any) -> Any:
        """Pass numbers, text and JavaScript objects as they are, and lists as arrays."""
        if isinstance(value, list):
            from pyodide.ffi import to_js

            return to_js(value)
        return value


def half() -> Any:
    """Return the JavaScript half, or say how to provide it."""
    try:
        import tilewright_gpu_bridge  # type: ignore[import-not-found]
    except ImportError as error:
        raise RuntimeError(
            "The JavaScript half is not registered: call pyodide.registerJsModule("
            "'tilewright_gpu_bridge', await import('./gpu_bridge.js')) before install()."
        ) from error
    return tilewright_gpu_bridge


def features_of(js_object: Any) -> set[str]:
    """Return the feature names of an adapter or a device."""
    return set(half().names(js_object.features).to_py())


def limits_of(js_object: Any) -> dict[str, int]:
    """Return the limits of an adapter or a device under wgpu-py's names."""
    limits = js_object.limits
    return {limit_name(name): int(getattr(limits, name)) for name in half().names(limits).to_py()}


class GPUAdapter(Edge):
    """Device creation with the names of features and limits as wgpu-py writes them."""

    def request_device_async(
        self,
        *,
        label: str = "",
        required_features: Sequence[str] = (),
        required_limits: dict[str, int | None] | None = None,
        default_queue: dict[str, Any] | None = None,
    ) -> BridgePromise:
        """Request a device; see ``wgpu.GPUAdapter.request_device_async``."""
        known = {limit_name(name): name for name in half().names(self._internal.limits).to_py()}
        limits: dict[str, int] = {}
        for name, value in (required_limits or {}).items():
            key = name.replace("_", "-")
            key = key if key in known else limit_name(name)
            if key not in known:
                raise ValueError(f"Unknown limit {name!r}: known are {', '.join(sorted(known))}.")
            if value is not None:
                limits[known[key]] = value
        fields = {
            "label": label,
            "required_features": list(required_features),
            "default_queue": default_queue,
        }
        descriptor = self._descriptor(fields)
        descriptor.requiredLimits = self._descriptor(dict(limits))

        def handler(value: Any) -> Any:
            from .backend import registry

            queue = registry["GPUQueue"]("", value.queue, None)
            device = registry["GPUDevice"](
                label, value, self, features_of(value), limits_of(value), queue
            )
            device._uncaptured = half().watchErrors(value)
            return device

        promise = self._internal.requestDevice(descriptor)
        return BridgePromise("request_device", handler, js_promise=promise)


class GPUDevice(Edge):
    """Buffers, query sets, pipelines with readable errors, error scopes, the lost promise."""

    _uncaptured: Any = None

    def create_buffer(
        self, *, label: str = "", size: int, usage: int | str, mapped_at_creation: bool = False
    ) -> Any:
        """Create a buffer; see ``wgpu.GPUDevice.create_buffer``."""
        from .backend import registry

        number = to_number(flags.BufferUsage, usage)
        fields = {
            "label": label,
            "size": size,
            "usage": number,
            "mapped_at_creation": bool(mapped_at_creation),
        }
        internal = self._internal.createBuffer(self._descriptor(fields))
        state = "mapped" if mapped_at_creation else "unmapped"
        buffer = registry["GPUBuffer"](label, internal, self, size, number, state)
        if mapped_at_creation:
            buffer._mapped_range = (0, size)
        return buffer

    def create_query_set(self, *, label: str = "", type: str, count: int) -> Any:
        """Create a query set; see ``wgpu.GPUDevice.create_query_set``."""
        from .backend import registry

        fields = {"label": label, "type": type, "count": count}
        internal = self._internal.createQuerySet(self._descriptor(fields))
        return registry["GPUQuerySet"](label, internal, self, type, count)

    def create_compute_pipeline_async(
        self, *, label: str = "", layout: Any, compute: Any
    ) -> BridgePromise:
        """Create a pipeline; a failure names the lines that the shader compiler complains about."""
        from .backend import registry

        module = compute["module"]
        fields = {"label": label, "layout": layout, "compute": compute}
        promise = half().createPipeline(self._internal, self._descriptor(fields), module._code)

        def handler(value: Any) -> Any:
            return registry["GPUComputePipeline"](label, value, self)

        return BridgePromise("create_compute_pipeline", handler, js_promise=promise)

    def create_shader_module(
        self, *, label: str = "", code: str, compilation_hints: Sequence[Any] = ()
    ) -> Any:
        """Create a shader module; see ``wgpu.GPUDevice.create_shader_module``."""
        from .backend import registry

        fields = {"label": label, "code": code, "compilation_hints": compilation_hints}
        internal = self._internal.createShaderModule(self._descriptor(fields))
        module = registry["GPUShaderModule"](label, internal, self)
        module._code = code
        return module

    def push_error_scope(self, filter: str) -> None:
        """Start collecting errors of one kind: validation, out-of-memory or internal."""
        self._internal.pushErrorScope(filter)

    def pop_error_scope_async(self) -> BridgePromise:
        """Return the first error since the matching push, or None."""

        def handler(value: Any) -> Exception | None:
            # JavaScript's null is Pyodide's jsnull: false, but not None.
            return gpu_error(value) if value else None

        return BridgePromise("pop_error_scope", handler, js_promise=self._internal.popErrorScope())

    @property
    def uncaptured_errors(self) -> list[Exception]:
        """The errors that no scope caught, oldest first, at most 16."""
        return [gpu_error(error) for error in self._uncaptured]

    @property
    def lost_async(self) -> BridgePromise:
        """Resolves to a ``GPUDeviceLostInfo`` when the device is lost."""
        return self._get_lost_async()

    def _get_lost_async(self) -> BridgePromise:
        def handler(value: Any) -> Any:
            return classes.GPUDeviceLostInfo(str(value.reason), str(value.message))

        return BridgePromise("lost", handler, js_promise=self._internal.lost)

    def destroy(self) -> None:
        """Destroy the device and all that was made from it."""
        self._internal.destroy()


class GPUBuffer(Edge):
    """Mapping: the mapped range is asked for once, and read or written by parts."""

    _mapped_range: tuple[int, int] | None = None
    _mapped_bytes: Any = None
    _map_state: str
    size: int

    def map_async(self, mode: int | str, offset: int = 0, size: int | None = None) -> BridgePromise:
        """Map a range; see ``wgpu.GPUBuffer.map_async``."""
        number = to_number(flags.MapMode, mode)
        length = self.size - offset if size is None else size
        self._map_state = "pending"

        def handler(_value: Any) -> None:
            self._map_state = "mapped"
            self._mapped_range = (offset, length)

        promise = half().mapBuffer(self._device._internal, self._internal, number, offset, length)
        return BridgePromise("map", handler, js_promise=promise)

    def _part(self, offset: int | None, size: int | None) -> Any:
        from js import Uint8Array

        if self._mapped_range is None:
            raise RuntimeError("The buffer is not mapped: await map_async() first.")
        start, length = self._mapped_range
        if self._mapped_bytes is None:
            self._mapped_bytes = Uint8Array.new(self._internal.getMappedRange(start, length))
        first = start if offset is None else offset
        count = start + length - first if size is None else size
        if first < start or count < 0 or first + count > start + length:
            raise ValueError(
                f"bytes {first} to {first + count} are outside the mapped range "
                f"{start} to {start + length}"
            )
        return self._mapped_bytes.subarray(first - start, first - start + count)

    def read_mapped(
        self, buffer_offset: int | None = None, size: int | None = None, *, copy: bool = True
    ) -> memoryview:
        """Return a copy of mapped bytes; a browser cannot show them in place (``copy=False``)."""
        if not copy:
            raise ValueError("Mapped memory is outside Python's heap in a browser: use copy=True.")
        view: memoryview = self._part(buffer_offset, size).to_memoryview()
        return view

    def write_mapped(self, data: Any, buffer_offset: int | None = None) -> None:
        """Write bytes into the mapped range."""
        view = memoryview(data).cast("B")
        self._part(buffer_offset, view.nbytes).assign(view)

    def unmap(self) -> None:
        """Give the mapped range back to the GPU."""
        self._internal.unmap()
        self._map_state = "unmapped"
        self._mapped_range = self._mapped_bytes = None

    def destroy(self) -> None:
        """Free the buffer's memory."""
        self._internal.destroy()
        self._map_state = "unmapped"
        self._mapped_range = self._mapped_bytes = None


class GPUQueue(Edge):
    """Writing from Python's memory or from a JavaScript array."""

    def write_buffer(
        self,
        buffer: Any,
        buffer_offset: int,
        data: Any,
        data_offset: int = 0,
        size: int | None = None,
    ) -> None:
        """Write bytes; ``data`` is Python memory, or a JavaScript ArrayBuffer (then uncopied)."""
        from pyodide.ffi import JsProxy

        if isinstance(data, JsProxy):
            arguments = [buffer._internal, buffer_offset, data, data_offset]
            self._internal.writeBuffer(*arguments, *([] if size is None else [size]))
            return
        view = memoryview(data)
        if not view.contiguous:
            raise ValueError("write_buffer needs contiguous data")
        start = data_offset * view.itemsize
        view = view.cast("B")
        view = view[start : view.nbytes if size is None else start + size]
        half().writeFromPython(self._internal, buffer._internal, buffer_offset, view)

    def read_buffer(self, buffer: Any, buffer_offset: int = 0, size: int | None = None) -> Any:
        """Not to be had in a browser."""
        raise RuntimeError("A browser cannot wait here: copy to a MAP_READ buffer and map_async().")

    def on_submitted_work_done_async(self) -> BridgePromise:
        """Resolves when all that was submitted so far is done."""
        promise = half().workDone(self._device._internal)
        return BridgePromise("on_submitted_work_done", None, js_promise=promise)


class GPUCompilationMessage(classes.GPUCompilationMessage):  # type: ignore[misc]
    """One message of the shader compiler, read from JavaScript."""

    def __init__(self, message: Any) -> None:
        self._message = message

    message = property(lambda self: str(self._message.message))
    type = property(lambda self: str(self._message.type))
    line_num = property(lambda self: int(self._message.lineNum))
    line_pos = property(lambda self: int(self._message.linePos))
    offset = property(lambda self: int(self._message.offset))
    length = property(lambda self: int(self._message.length))


class GPUCompilationInfo(classes.GPUCompilationInfo):  # type: ignore[misc]
    """The messages of one shader module."""

    def __init__(self, info: Any) -> None:
        self._messages = [GPUCompilationMessage(message) for message in info.messages]

    messages = property(lambda self: self._messages)


class GPUShaderModule(Edge):
    """Compile messages; the source is kept to explain a failing pipeline."""

    _code: str | None = None

    def get_compilation_info_async(self) -> BridgePromise:
        """Resolves to the compiler's messages."""
        promise = self._internal.getCompilationInfo()
        return BridgePromise("get_compilation_info", GPUCompilationInfo, js_promise=promise)
