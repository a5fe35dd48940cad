"""Compares the engine with llama.cpp's answers for the models of the reference data.

Run as a script it prints the table of differences per architecture and format (``python3 build
check``); ``test_oracle_models.py`` holds the same numbers against the tolerances.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.engine.sampling import SamplingParams
from tilewright.errors import TilewrightError
from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.webgpu.device import Device
from tilewright.webgpu.kernels.kv_write import KvKind
from tilewright.webgpu.kernels.linear import Arithmetic

ROOT = Path(__file__).resolve().parents[2]
ORACLE = ROOT.parent / "shared" / "oracle" / "models_and_logits"


@dataclass(frozen=True)
class Difference:
    """How far one model is from its exact reference."""

    file: str
    architecture: str
    quantization: str
    kind: str
    maximum: float
    mean: float
    argmax_wrong: int
    """Positions with another argmax although the reference's margin is twice the tolerance."""
    greedy_common: int
    """Ids that agree before the first difference."""
    greedy_length: int
    first_margin: float | None
    """The reference's margin where the continuation first differs."""


def cases() -> list[dict[str, Any]]:
    """Return the manifest's entries, or none where the folder is absent."""
    manifest = ORACLE / "manifest.json"
    return json.loads(manifest.read_text())["models"] if manifest.is_file() else []


async def compare(
    device: Device,
    case: dict[str, Any],
    *,
    kv: KvKind = "f32",
    arithmetic: Arithmetic = "f32",
    tolerance: float = 1e-3,
) -> Difference:
    """Load one model and compare logits, greedy ids or embeddings."""
    exact = case["exact"]
    options = LoadOptions(
        context_length=exact.get("n_ctx"), kv=kv, max_sequences=2, arithmetic=arithmetic
    )
    model = await ChatModel.load(ORACLE / case["file"], options=options, device=device)
    try:
        if "logits" in exact:
            return await _compare_logits(model, case, tolerance)
        return await _compare_pooled(model, case)
    finally:
        await model.close()


async def _compare_logits(model: ChatModel, case: dict[str, Any], tolerance: float) -> Difference:
    exact = case["exact"]
    wanted = np.load(ORACLE / exact["logits"])
    ids = case["token_ids"]
    data = b"".join([piece async for piece in model.engine.logits(ids)])
    got = np.frombuffer(data, np.float32).reshape(wanted.shape)
    ordered = np.sort(wanted, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 2 * tolerance
    wrong = int(np.sum(clear & (got.argmax(1) != wanted.argmax(1))))
    params = SamplingParams(temperature=0, max_tokens=len(exact["greedy_ids"]), ignore_eos=True)
    greedy = [t.id async for t in model.engine.generate(exact["greedy_prompt_ids"], params)]
    common = next(
        (n for n, (a, b) in enumerate(zip(greedy, exact["greedy_ids"], strict=True)) if a != b),
        len(greedy),
    )
    margin = exact["greedy_margins"][common] if common < len(greedy) else None
    error = np.abs(got - wanted)
    return Difference(
        Path(case["file"]).name,
        case["architecture"],
        case["quantization"],
        "logits",
        float(error.max()),
        float(error.mean()),
        wrong,
        common,
        len(greedy),
        margin,
    )


async def _compare_pooled(model: ChatModel, case: dict[str, Any]) -> Difference:
    exact = case["exact"]
    wanted = np.load(ORACLE / exact["pooled"]).reshape(-1)
    got = np.array((await model.engine.embed([case["token_ids"]]))[0], np.float32)
    if abs(float(np.linalg.norm(got)) - 1.0) < 1e-3:
        wanted = wanted / np.linalg.norm(wanted)
    error = np.abs(got - wanted)
    return Difference(
        Path(case["file"]).name,
        case["architecture"],
        case["quantization"],
        "pooled",
        float(error.max()),
        float(error.mean()),
        0,
        0,
        0,
        None,
    )


async def main() -> int:
    """Print the table; return 1 where a model is out of tolerance."""
    found = cases()
    if not found:
        print("the reference data ../shared/oracle is not on this machine: nothing compared")
        return 0
    device = await Device.open()
    print(f"{'model':28} {'maximum':>10} {'mean':>10} {'argmax':>7} {'greedy':>8}")
    bad = 0
    for case in found:
        try:
            line = await compare(device, case)
        except TilewrightError as error:
            bad += 1
            print(
                f"{Path(case['file']).name:28} FAILED: {error.message} [{error.code}]", flush=True
            )
            continue
        good = line.maximum <= 1e-3 and line.mean <= 1e-4 and line.argmax_wrong == 0
        good = good and line.greedy_common == line.greedy_length
        bad += not good
        greedy = f"{line.greedy_common}/{line.greedy_length}"
        print(
            f"{line.file:28} {line.maximum:10.2e} {line.mean:10.2e} {line.argmax_wrong:7} "
            f"{greedy:>8} {'' if good else 'OUT OF TOLERANCE'}",
            flush=True,
        )
    print(f"{len(found)} models compared, {bad} out of tolerance")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
