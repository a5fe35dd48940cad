"""wgpu's promise over a JavaScript promise, and the errors that come out of one.

Awaiting goes straight to the JavaScript promise: no thread, no polling, one turn of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from wgpu import classes

_ERROR_CLASSES: dict[str, type[Exception]] = {
    "GPUValidationError": classes.GPUValidationError,
    "GPUOutOfMemoryError": classes.GPUOutOfMemoryError,
    "GPUInternalError": classes.GPUInternalError,
}


def gpu_error(error: Any) -> Exception:
    """Turn a JavaScript GPUError, GPUPipelineError or DOMException into the class of wgpu-py."""
    reason = str(getattr(error, "reason", ""))
    kind = "GPUInternalError" if reason == "internal" else "GPUValidationError"
    constructor = str(getattr(getattr(error, "constructor", None), "name", ""))
    if constructor in _ERROR_CLASSES:
        kind = constructor
    elif not reason:
        plain: Exception = classes.GPUError(f"{getattr(error, 'name', 'Error')}: {error.message}")
        return plain
    return _ERROR_CLASSES[kind](str(error.message))


class BridgePromise(classes.GPUPromise):  # type: ignore[misc]
    """A GPUPromise that settles with a JavaScript promise; ``handler`` makes the Python result."""

    def __init__(
        self,
        title: str,
        handler: Callable[[Any], Any] | None,
        *,
        js_promise: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(title, handler, **options)
        self._js_promise = js_promise
        if js_promise is not None:
            self._js_promise = js_promise.then(self._fulfil, self._reject)

    def _fulfil(self, value: Any) -> None:
        self._wgpu_set_input(value)

    def _reject(self, error: Any) -> None:
        self._wgpu_set_error(gpu_error(getattr(error, "js_error", error)))

    def __await__(self) -> Generator[Any, None, Any]:
        if self._js_promise is None or self._state != "pending":
            return (yield from super().__await__())
        yield from self._js_promise.__await__()
        return self._resolve()

    def _sync_wait(self) -> None:
        from pyodide.ffi import can_run_sync, run_sync

        if self._js_promise is None or not can_run_sync():
            raise RuntimeError("A browser cannot wait here: use the _async method and await it.")
        run_sync(self._js_promise)
