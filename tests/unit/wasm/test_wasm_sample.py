"""Drawing tokens against the numpy definition that all backends share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.reference import sampling
from tests.unit.wasm.conftest import Machine

from tilewright.wasm.assembler import Memory, Module
from tilewright.wasm.kernels import sample

VOCABULARY = 1003


class Sampler:
    """The kernels with their scratch, in one memory."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        module = Module(Memory("env", "memory", 1))
        sample.add_sampler(module)
        self.instance = machine.memory.instantiate(module.assemble())
        names = ("logits", "record", "counts", "bias", "mask", "scores", "weights")
        self.at = {name: machine.room(4 * VOCABULARY + 64) for name in names}

    def draw(
        self,
        logits: np.ndarray,
        request: sampling.Request,
        position: int,
        ids: tuple[int, ...] = (),
        prompt: int = 0,
    ) -> int:
        write, at = self.machine.memory.write, self.at
        counts = np.bincount(ids[prompt:], minlength=VOCABULARY).astype(np.uint32)
        counts[list(ids[:prompt])] |= sample.IN_PROMPT
        bias = np.zeros(VOCABULARY, np.float32)
        for token, value in request.logit_bias.items():
            bias[token] = value
        mask = np.ones(VOCABULARY, bool) if request.mask is None else request.mask
        write(at["logits"], logits.astype(np.float32).tobytes())
        write(at["counts"], counts.tobytes())
        write(at["bias"], bias.tobytes())
        write(at["mask"], np.packbits(mask, bitorder="little").tobytes())
        penalised = (
            request.repetition_penalty != 1
            or request.frequency_penalty != 0
            or request.presence_penalty != 0
        )
        record = sample.pack_parameters(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition=request.repetition_penalty,
            frequency=request.frequency_penalty,
            presence=request.presence_penalty,
            uses=sample.USES_PENALTIES * penalised
            | sample.USES_BIAS * bool(request.logit_bias)
            | sample.USES_MASK * (request.mask is not None),
            seed=request.seed,
        )
        write(at["record"], record + sample.pack_place(position))
        names = ("record", "counts", "bias", "mask", "scores", "weights")
        found = self.instance.call("draw", at["logits"], VOCABULARY, *(at[n] for n in names))
        assert isinstance(found, int)
        return found


REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "plain": {"temperature": 1.3},
    "top_k": {"top_k": 40},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.05},
    "everything": {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.01},
    "penalties": {
        "repetition_penalty": 1.4,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.5,
        "logit_bias": {3: 4.0, 17: -100.0},
    },
}


@pytest.mark.parametrize("name", REQUESTS)
def test_draws_are_those_of_the_definition(machine: Machine, name: str) -> None:
    rng = np.random.default_rng(5)
    sampler = Sampler(machine)
    for turn in range(25):
        logits = (3 * rng.standard_normal(VOCABULARY)).astype(np.float32)
        mask = rng.random(VOCABULARY) < 0.3 if turn % 5 == 4 else None
        seed = int(rng.integers(2**63))
        request = sampling.Request(**REQUESTS[name], seed=seed, mask=mask)
        ids = tuple(int(i) for i in rng.integers(0, VOCABULARY, 30))
        y = sampling.adjusted(logits, request, ids, 12)
        scores = sampling.perturbed(y, request, 30 + turn)
        found = sampler.draw(logits, request, 30 + turn, ids, 12)
        # The noise is f32 here: another id only where the two best are as good as equal.
        assert scores[found] >= scores.max() - 2e-5, (turn, found, int(scores.argmax()))


def test_equal_logits_give_the_lowest_id(machine: Machine) -> None:
    logits = np.zeros(VOCABULARY, np.float32)
    logits[[9, 700, 1002]] = 2.0
    assert Sampler(machine).draw(logits, sampling.Request(temperature=0), 4) == 9


def test_strange_logits_still_give_an_id(machine: Machine) -> None:
    sampler = Sampler(machine)
    for logits in (
        np.full(VOCABULARY, np.nan),
        np.full(VOCABULARY, -np.inf),
        np.where(np.arange(VOCABULARY) == 77, np.inf, 0.0),
    ):
        for temperature in (0.0, 1.0):
            request = sampling.Request(temperature=temperature, top_p=0.9)
            assert 0 <= sampler.draw(logits, request, 1) < VOCABULARY
    assert sampler.draw(logits, sampling.Request(temperature=0), 1) == 77


def test_log_probabilities(machine: Machine) -> None:
    rng = np.random.default_rng(6)
    sampler = Sampler(machine)
    logits = (4 * rng.standard_normal(VOCABULARY)).astype(np.float32)
    logits[500] = logits[3]
    machine.memory.write(sampler.at["logits"], logits.tobytes())
    out = sampler.at["record"]
    sampler.instance.call("mass", sampler.at["logits"], VOCABULARY, out)
    peak, total = (float(x) for x in machine.get(out, 2))
    expected = sampling.log_softmax(logits)
    assert logits[5] - peak - math.log(total) == pytest.approx(expected[5], abs=1e-5)
    value, token, found = math.inf, -1, []
    for _ in range(VOCABULARY):
        token = sampler.instance.call("runner_up", sampler.at["logits"], VOCABULARY, value, token)
        assert isinstance(token, int)
        value = float(logits[token])
        found.append(token)
    assert found == list(np.argsort(-logits, kind="stable"))
    assert sampler.instance.call("runner_up", sampler.at["logits"], VOCABULARY, value, token) == -1
