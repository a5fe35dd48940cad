"""The sampler's buffers and plans: what each slot asks for, kept on the GPU.

Uploads a slot's parameters, penalty counts, bias and mask, and records the dispatches that draw
from a step's logits (``webgpu/kernels/sample.py`` says how). Knows no prompt and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidRequestError, UnsupportedModelError
from ..graph.ops import Value
from ..webgpu.device import BufferRange, Device
from ..webgpu.kernels import sample
from ..webgpu.plan import Call, Plan, record
from ..webgpu.state import StepBuffers, u32, whole
from .sampling import SamplingParams


def sampler_bytes(vocabulary: int, slots: int) -> int:
    """Return the most bytes that a ``Sampler`` allocates: filters, penalties and masks in use."""
    structure = sample.Structure(vocabulary=vocabulary, rows=slots, mode="filtered")
    partials = sample.partials_bytes(structure, sample.naive(structure))
    scores_counts_bias = 3 * 4 * vocabulary * slots
    records = (sample.SAMPLER_BYTES + 4 * sample.RESULT_WORDS) * slots
    return partials + scores_counts_bias + sample.mask_bytes(vocabulary) * slots + records


@dataclass(frozen=True)
class Queued:
    """A result on its way: which slots, and how to read it."""

    slots: tuple[int, ...]
    logprobs: int | None


class Sampler:
    """Per-slot sampling state of one model."""

    def __init__(self, device: Device, vocabulary: int, max_sequences: int) -> None:
        self._device = device
        self._vocabulary = vocabulary
        self._slots = max_sequences
        self._sampling = [SamplingParams()] * max_sequences
        self._masked: set[int] = set()
        self._ranges: dict[str, BufferRange] = {}
        self._plans: dict[tuple[str, sample.Structure], Plan] = {}

    # -- buffers ---------------------------------------------------------------------------------

    def _range(self, name: str, nbytes: int) -> BufferRange:
        """Return the buffer called ``name``, allocated when first needed."""
        found = self._ranges.get(name)
        if found is None:
            found = self._ranges[name] = whole(self._device, nbytes, name)
        elif found.size < nbytes:
            raise InvalidRequestError(f"The buffer {name} cannot grow.")
        return found

    @property
    def records(self) -> BufferRange:
        """One record per slot; it also holds the id that was sampled last and its position."""
        return self._range("samplers", sample.SAMPLER_BYTES * self._slots)

    def _adjustments(self) -> dict[str, BufferRange]:
        row = 4 * self._vocabulary * self._slots
        return {
            "counts": self._range("counts", row),
            "bias": self._range("bias", row),
            "mask": self._range("mask", sample.mask_bytes(self._vocabulary) * self._slots),
        }

    def results(self, rows: int | None = None) -> BufferRange:
        """Return where the first ``rows`` results of a step are (default: the whole buffer)."""
        size = 4 * sample.RESULT_WORDS
        everything = self._range("results", size * self._slots)
        return everything if rows is None else BufferRange(everything.buffer, 0, size * rows)

    # -- per slot --------------------------------------------------------------------------------

    def set_sampling(
        self, slot: int, sampling: SamplingParams, ids: Sequence[int], prompt_length: int
    ) -> None:
        """Upload a slot's record, and its counts and bias where they are used."""
        self._sampling[slot] = sampling
        self._masked.discard(slot)
        packed = sample.pack_sampler(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            uses=self._uses(slot),
            seed=sampling.seed,
            length=len(ids),
        )
        write = self._device.queue.write_buffer
        write(self.records.buffer, slot * sample.SAMPLER_BYTES, packed)
        size = 4 * self._vocabulary
        if sampling.penalised:
            counts = sample.pack_counts(self._vocabulary, ids, prompt_length)
            write(self._adjustments()["counts"].buffer, slot * size, counts)
        if sampling.logit_bias:
            bias = sample.pack_bias(self._vocabulary, sampling.logit_bias)
            write(self._adjustments()["bias"].buffer, slot * size, bias)

    def set_mask(self, slot: int, mask: bytes | None) -> bool:
        """Upload the allowed ids of a slot's next draw; return whether the plan must change."""
        before = slot in self._masked
        write = self._device.queue.write_buffer
        if mask is None:
            self._masked.discard(slot)
        else:
            self._masked.add(slot)
            at = slot * sample.mask_bytes(self._vocabulary)
            write(self._adjustments()["mask"].buffer, at, mask)
        at = slot * sample.SAMPLER_BYTES + sample.USES
        write(self.records.buffer, at, u32([self._uses(slot)]))
        return before != (slot in self._masked)

    def _uses(self, slot: int) -> int:
        sampling = self._sampling[slot]
        return sample.switches(
            penalties=sampling.penalised,
            bias=bool(sampling.logit_bias),
            mask=slot in self._masked,
        )

    # -- plans -----------------------------------------------------------------------------------

    def structure(self, slots: Sequence[int], capacity: int, *, advance: bool) -> sample.Structure:
        """Return the cheapest sampling that serves all these slots."""
        wanted = [self._sampling[slot] for slot in slots]
        mode: sample.Mode = "greedy"
        if any(s.filtered for s in wanted):
            mode = "filtered"
        elif not all(s.greedy for s in wanted):
            mode = "plain"
        asked = [s.logprobs for s in wanted if s.logprobs is not None]
        return sample.Structure(
            vocabulary=self._vocabulary,
            rows=capacity,
            mode=mode,
            logprobs=(sample.MAX_TOP if max(asked) > 0 else 0) if asked else None,
            adjust=any(s.penalised or s.logit_bias for s in wanted)
            or any(slot in self._masked for slot in slots),
            advance=advance,
        )

    async def plan(
        self, family: str, structure: sample.Structure, step: StepBuffers, logits: Value | None
    ) -> Plan:
        """Return the plan that draws from a family's logits.

        Raises UnsupportedModelError where the model has none.
        """
        if logits is None:
            raise UnsupportedModelError("This model makes embeddings; it cannot generate text.")
        key = (family, structure)
        if key not in self._plans:
            calls = self._calls(structure, step, logits)
            label = f"sample {family} {structure.mode}"
            self._plans[key] = await record(self._device, label, calls)
        return self._plans[key]

    def _calls(self, structure: sample.Structure, step: StepBuffers, logits: Value) -> list[Call]:
        tuning = sample.naive(structure)
        most = replace(structure, rows=self._slots)
        ranges = {
            "step": step.step,
            "logits": step.value(logits),
            "slots": step.slots,
            "ids": step.ids,
            "positions": step.positions,
            "samplers": self.records,
            "results": self.results(),
            "partials": self._range("partials", sample.partials_bytes(most, tuning)),
        }
        if structure.adjust:
            ranges |= self._adjustments()
        if structure.mode == "filtered":
            ranges["scores"] = self._range("scores", 4 * self._slots * self._vocabulary)
        made = sample.kernels(structure, tuning, self._device.capabilities)
        return [Call(kernel, ranges) for kernel in made]

    def forget(self, families: Sequence[str]) -> None:
        """Drop the plans that draw from these families' logits."""
        self._plans = {key: plan for key, plan in self._plans.items() if key[0] not in families}

    def release(self) -> None:
        """Free the buffers."""
        for found in self._ranges.values():
            self._device.release(found.buffer)
        self._ranges.clear()
        self._plans.clear()
