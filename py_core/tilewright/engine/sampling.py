"""What a request asks of the sampler, checked; and what may constrain it token by token.

Knows token ids only, nothing of text, GPUs or scheduling. How the values are applied is defined by
the kernels (``webgpu/kernels/sample.py``) and their numpy twin (``tests/reference/sampling.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import InvalidRequestError

MAX_TOP_LOGPROBS = 20
"""Most alternatives per token whose log-probabilities can be asked for (as OpenAI)."""
MAX_LOGIT_BIAS = 4096
"""Most entries of ``logit_bias``."""


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop. Raises InvalidRequestError naming the field.

    Applied in this order: repetition, frequency and presence penalties, logit bias, constraint,
    temperature, min_p, top_k, top_p, draw. The draw depends on ``seed`` and the token's position
    only, never on what else is in the batch.
    """

    temperature: float = 1.0
    """0: greedy (the lowest id among equals)."""
    top_k: int = 0
    """Keep the k most likely tokens (and those equal to the last of them); 0: all."""
    top_p: float = 1.0
    """Keep the fewest most likely tokens whose mass reaches top_p; 1: all."""
    min_p: float = 0.0
    """Keep tokens at least min_p times as likely as the most likely one; 0: all."""
    repetition_penalty: float = 1.0
    """Divides (or multiplies, where negative) the logit of ids in prompt or answer; 1: off."""
    frequency_penalty: float = 0.0
    """Subtracted from the logit per occurrence in the answer."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of ids that occur in the answer."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0
    """Any integer; its low 64 bits count."""
    logprobs: int | None = None
    """None: no log-probabilities; k: those of the chosen and of the k most likely tokens. They
    are the model's own: before penalties, bias and temperature."""
    max_tokens: int | None = None
    """None: until the context is full."""
    stop_ids: frozenset[int] = frozenset()
    """Ids that end the answer; the last TokenOutput has the id, with finish_reason ``stop``."""
    ignore_eos: bool = False
    """Generate on past ``stop_ids``."""
    adapter: str | None = None
    """Name of a loaded LoRA adapter; None: the model as it is."""

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0.0, 100.0)
        _integer("top_k", self.top_k, 0)
        _number("top_p", self.top_p, 0.0, 1.0)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _number("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _number("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _integer("seed", self.seed, None)
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, 0, MAX_TOP_LOGPROBS)
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1)
        if not isinstance(self.logit_bias, Mapping) or len(self.logit_bias) > MAX_LOGIT_BIAS:
            raise _invalid("logit_bias", f"a mapping of at most {MAX_LOGIT_BIAS} ids to numbers")
        for token, bias in self.logit_bias.items():
            _integer("logit_bias", token, 0)
            _number("logit_bias", bias, -1e6, 1e6)
        for token in self.stop_ids:
            _integer("stop_ids", token, 0)
        if self.adapter is not None and not isinstance(self.adapter, str):
            raise _invalid("adapter", "the name of a loaded adapter")
        if not isinstance(self.ignore_eos, bool):
            raise _invalid("ignore_eos", "true or false")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < 1e-4

    @property
    def filtered(self) -> bool:
        """Whether some tokens are cut off before the draw."""
        cut = self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0
        return cut and not self.greedy

    @property
    def penalised(self) -> bool:
        """Whether occurrences must be counted."""
        off = (1.0, 0.0, 0.0)
        now = (self.repetition_penalty, self.frequency_penalty, self.presence_penalty)
        return now != off

    def check_vocabulary(self, vocabulary: int) -> None:
        """Raise InvalidRequestError where an id is outside the model's vocabulary."""
        for name, ids in (("logit_bias", self.logit_bias), ("stop_ids", self.stop_ids)):
            for token in ids:
                if token >= vocabulary:
                    raise _invalid(name, f"ids below the vocabulary's size {vocabulary}")


class Constraint(Protocol):
    """Says which ids may come next: a grammar, compiled elsewhere, that sees every token.

    A sequence with a constraint runs one step at a time. The methods are called in the order
    ``forced``, ``mask``, (sampling), ``accept``, ``forced``, ``mask`` ...
    """

    def forced(self) -> Sequence[int]:
        """Ids that must come next: they are appended without sampling (and without ``accept``).

        The constraint counts them as accepted. Empty where there is a choice.
        """
        ...

    def mask(self) -> bytes | None:
        """Return the ids that may come next; None: all may.

        u32[ceil(V / 32)] little-endian: bit ``id % 32`` of word ``id // 32`` is set where allowed.
        """
        ...

    def accept(self, token: int) -> None:
        """Take note of the id that was chosen."""
        ...


def _invalid(name: str, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"The field {name!r} must be {wanted}.", field=name)


def _number(name: str, value: object, low: float, high: float) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]
        raise _invalid(name, f"a number from {low:g} to {high:g}")


def _integer(name: str, value: object, low: int | None, high: int | None = None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or (low is not None and value < low) or (high is not None and value > high):  # type: ignore[operator]
        limits = "" if low is None else f" of at least {low}"
        limits += "" if high is None else f" and at most {high}"
        raise _invalid(name, f"an integer{limits}")
