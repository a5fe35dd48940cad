"""The worker's requests about tuning: ``tune`` and ``records``, and where a page keeps records.

Knows the protocol and a loaded model's ``ModelTuning``; how candidates are timed is in ``tuning/``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ..engine.tuning import BUDGET, ModelTuning
from ..errors import InvalidRequestError, SourceError
from ..tuning.store import Storage
from ..tuning.tuner import Event

SHARE = 0.5
"""Of the device's time that is taken while nothing else wants it, so that the page can draw."""
_OFTEN = 0.05
"""Seconds between two events of a kernel that is being tuned."""

Send = Callable[..., None]


class PageStorage:
    """``tuning.store.Storage`` over the worker's JavaScript (IndexedDB)."""

    def __init__(self, js_storage: Any) -> None:
        self._storage = js_storage

    async def read(self, name: str) -> str | None:
        """Return the text of that name; None where there is none or it cannot be read."""
        from pyodide.ffi import JsException

        try:
            text = await self._storage.read(name)
        except JsException:
            return None
        return text if isinstance(text, str) else None

    async def write(self, name: str, text: str) -> None:
        """Keep ``text``; SourceError where the browser refuses."""
        from pyodide.ffi import JsException

        try:
            await self._storage.write(name, text)
        except JsException as error:
            raise SourceError(
                f"The browser did not keep the tuning records ({error}): allow this site to store "
                "data."
            ) from error


def load_options(message: Mapping[str, Any], storage: Storage | None) -> dict[str, Any]:
    """Return what a ``load`` hands on about tuning."""
    more: dict[str, Any] = {}
    if message.get("records") is not None:
        more["records"] = _text(message)
    if storage is not None:
        more["storage"] = storage
    return more


async def answer(
    model: Any, message: Mapping[str, Any], idle: Callable[[], bool], send: Send
) -> dict[str, Any]:
    """Do one request and return the value of its result.

    Raises InvalidRequestError, BusyError, and what tuning raises.
    """
    tuning: ModelTuning | None = model.tuning
    if tuning is None:
        raise InvalidRequestError("This model has no kernels to tune.")
    if message["type"] == "tune":
        return await _tune(tuning, message, idle, send)
    count = 0
    if message.get("records") is not None:
        count = await tuning.load_json(_text(message))
    return {"document": tuning.records.to_json(), "taken": count, "records": len(tuning.records)}


async def _tune(
    tuning: ModelTuning, message: Mapping[str, Any], idle: Callable[[], bool], send: Send
) -> dict[str, Any]:
    budget = _number(message, "budget", BUDGET)
    share = _number(message, "share", SHARE)
    begun, told = time.perf_counter(), -1.0
    finished = 0

    def on_event(event: Event) -> None:
        nonlocal told, finished
        now = time.perf_counter()
        finished += event.done and bool(event.kernel)
        if not event.done and now - told < _OFTEN:
            return
        told = now
        ceilings = tuning.records.ceilings
        found = asdict(event)
        if ceilings is not None:
            found["roofline"] = ceilings.share(event.bytes_per_s, event.flops_per_s)
        send(
            type="progress",
            id=message["id"],
            phase="tuning",
            done=finished,
            total=event.total,
            seconds=round(now - begun, 3),
            result=found,
        )

    result = await tuning.run(budget=budget, share=share, idle=idle, on_event=on_event)
    ceilings = result.records.ceilings
    return {
        "seconds": round(result.seconds, 3),
        "bursts": result.bursts,
        "records": len(result.records),
        "ceilings": None if ceilings is None else asdict(ceilings),
    }


def _number(message: Mapping[str, Any], field: str, default: float) -> float:
    value = message.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidRequestError(f"{field} must be a number, 0 or more.", field=field)
    return float(value)


def _text(message: Mapping[str, Any]) -> str:
    value = message["records"]
    if not isinstance(value, str):
        raise InvalidRequestError("records must be a JSON text.", field="records")
    return value
