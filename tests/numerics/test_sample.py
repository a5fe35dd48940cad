"""Sampling kernels against their numpy twin, and against the distribution they must have."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from tests.reference.sampling import (
    Request,
    adjusted,
    candidates,
    gumbel,
    log_softmax,
    perturbed,
)

from tilewright.webgpu.device import BufferRange, Device
from tilewright.webgpu.kernels import sample

NEAR_TIE = 1e-4
"""Scores this close may be ordered differently by the GPU's logarithms."""
MASS_TOLERANCE = 2e-5
"""Share of the mass by which top_p's cut may differ: rounding of f32 exp and of fixed point."""


class Sampler:
    """The sampling kernels of one structure with their buffers."""

    def __init__(self, device: Device, structure: sample.Structure, tuning: sample.Tuning) -> None:
        self.device, self.structure, self.tuning = device, structure, tuning
        self.kernels = sample.kernels(structure, tuning, device.capabilities)
        vocabulary, rows = structure.vocabulary, structure.rows
        sizes = {
            "step": 16,
            "logits": 4 * rows * vocabulary,
            "slots": 4 * rows,
            "samplers": sample.SAMPLER_BYTES * rows,
            "counts": 4 * rows * vocabulary,
            "bias": 4 * rows * vocabulary,
            "mask": sample.mask_bytes(vocabulary) * rows,
            "partials": sample.partials_bytes(structure, tuning),
            "scores": 4 * rows * vocabulary,
            "ids": 4 * rows,
            "positions": 4 * rows,
            "results": 4 * sample.RESULT_WORDS * rows,
        }
        names = {binding.name for kernel in self.kernels for binding in kernel.bindings}
        self.buffers = {
            name: device.buffer(
                sizes[name], label=name, usage=("UNIFORM",) if name == "step" else ()
            )
            for name in names
        }
        self.dispatches: list[tuple] = []

    async def prepare(self) -> Sampler:
        for kernel in self.kernels:
            pipeline = await self.device.pipeline(kernel)
            buffers = [self.buffers[binding.name] for binding in kernel.bindings]
            group = self.device.bind(pipeline, [BufferRange(b, 0, b.size) for b in buffers])
            self.dispatches.append((pipeline, group, kernel.grid))
        return self

    def write(self, name: str, data: bytes, offset: int = 0) -> None:
        if name in self.buffers:
            self.device.queue.write_buffer(self.buffers[name], offset, data + bytes(-len(data) % 4))

    def request(self, slot: int, request: Request, ids: list[int], prompt_length: int) -> None:
        vocabulary = self.structure.vocabulary
        penalised = (
            request.repetition_penalty,
            request.frequency_penalty,
            request.presence_penalty,
        ) != (1, 0, 0)
        record = sample.pack_sampler(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            uses=sample.switches(
                penalties=penalised,
                bias=bool(request.logit_bias),
                mask=request.mask is not None,
            ),
            seed=request.seed,
            length=len(ids),
        )
        self.write("samplers", record, slot * sample.SAMPLER_BYTES)
        counts = sample.pack_counts(vocabulary, ids, prompt_length)
        self.write("counts", counts, 4 * slot * vocabulary)
        self.write("bias", sample.pack_bias(vocabulary, request.logit_bias), 4 * slot * vocabulary)
        if request.mask is not None:
            size = sample.mask_bytes(vocabulary)
            bits = np.packbits(request.mask, bitorder="little").tobytes()
            self.write("mask", bits + bytes(size - len(bits)), slot * size)

    async def step(self, logits: np.ndarray, slots: list[int]) -> list[sample.Sampled]:
        self.write("step", struct.pack("<4I", len(slots), len(slots), len(slots), slots[0]))
        self.write("slots", np.array(slots, np.uint32).tobytes())
        self.write("logits", logits.astype(np.float32).tobytes())
        encoder = self.device.handle.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for pipeline, group, grid in self.dispatches:
            compute.set_pipeline(pipeline.handle)
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(*grid)
        compute.end()
        self.device.queue.submit([encoder.finish()])
        data = await self.device.read(self.buffers["results"])
        top = min(self.structure.logprobs or 0, self.structure.vocabulary)
        return list(sample.unpack_results(data, len(slots), top))

    def release(self) -> None:
        for buffer in self.buffers.values():
            self.device.release(buffer)


