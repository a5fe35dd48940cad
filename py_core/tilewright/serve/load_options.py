"""How a model is loaded, whoever asks: the page, the command line, Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..engine.backend import Backend
from ..errors import InvalidRequestError
from ..webgpu.kernels.kv_write import KvKind
from ..webgpu.kernels.linear import ARITHMETICS, Arithmetic


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; None means chosen for the model and the device."""

    context_length: int | None = None
    """Positions per sequence; None: the model's own, at most 4096."""
    kv: KvKind | None = None
    """Format of the KV cache: ``f32``, ``f16`` or ``q8_0``; None: f32 where that is small.

    The CPU path keeps f32: it refuses another format where ``backend`` names it, and where it was
    chosen without being named it goes on in f32."""
    max_sequences: int = 4
    """Sequences that decode in one batch."""
    backend: Backend | None = None
    """Where the arithmetic runs; None: as ``TILEWRIGHT_BACKEND`` says, else the faster one here."""
    memory_budget: int | None = None
    """Bytes of device memory. Of a model that needs more, some layers stay in its file and are read
    for every step; where even that is not enough it is refused before its weights are read. Of a
    mixture of experts the CPU path reads only those that are chosen and keeps the last used; the
    GPU, which alone knows what its router chose, reads whole layers."""
    quantize: Literal["Q8_0", "Q4_0", "Q4_K"] | None = None
    """Format into which F32, F16 and BF16 matrices are encoded while they are read."""
    threads: int | None = None
    """Of the ``wasm`` backend; None: chosen for the machine."""
    arithmetic: Arithmetic = "f32"
    """Of products on the GPU: ``f32``; ``int8`` or ``f16``: activations are rounded where a weight
    is Q4_0, Q4_K or Q8_0 (f16: on devices with shader-f16). The CPU path rounds as it always does,
    to int8 or int16."""

    def __post_init__(self) -> None:
        """Refuse an unknown arithmetic: InvalidRequestError."""
        if self.arithmetic not in ARITHMETICS:
            raise InvalidRequestError(
                f"There is no arithmetic {str(self.arithmetic)[:20]!r}: choose "
                f"{', '.join(ARITHMETICS[:-1])} or {ARITHMETICS[-1]}.",
                field="arithmetic",
            )
