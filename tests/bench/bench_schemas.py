"""500 random JSON Schemas through the API with a random-weight model: one JSON line.

Every answer is validated with ``jsonschema``; the adversarial schemas of the tests are asked, too,
and must be refused with a reason. The exit status is 1 where one is not.
Usage: ``python tests/bench/bench_schemas.py [COUNT]``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "py_core")]

from tests.reference.schema_answers import (  # noqa: E402
    Outcome,
    asked,
    open_service,
    outcomes,
    random_model,
    varied,
)
from tests.unit.grammar.test_grammar_schemas import HOSTILE  # noqa: E402


async def main(count: int) -> int:
    """Ask all and print the line."""
    folder = ROOT / ".build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    model, service = await open_service(await random_model(folder / "worded.gguf"))
    begun, found = time.perf_counter(), list[Outcome]()
    async for outcome in outcomes(service, range(count)):
        found.append(outcome)
        if outcome.fault:
            print(f"# seed {outcome.seed}: {outcome.fault} in {outcome.text[:200]}", flush=True)
    seconds = time.perf_counter() - begun
    hostile = [await asked(service, schema, 0) for schema, _ in HOSTILE.values()]
    await model.close()
    answered = [outcome for outcome in found if outcome.status == 200]
    refused = [outcome for outcome in found if outcome.status != 200]
    tokens = sum(outcome.tokens for outcome in answered)
    good = sum(not outcome.fault for outcome in answered)
    turned_away = sum(outcome.status == 400 and bool(outcome.reason) for outcome in hostile)
    line = {
        "bench": "schemas",
        "schemas": count,
        "valid": good,
        "invalid": len(answered) - good,
        "refused": len(refused),
        "reasons": sorted({outcome.reason.split(":")[0][:80] for outcome in refused}),
        "different_answers": round(varied(outcome.text for outcome in answered), 3),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "adversarial": len(hostile),
        "adversarial_refused": turned_away,
    }
    print(json.dumps(line))
    return 0 if good == len(answered) and turned_away == len(hostile) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)))
