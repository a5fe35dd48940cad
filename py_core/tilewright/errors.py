"""Every error that Tilewright raises on purpose.

Each class has a stable ``code`` (it crosses the worker, HTTP and CLI boundaries unchanged) and is
raised with one sentence that says what was wrong and what to do. This module imports nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TilewrightError(Exception):
    """Base of all errors; ``code`` is stable, ``details`` are JSON-serialisable facts."""

    code: ClassVar[str] = "tilewright_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details

    def to_dict(self) -> dict[str, Any]:
        """Return the form in which the error crosses a boundary."""
        return {"code": self.code, "message": self.message, "details": self.details}


class FormatError(TilewrightError):
    """A model file is damaged or is not of the format it claims to be."""

    code = "bad_model_file"


class UnsupportedModelError(TilewrightError):
    """The file is sound, but its architecture, tokenizer or quantization is not known here."""

    code = "unsupported_model"


class SourceError(TilewrightError):
    """Bytes could not be read: missing file, network, wrong length, changed while reading."""

    code = "source_unavailable"


class TokenizerError(TilewrightError):
    """A vocabulary is unusable, or ids are outside it."""

    code = "bad_tokenizer"


class TemplateError(TilewrightError):
    """A chat template failed, looped, or refused its messages."""

    code = "template_failed"


class InvalidRequestError(TilewrightError):
    """An argument is out of range or of the wrong type."""

    code = "invalid_request"


class ContextLengthError(InvalidRequestError):
    """A prompt (or prompt plus answer) does not fit the context."""

    code = "context_length_exceeded"


class DeviceUnavailableError(TilewrightError):
    """There is no usable GPU adapter, or it lacks what is needed."""

    code = "no_device"


class DeviceLostError(TilewrightError):
    """The GPU device was lost while in use."""

    code = "device_lost"


class OutOfMemoryError(TilewrightError):
    """The device or the host has no room for what was asked."""

    code = "out_of_memory"


class KernelError(TilewrightError):
    """A shader does not compile or a kernel was asked for what it cannot do."""

    code = "kernel_failed"


class BusyError(TilewrightError):
    """The engine's queue is full."""

    code = "busy"


class CancelledError(TilewrightError):
    """The caller stopped the work."""

    code = "cancelled"