def random_request(random: np.random.Generator, vocabulary: int, mode: str) -> Request:
    def maybe(value: float, otherwise: float) -> float:
        return value if random.random() < 0.6 else otherwise

    request = Request(temperature=0.0)
    if mode != "greedy" and random.random() < 0.9:
        request = Request(temperature=random.uniform(0.3, 2.0), seed=int(random.integers(2**63)))
    if mode == "filtered":
        request = replace(
            request,
            top_k=int(maybe(random.integers(1, min(vocabulary, 200) + 1), 0)),
            top_p=maybe(random.uniform(0.05, 0.999), 1.0),
            min_p=maybe(random.uniform(0.001, 0.3), 0.0),
        )
    return request


def random_adjustments(
    random: np.random.Generator, vocabulary: int, request: Request
) -> tuple[Request, list[int], int]:
    ids = [int(i) for i in random.integers(0, vocabulary, 40)]
    biased = random.integers(0, vocabulary, 5)
    allowed = random.random(vocabulary) < 0.3
    allowed[random.integers(vocabulary)] = True
    request = replace(
        request,
        repetition_penalty=float(random.choice([1.0, 1.3, 0.8])),
        frequency_penalty=float(random.choice([0.0, 0.7])),
        presence_penalty=float(random.choice([0.0, -0.4])),
        logit_bias={int(i): float(b) for i, b in zip(biased, random.normal(0, 5, 5), strict=True)},
        mask=allowed if random.random() < 0.5 else None,
    )
    return request, ids, 25


def check(result: sample.Sampled, logits: np.ndarray, y: np.ndarray, request: Request) -> None:
    scores = perturbed(y, request, result.position)
    best = int(scores.argmax())
    if result.id == best:
        return
    # The two may differ only by a near tie, or where top_p's cut falls between two roundings.
    for top_p in (request.top_p - MASS_TOLERANCE, request.top_p + MASS_TOLERANCE):
        other = perturbed(y, replace(request, top_p=top_p), result.position)
        if other.max() - other[result.id] < NEAR_TIE:
            return
    raise AssertionError(f"chose {result.id} ({scores[result.id]}), not {best} ({scores[best]})")


@pytest.mark.parametrize("mode", ["greedy", "plain", "filtered"])
@pytest.mark.parametrize("adjust", [False, True])
@pytest.mark.parametrize("vocabulary", [13, 1000, 32003, 151936])
async def test_choices_equal_the_reference(
    device: Device, mode: sample.Mode, adjust: bool, vocabulary: int
) -> None:
    random = np.random.default_rng(vocabulary + len(mode))
    choices = sample.space(sample.Structure(vocabulary, 3, mode), device.capabilities)
    tuning = choices[int(random.integers(len(choices)))]
    structure = sample.Structure(vocabulary, 3, mode, logprobs=20, adjust=adjust)
    sampler = await Sampler(device, structure, tuning).prepare()
    for _ in range(3 if vocabulary > 100_000 else 8):
        slots = [int(slot) for slot in random.permutation(3)[: random.integers(1, 4)]]
        logits = random.normal(0, random.uniform(0.5, 5), (3, vocabulary)).astype(np.float32)
        requests, histories = {}, {}
        for slot in slots:
            request, ids, prompt = random_request(random, vocabulary, mode), [1] * 7, 7
            if adjust:
                request, ids, prompt = random_adjustments(random, vocabulary, request)
            sampler.request(slot, request, ids, prompt)
            requests[slot], histories[slot] = request, (ids, prompt)
        # Two steps: the second sees the id of the first in the counts and at the next position.
        for _ in range(2):
            results = await sampler.step(logits, slots)
            for row, result in enumerate(results):
                slot = slots[row]
                ids, prompt = histories[slot]
                assert result.slot == slot
                assert result.position == len(ids)
                y = adjusted(logits[row], requests[slot], ids, prompt)
                check(result, logits[row], y, requests[slot])
                histories[slot] = ([*ids, result.id], prompt)
                own = log_softmax(logits[row])
                assert result.logprob == pytest.approx(own[result.id], abs=2e-4)
                order = np.lexsort((np.arange(vocabulary), -logits[row]))[:20]
                assert [i for i, _ in result.top] == order.tolist()
                assert [p for _, p in result.top] == pytest.approx(own[order], abs=2e-4)
            fed = np.frombuffer(await device.read(sampler.buffers["ids"]), np.uint32)
            places = np.frombuffer(await device.read(sampler.buffers["positions"]), np.uint32)
            assert fed[: len(slots)].tolist() == [r.id for r in results]
            assert places[: len(slots)].tolist() == [r.position for r in results]
    sampler.release()


