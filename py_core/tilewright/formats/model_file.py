"""What every reader returns, whatever the container: metadata and named tensors.

Metadata uses GGUF's keys (``llama.embedding_length``, ``tokenizer.ggml.tokens`` ...), tensors use
GGUF's names (``blk.0.attn_q.weight``); readers of other containers translate into them. Shapes are
written row-major, the last axis contiguous: a linear layer's weight is ``[N, K]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import FormatError
from .quant import QuantType
from .source import ByteSource


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies and how its weights are stored."""

    name: str
    shape: tuple[int, ...]
    """Row-major: the reverse of GGUF's order."""
    quant: QuantType
    source: int
    """Index into ``ModelFile.sources``."""
    offset: int
    """Absolute byte offset in that source."""
    nbytes: int

    @property
    def columns(self) -> int:
        """Length of the contiguous axis."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Product of all other axes."""
        count = 1
        for size in self.shape[:-1]:
            count *= size
        return count


@dataclass(frozen=True)
class ModelFile:
    """A model as its files describe it; the weights have not been read."""

    # A vocabulary's repr takes 0.1 s and megabytes; asyncio and tracebacks call repr unasked.
    metadata: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    sources: tuple[ByteSource, ...] = field(repr=False, default=())

    @property
    def architecture(self) -> str:
        """GGUF's ``general.architecture``."""
        return self.text("general.architecture")

    def tensor(self, name: str) -> TensorInfo:
        """Return the tensor called ``name``; FormatError where the file has none."""
        try:
            return self.tensors[name]
        except KeyError:
            raise FormatError(
                f"The model file has no tensor {name!r}: it is incomplete or of another "
                "architecture than it says.",
                tensor=name,
            ) from None

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string of the metadata."""
        return str(self._typed(key, str, default))

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an integer of the metadata."""
        value = self._typed(key, int, default)
        assert isinstance(value, int)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number of the metadata as float."""
        value = self._typed(key, (int, float), default)
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return a boolean of the metadata."""
        return bool(self._typed(key, bool, default))

    @property
    def at_hand(self) -> bool:
        """Whether the weights can be read again and again, from a disk and not from a network."""
        return all(getattr(source, "at_hand", True) for source in self.sources)

    def close(self) -> None:
        """Close the sources that can be closed (files, connections)."""
        for source in self.sources:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def _typed(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self.metadata.get(key, default)
        if value is None:
            raise FormatError(f"The model file lacks the metadata key {key!r}.", key=key)
        if not isinstance(value, kind):
            raise FormatError(
                f"The metadata key {key!r} has the wrong type ({type(value).__name__}).", key=key
            )
        return value

    def items(self) -> Iterator[TensorInfo]:
        """Iterate over the tensors in file order."""
        return iter(self.tensors.values())
