"""Errors in OpenAI's shape, with our stable codes."""

from __future__ import annotations

from typing import TypedDict

from ...errors import TilewrightError

_STATUS = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "template_failed": 400,
    "bad_tokenizer": 400,
    "unsupported_model": 400,
    "model_not_found": 404,
    "not_found": 404,
    "busy": 429,
    "cancelled": 499,
    "device_lost": 503,
    "out_of_memory": 503,
}
"""Codes of ``tilewright/errors.py`` to HTTP status; all others are 500."""


class ErrorDetail(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(TypedDict):
    """The body of a failed request, or the last event of a failed stream."""

    error: ErrorDetail


class NotFoundError(TilewrightError):
    """There is no such path."""

    code = "not_found"


class ModelNotFoundError(TilewrightError):
    """The request names a model that is not loaded."""

    code = "model_not_found"


def status_of(error: TilewrightError) -> int:
    """Return the HTTP status of an error."""
    return _STATUS.get(error.code, 500)


def error_body(error: TilewrightError) -> ErrorBody:
    """Return an error as OpenAI's clients read it."""
    status = status_of(error)
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    field = error.details.get("field")
    return {
        "error": {
            "message": error.message,
            "type": kind if status < 500 else "server_error",
            "param": str(field) if field is not None else None,
            "code": error.code,
        }
    }


def unexpected(error: Exception) -> ErrorBody:
    """Return the body for a defect of ours."""
    message = f"{type(error).__name__}: {error}"
    return {
        "error": {"message": message, "type": "server_error", "param": None, "code": "internal"}
    }