async def test_equal_logits_greedy_takes_the_lowest_id(device: Device) -> None:
    structure = sample.Structure(5000, 1, "greedy", logprobs=20)
    sampler = await Sampler(device, structure, sample.naive(structure)).prepare()
    sampler.request(0, Request(temperature=0.0), [1], 1)
    logits = np.zeros((1, 5000), np.float32)
    logits[0, [4000, 37, 2500]] = 1.0
    (result,) = await sampler.step(logits, [0])
    assert result.id == 37
    assert [i for i, _ in result.top] == [37, 2500, 4000, *range(17)]
    sampler.release()


async def test_logits_that_are_no_numbers_still_give_a_valid_id(device: Device) -> None:
    for mode in ("greedy", "plain", "filtered"):
        structure = sample.Structure(700, 1, mode, logprobs=20)  # type: ignore[arg-type]
        sampler = await Sampler(device, structure, sample.naive(structure)).prepare()
        for value in (np.nan, np.inf, -np.inf):
            request = Request(temperature=0.0 if mode == "greedy" else 1.0, top_p=0.5, top_k=7)
            sampler.request(0, request, [1], 1)
            (result,) = await sampler.step(np.full((1, 700), value, np.float32), [0])
            assert 0 <= result.id < 700
        sampler.release()


@pytest.mark.parametrize(
    "request_",
    [
        Request(temperature=0.7),
        Request(temperature=1.3, top_k=6),
        Request(top_p=0.8),
        Request(temperature=0.9, min_p=0.08),
        Request(top_k=9, top_p=0.9, min_p=0.02),
    ],
    ids=["plain", "top_k", "top_p", "min_p", "all"],
)
async def test_draws_have_the_distribution(device: Device, request_: Request) -> None:
    """Chi-square over 3200 draws with fixed seeds; and no draw outside the candidates."""
    vocabulary, rows, steps = 40, 8, 400
    logits = np.random.default_rng(3).normal(0, 1.5, vocabulary).astype(np.float32)
    mode: sample.Mode = "plain" if candidates(logits, request_).all() else "filtered"
    structure = sample.Structure(vocabulary, rows, mode)
    sampler = await Sampler(device, structure, sample.naive(structure)).prepare()
    for slot in range(rows):
        sampler.request(slot, replace(request_, seed=1000 + slot), [1] * 5, 5)
    drawn = np.zeros(vocabulary)
    for _ in range(steps):
        for result in await sampler.step(np.tile(logits, (rows, 1)), list(range(rows))):
            drawn[result.id] += 1
    sampler.release()
    y = adjusted(logits, request_)
    keep = candidates(y, request_)
    assert drawn[~keep].sum() == 0
    share = np.where(keep, np.exp(y.astype(np.float64)), 0)
    wanted = share / share.sum() * rows * steps
    chi_square = ((drawn[keep] - wanted[keep]) ** 2 / wanted[keep]).sum()
    freedom = keep.sum() - 1
    # Wilson-Hilferty: the normal deviate that belongs to the statistic; 3.1 is one in a thousand.
    deviate = ((chi_square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / np.sqrt(
        2 / (9 * freedom)
    )
    assert deviate < 3.1


async def test_draw_depends_on_seed_and_position_only(device: Device) -> None:
    random = np.random.default_rng(11)
    logits = random.normal(0, 2, (4, 3000)).astype(np.float32)
    request = Request(temperature=1.0, top_p=0.9, seed=77)
    chosen = []
    for rows, slot, mode in ((1, 0, "filtered"), (4, 3, "filtered")):
        structure = sample.Structure(3000, rows, mode)  # type: ignore[arg-type]
        sampler = await Sampler(device, structure, sample.naive(structure)).prepare()
        slots = [0] if rows == 1 else [2, 0, 3, 1]
        for other in range(rows):
            sampler.request(other, replace(request, seed=other), [1] * 9, 9)
        sampler.request(slot, request, [1] * 9, 9)
        batch = logits[:1] if rows == 1 else logits[[1, 2, 0, 3]]
        row = slots.index(slot)
        chosen.append([(await sampler.step(batch, slots))[row].id for _ in range(12)])
        sampler.release()
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) > 3


def test_noise_of_the_reference_is_gumbel() -> None:
    noise = np.concatenate([gumbel(seed, 5, 20000) for seed in range(5)])
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.03)
