"""Bytes of a model from the browser's side: small reads into Python, large ones past it.

A ``BrowserSource`` wraps a JavaScript ``ByteSource`` (a URL, a Blob, a stored file; see
``web/src/store/``). Headers are read through it; weights go by ``stream_into``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ...errors import CancelledError, SourceError, TilewrightError
from ...formats.source import check_range


def _translated(error: Any) -> TilewrightError:
    """Turn what JavaScript threw into an error of Tilewright."""
    reason = error.js_error
    if getattr(reason, "name", "") == "AbortError" or getattr(reason, "code", "") == "cancelled":
        return CancelledError("Loading was stopped.")
    details = getattr(reason, "details", None)
    facts = {} if details is None else details.to_py()
    return SourceError(str(reason.message), **facts)


async def open_source(opening: Awaitable[Any]) -> BrowserSource:
    """Await what JavaScript opens (an object with ``source`` and ``signal``) and wrap it."""
    from pyodide.ffi import JsException

    try:
        opened = await opening
    except JsException as error:
        raise _translated(error) from error
    return BrowserSource(opened.source, opened.signal)


@dataclass(frozen=True)
class Begun:
    """What an earlier load of a stored file left, as JavaScript gives it (``connect.ts``)."""

    program: bytes
    python: bytes
    js_memory: Any
    """A ``WebAssembly.Memory`` that is being filled; None where there is none."""
    filled: Callable[[], Awaitable[int | None]]
    """Bytes read for that, after a moment; None once it is filled.

    Raises CancelledError, SourceError.
    """


class BrowserSource:
    """A JavaScript source as ``tilewright.formats.source.ByteSource``."""

    def __init__(self, js_source: Any, signal: Any = None) -> None:
        self.js_source = js_source
        self.signal = signal
        self.name = str(js_source.name)
        self.size = int(js_source.size)

    @property
    def stored(self) -> bool:
        """Whether the bytes are kept on this device for the next visit."""
        return bool(getattr(self.js_source, "stored", False))

    @property
    def at_hand(self) -> bool:
        """Whether they can be read again without a network."""
        return bool(getattr(self.js_source, "atHand", False))

    @property
    def begun(self) -> Begun | None:
        """What an earlier load left for this one; None where there is nothing."""
        found = getattr(self.js_source, "begun", None)
        if found is None:
            return None
        parts = found.program.to_bytes(), found.python.to_bytes()
        return Begun(*parts, getattr(found, "memory", None), self._filled)

    async def _filled(self) -> int | None:
        from pyodide.ffi import JsException

        try:
            done = await self.js_source.filled()
            return None if done is None else int(done)
        except JsException as error:
            raise _translated(error) from error

    async def prepare(self, recipe: str, *parts: bytes) -> bool:
        """Keep for the next load what this one found out; False where nothing is kept."""
        from pyodide.ffi import JsException, to_js

        if not hasattr(self.js_source, "prepare"):
            return False
        try:
            return bool(await self.js_source.prepare(recipe, *map(to_js, parts)))
        except JsException as error:
            raise _translated(error) from error

    async def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        from pyodide.ffi import JsException

        check_range(self, offset, length)
        try:
            data = await self.js_source.read(offset, length, self.signal)
        except JsException as error:
            raise _translated(error) from error
        result: bytes = data.to_bytes()
        return result

    async def move(
        self, offset: int, length: int, put: Callable[[Any, Any], Awaitable[Any]]
    ) -> None:
        """Let ``put(js_source, signal)`` take a range; its failures become errors of ours."""
        from pyodide.ffi import JsException

        check_range(self, offset, length)
        try:
            await put(self.js_source, self.signal)
        except JsException as error:
            raise _translated(error) from error

    async def find(self, name: str) -> BrowserSource | None:
        """Return the file of that name beside this one; None where there is none."""
        from pyodide.ffi import JsException

        if not hasattr(self.js_source, "find"):
            return None
        try:
            found = await self.js_source.find(name)
        except JsException as error:
            raise _translated(error) from error
        return BrowserSource(found, self.signal) if hasattr(found, "read") else None

    def close(self) -> None:
        """Release the file or the connection."""
        self.js_source.close()


async def stream_into(
    source: BrowserSource,
    byte_offset: int,
    length: int,
    gpu_buffer: Any,
    buffer_offset: int = 0,
    on_bytes: Callable[[int], None] | None = None,
) -> int:
    """Stream a byte range into a COPY_DST buffer, in pieces of up to 1 MiB, past Python.

    ``buffer_offset`` is a multiple of 4; a length that is not is padded with zero bytes.
    ``on_bytes`` is called with the length of each piece. Returns the number of bytes of the source
    that were written. Raises SourceError when bytes cannot be read, CancelledError when stopped.
    """
    from pyodide.ffi import JsException, create_proxy

    from .objects import half

    check_range(source, byte_offset, length)
    callback = create_proxy(on_bytes) if on_bytes else None
    device = gpu_buffer._device._internal
    try:
        return int(
            await half().streamInto(
                device,
                source.js_source,
                byte_offset,
                length,
                gpu_buffer._internal,
                buffer_offset,
                callback,
                source.signal,
            )
        )
    except JsException as error:
        raise _translated(error) from error
    finally:
        if callback is not None:
            callback.destroy()
