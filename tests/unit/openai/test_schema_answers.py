"""What a random-weight model says under random schemas validates; bad schemas are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.reference.schema_answers import asked, open_service, outcomes, random_model, varied
from tests.unit.grammar.test_grammar_schemas import HOSTILE

from tilewright.serve.openai.service import OpenAIService

pytest.importorskip("wasmtime", reason="the CPU path needs wasmtime natively")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[OpenAIService]:
    model, service = await open_service(await random_model(tmp_path / "worded.gguf"))
    yield service
    await model.close()


async def test_every_answer_validates(service: OpenAIService) -> None:
    """``python3 build bench bench_schemas`` asks all 500."""
    found = [outcome async for outcome in outcomes(service, range(1000, 1036))]
    assert [outcome for outcome in found if outcome.fault] == []
    refused = [outcome.reason for outcome in found if outcome.status != 200]
    assert all("Nothing can satisfy" in reason for reason in refused), refused
    assert len(refused) <= 2
    assert varied(outcome.text for outcome in found if outcome.status == 200) > 0.5


async def test_adversarial_schemas_are_refused_with_a_reason(service: OpenAIService) -> None:
    for name, (schema, _) in HOSTILE.items():
        outcome = await asked(service, schema, 0)
        assert outcome.status == 400, (name, outcome)
        assert outcome.reason, name
    good = await asked(service, {"type": "integer", "minimum": 3, "maximum": 4}, 0)
    assert good.text in ("3", "4")  # the service is as well as before
