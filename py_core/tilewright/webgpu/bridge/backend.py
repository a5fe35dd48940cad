"""Registers the browser's WebGPU as the backend of ``wgpu``.

Only the compute half is there: what returns textures, canvases or render objects stays unavailable
and says so. Importing this module needs neither a browser nor wgpu; ``install()`` needs both.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .promise import BridgePromise

_PLATFORM: str = sys.platform

COMPUTE_CLASSES = (
    "GPUAdapter",
    "GPUBindGroup",
    "GPUBindGroupLayout",
    "GPUBuffer",
    "GPUCommandBuffer",
    "GPUCommandEncoder",
    "GPUComputePassEncoder",
    "GPUComputePipeline",
    "GPUDevice",
    "GPUPipelineLayout",
    "GPUQuerySet",
    "GPUQueue",
    "GPUShaderModule",
)

# Class name -> the class that wraps JavaScript objects of that name; filled by make_registry().
registry: dict[str, type] = {}


def make_registry() -> dict[str, type]:
    """Generate the wrapper classes (once)."""
    if not registry:
        from . import objects
        from .generate import make_classes

        bodies = {
            name: body
            for name in COMPUTE_CLASSES
            if (body := getattr(objects, name, None)) is not None
        }
        registry.update(make_classes(bodies, objects.Edge, COMPUTE_CLASSES))
    return registry


class GPU:
    """The browser's entry point; takes the place of ``wgpu.gpu``."""

    def request_adapter_async(
        self,
        *,
        feature_level: str = "core",
        power_preference: str | None = None,
        force_fallback_adapter: bool = False,
        canvas: object = None,
    ) -> BridgePromise:
        """Resolve to an adapter, or to None where the browser offers none."""
        from js import navigator

        from .objects import Edge, half
        from .promise import BridgePromise

        if getattr(navigator, "gpu", None) is None:
            raise RuntimeError("This browser has no WebGPU (navigator.gpu is missing).")
        options = {
            "feature_level": feature_level,
            "power_preference": power_preference,
            "force_fallback_adapter": force_fallback_adapter,
        }
        promise = half().requestAdapter(Edge()._descriptor(options))
        return BridgePromise("request_adapter", wrap_adapter, js_promise=promise)

    def request_adapter_sync(self, **options: Any) -> Any:
        """Wait for an adapter where the browser can (Chromium, below ``runPythonAsync``)."""
        return self.request_adapter_async(**options).sync_wait()

    def enumerate_adapters_async(self) -> BridgePromise:
        """Resolve to a list of the one adapter that the browser gives."""
        adapter = self.request_adapter_async()
        listed: BridgePromise = adapter.then(lambda found: [found] if found else [])
        return listed

    def enumerate_adapters_sync(self) -> list[Any]:
        """Wait for the list of adapters, where the browser can."""
        adapter = self.request_adapter_sync()
        return [adapter] if adapter else []

    @property
    def wgsl_language_features(self) -> set[str]:
        """The WGSL language extensions of this browser."""
        from js import navigator

        from .objects import half

        return set(half().names(navigator.gpu.wgslLanguageFeatures).to_py())


def wrap_adapter(js_adapter: Any) -> Any:
    """Return the wrapper of a JavaScript GPUAdapter (null becomes None)."""
    if not js_adapter:
        return None
    from wgpu import classes

    from .objects import features_of, limits_of

    info = js_adapter.info
    is_software = bool(getattr(info, "isFallbackAdapter", False))
    described = classes.GPUAdapterInfo(
        vendor=str(info.vendor),
        architecture=str(info.architecture),
        device=str(info.device),
        description=str(info.description),
        adapter_type="CPU" if is_software else "unknown",
        backend_type="WebGPU",
    )
    for key, name in (
        ("subgroup_min_size", "subgroupMinSize"),
        ("subgroup_max_size", "subgroupMaxSize"),
    ):
        size = getattr(info, name, None)
        if size is not None:
            described[key] = int(size)
    return make_registry()["GPUAdapter"](
        js_adapter, features_of(js_adapter), limits_of(js_adapter), described
    )


def install() -> None:
    """Make ``import wgpu`` use the browser's WebGPU; calling it again does nothing."""
    if _PLATFORM != "emscripten":
        raise RuntimeError("The browser backend of wgpu works in Pyodide only.")
    import wgpu
    from wgpu.backends import _register_backend

    if isinstance(wgpu.gpu, GPU):
        return
    from .objects import half

    half()
    make_registry()
    _register_backend(GPU())


def user_agent() -> str:
    """Return how the browser names itself, with its version."""
    from js import navigator

    return str(navigator.userAgent)
