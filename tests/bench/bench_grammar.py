"""Cost of constrained decoding over a real vocabulary: JSON lines, natively or in Pyodide.

Usage: ``python tests/bench/bench_grammar.py [--browser] VOCABULARY.gguf``. "first" is an answer
with a grammar that was just compiled, "warm" the median of later answers: milliseconds per token of
the mask, the acceptance and the forced runs together. Processor time natively, clock in the page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]
MEASURE = """
import json, random, time
from tilewright.serve.openai.constraints import Grammars
from tilewright.serve.openai.request import chat_request
from tilewright.text.tokenizer import Tokenizer

SCHEMA = {"type": "object", "properties": {
    "name": {"type": "string"}, "email": {"type": "string", "format": "email"},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
    "address": {"type": "object", "properties": {"city": {"type": "string"},
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"}}, "required": ["city"]}},
    "required": ["name", "age", "address"], "additionalProperties": False}

def measure(metadata, clock):
    tokenizer = Tokenizer.from_gguf(metadata)
    grammars = Grammars(tokenizer, tokenizer.vocabulary_size)
    begun = clock()
    grammars._tokens()
    vocabulary = clock() - begun
    named = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
    messages = [{"role": "user", "content": "x"}]
    def compiled(n):
        schema = {**SCHEMA, "title": str(n)}
        named["json_schema"]["schema"] = schema
        request = chat_request({"messages": messages, "response_format": named})
        return grammars.chat(request, None, reasons=False, opened=False)
    def answer(grammar, seed):
        r = random.Random(seed)
        constraint = grammar.constraint(max_tokens=200)
        spent, made = 0.0, 0
        for _ in range(200):
            begun = clock()
            made += len(constraint.forced())
            mask = constraint.mask()
            spent += clock() - begun
            start = r.randrange(len(mask))
            order = (*range(start, len(mask)), *range(start))
            byte = next(i for i in order if mask[i])
            token = 8 * byte + r.choice([b for b in range(8) if mask[byte] >> b & 1])
            made += 1
            begun = clock()
            constraint.accept(token)
            spent += clock() - begun
            if token in tokenizer.end_ids:
                break
        return 1e3 * spent / made
    begun = clock()
    compiled(0)
    cold = clock() - begun
    times = []
    for n in range(1, 4):
        begun = clock()
        grammar = compiled(n)
        times.append(clock() - begun)
    each = [answer(grammar, seed) for seed in range(30)]
    return {"vocabulary": tokenizer.vocabulary_size, "vocabulary_ms": round(1e3 * vocabulary),
            "compile_first_ms": round(1e3 * cold, 1),
            "compile_ms": round(1e3 * sorted(times)[len(times) // 2], 1),
            "first_ms_per_token": round(each[0], 3),
            "warm_ms_per_token": round(sorted(each[5:])[len(each[5:]) // 2], 3)}
"""
INSTALL = """from tilewright_sources import installOpenAI
await installOpenAI()
"""
IN_PAGE = """
from js import fetch
from tilewright.formats.gguf import read_gguf
from tilewright.formats.source import MemorySource
content = (await (await fetch(data)).bytes()).to_bytes()
file = await read_gguf(MemorySource(content))
json.dumps(measure(file.metadata, time.perf_counter))
"""


async def native(path: Path) -> str:
    """Measure in this process."""
    import time

    from tilewright.formats.open import open_model

    file = await open_model(str(path))
    space: dict[str, object] = {}
    exec(compile(MEASURE, "measure", "exec"), space)
    measured = space["measure"](file.metadata, time.process_time)  # type: ignore[operator]
    file.close()
    return json.dumps(measured)


async def in_browser(path: Path) -> str:
    """Measure in the worker of the test page."""
    from tests.bench.in_chromium import open_page

    async with open_page(path.parent) as (page, base):
        await page.evaluate(
            "() => { globalThis.worker = new PythonWorker(); return worker.ready; }"
        )
        asked = [INSTALL + MEASURE + IN_PAGE, f"{base}/models/{path.name}"]
        told: str = await page.evaluate("([code, url]) => worker.run(code, url)", asked)
        return told


async def main() -> None:
    """Measure and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("vocabulary", type=Path)
    given = parser.parse_args()
    measured = await (in_browser if given.browser else native)(given.vocabulary)
    where = "browser" if given.browser else "native"
    print(json.dumps({"bench": "grammar", "where": where, **json.loads(measured)}))


if __name__ == "__main__":
    asyncio.run(main())
