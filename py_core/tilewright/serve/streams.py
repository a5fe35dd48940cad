"""What every reader of a stream does at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def close(stream: AsyncIterator[object]) -> None:
    """Close a stream before its end, so that what feeds it stops now; one without an end has none.

    An asynchronous generator that is only forgotten runs on until it is collected.
    """
    closing = getattr(stream, "aclose", None)
    if closing is not None:
        await closing()
