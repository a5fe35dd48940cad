"""What the CPU path knows of a sequence between two steps."""

from __future__ import annotations

from ..wasm.kernels import sample
from .sampling import SamplingParams


class Slot:
    """What the runner knows of a sequence."""

    def __init__(self, sampling: SamplingParams, position: int = -1) -> None:
        self.sampling = sampling
        self.next_id = 0
        self.position = position
        """Of ``next_id``."""
        self.masked = False
        self._parameters: dict[bool, bytes] = {}

    def record(self, slot: int, *, fresh: bool) -> bytes:
        """Return what the sampler reads; not ``fresh``: the step reads a token of the answer."""
        s = self.sampling
        if self.masked not in self._parameters:
            uses = sample.USES_PENALTIES * s.penalised | sample.USES_BIAS * bool(s.logit_bias)
            self._parameters[self.masked] = sample.pack_parameters(
                temperature=s.temperature,
                top_k=s.top_k,
                top_p=s.top_p,
                min_p=s.min_p,
                repetition=s.repetition_penalty,
                frequency=s.frequency_penalty,
                presence=s.presence_penalty,
                uses=uses | sample.USES_MASK * self.masked,
                seed=s.seed,
            )
        counted = self.next_id if s.penalised and not fresh else sample.NONE
        place = sample.pack_place(self.position + 1, slot, counted)
        return self._parameters[self.masked] + place
