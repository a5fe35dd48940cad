"""The recorded kernel cases: current, passing on this device, and able to fail."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InvalidRequestError
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels import norm
from tilewright.webgpu.selftest import CaseResult, build_structure, random_floats, run_cases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    # Through JavaScript's numbers, as in the page: 0.0 becomes 0.
    def number(text: str) -> float:
        return int(float(text)) if float(text).is_integer() else float(text)

    text = (ROOT / "web" / "public" / "kernel_cases.json").read_text()
    found: list[dict[str, Any]] = json.loads(text, parse_float=number)["cases"]
    return found


async def run(device: Device, cases: list[dict[str, Any]]) -> list[CaseResult]:
    return [result async for result in run_cases(device, cases)]


def test_the_file_is_current() -> None:
    script = ROOT / "build" / "kernel_cases.py"
    checked = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_one_case_of_each_kind_passes(device: Device, cases: list[dict[str, Any]]) -> None:
    names = ("matvec Q6_K", "matmul IQ2_XS", "matvec with layer norm", "matmul with GELU, gated")
    first = {entry["group"]: entry for entry in reversed(cases)}
    chosen = [entry for entry in cases if entry["name"] in names]
    results = await run(device, [*first.values(), *chosen])
    assert [result for result in results if result.status != "pass"] == []
    assert {result.group for result in results} >= {"matvec", "attention", "sampling", "rope"}


async def test_a_wrong_result_is_noticed(device: Device, cases: list[dict[str, Any]]) -> None:
    wrong = copy.deepcopy(next(entry for entry in cases if entry["group"] == "norm"))
    values = np.frombuffer(base64.b64decode(wrong["output"]["expected"]), np.float32).copy()
    values[-1] += 0.5
    wrong["output"]["expected"] = base64.b64encode(values.tobytes()).decode()
    outside = copy.deepcopy(wrong)
    outside["output"]["rows"] -= 1
    outside["output"]["expected"] = base64.b64encode(values[:1154].tobytes()).decode()
    ids = copy.deepcopy(next(entry for entry in cases if entry["group"] == "sampling"))
    ids["ids"][0] += 1
    unknown = copy.deepcopy(wrong)
    unknown["structure"]["colour"] = 1
    results = await run(device, [wrong, outside, ids, unknown])
    assert [result.status for result in results] == ["fail", "fail", "fail", "error"]
    assert abs(results[0].difference - 0.5) < 0.01
    assert "outside" in results[1].note
    assert "chose" in results[2].note
    assert "colour" in results[3].note


def test_numbers_are_exact_and_structures_are_checked() -> None:
    values = np.frombuffer(random_floats(7, 1000, 2.0), np.float32)
    assert (np.abs(values) < 2).all()
    assert (values * 32768 == np.round(values * 32768)).all()
    assert abs(values.mean()) < 0.2
    span = {"stride": 8, "start": 0}
    fields = {"tokens": 1, "width": 8, "group": 8, "epsilon": 0, "x": span, "out": span}
    made = build_structure(norm.Structure, {**fields, "residual": {"stride": 9, "start": 1}})
    assert isinstance(made.epsilon, float)
    assert made.residual.stride == 9
    with pytest.raises(InvalidRequestError, match="shape"):
        build_structure(norm.Structure, {**fields, "shape": 1})
