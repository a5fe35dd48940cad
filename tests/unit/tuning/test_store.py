"""Tuning records: complete keys, and nothing foreign, broken or outdated is ever used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright import settings
from tilewright.errors import SourceError
from tilewright.tuning import space
from tilewright.tuning.store import FolderStorage, Record, Records, Store
from tilewright.webgpu.kernels import matvec, norm
from tilewright.webgpu.kernels.kernel import Capabilities, Span
from tilewright.webgpu.kernels.linear import LinearStructure

HERE = Capabilities(key="adapter|driver 1", software=True)
SHAPE = LinearStructure("Q4_0", 64, 32, 1, Span(32), Span(64))
ENVIRONMENT = "wgpu 1"


def record(
    structure: LinearStructure = SHAPE,
    tuning: object | None = None,
    capabilities: Capabilities = HERE,
    environment: str = ENVIRONMENT,
) -> Record:
    chosen = tuning or matvec.QuadTuning(8, 1)
    return Record(
        key=space.key(matvec, structure, capabilities, environment),
        module="matvec",
        label="quad",
        tuning=space.name(chosen),
        seconds=1e-3,
        default_seconds=2e-3,
        naive_seconds=9e-3,
        tried=5,
        candidates=7,
        adapter=capabilities.key,
    )


def test_a_record_decides_the_choice() -> None:
    records = Records(ENVIRONMENT, [record()])
    assert records.choice(matvec, SHAPE, HERE) == matvec.QuadTuning(8, 1)
    assert records.choose(matvec, SHAPE, HERE) == matvec.QuadTuning(8, 1)


@pytest.mark.parametrize(
    "structure",
    [replace(SHAPE, rows=128), replace(SHAPE, quant="Q8_0"), replace(SHAPE, bias=True)],
    ids=["rows", "format", "fusion"],
)
def test_another_structure_has_another_key(structure: LinearStructure) -> None:
    records = Records(ENVIRONMENT, [record()])
    assert records.choice(matvec, structure, HERE) is None
    assert records.choose(matvec, structure, HERE) == matvec.default(structure, HERE)


@pytest.mark.parametrize(
    "capabilities",
    [replace(HERE, key="adapter|driver 2"), replace(HERE, f16=True), replace(HERE, subgroups=True)],
    ids=["driver", "f16", "subgroups"],
)
def test_another_device_has_another_key(capabilities: Capabilities) -> None:
    assert Records(ENVIRONMENT, [record()]).choice(matvec, SHAPE, capabilities) is None


def test_another_library_or_browser_has_another_key() -> None:
    assert Records("wgpu 2", [record()]).choice(matvec, SHAPE, HERE) is None


def test_a_changed_shader_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = space.key(matvec, SHAPE, HERE, "")
    original = matvec.kernel

    def changed(*given: object) -> object:
        made = original(*given)  # type: ignore[arg-type]
        source = replace(made.source, code=made.source.code + "// faster now\n")
        return replace(made, source=source)

    monkeypatch.setattr(matvec, "kernel", changed)
    assert space.key(matvec, SHAPE, HERE, "") != before


def test_a_grown_space_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = space.key(matvec, SHAPE, HERE, "")
    more = [*matvec.space(SHAPE, HERE), matvec.QuadTuning(128, 1)]
    monkeypatch.setattr(matvec, "space", lambda *_: more)
    assert space.key(matvec, SHAPE, HERE, "") != before


def test_capacities_of_many_tokens_share_a_record() -> None:
    shape = norm.Structure(256, 64, 64, 1e-5, Span(64), Span(64))
    assert space.key(norm, shape, HERE, "") == space.key(norm, replace(shape, tokens=64), HERE, "")
    assert space.key(norm, shape, HERE, "") != space.key(norm, replace(shape, tokens=1), HERE, "")


def test_an_unknown_choice_is_ignored() -> None:
    foreign = replace(record(), tuning="WarpTuning(warps=3)")
    records = Records(ENVIRONMENT, [foreign])
    assert records.choice(matvec, SHAPE, HERE) is None
    assert records.choose(matvec, SHAPE, HERE) == matvec.default(SHAPE, HERE)


def test_every_candidate_is_found_by_its_name() -> None:
    for tuning in space.candidates(matvec, SHAPE, HERE):
        assert space.named(space.name(tuning), matvec, SHAPE, HERE) == tuning


BROKEN = [
    "",
    "{",
    "[]",
    "null",
    "[" * 100_000,
    '{"tilewright_tuning": 1}',
    '{"tilewright_tuning": 1, "records": 7}',
    '{"tilewright_tuning": 1, "records": [null, 3, {}, []]}',
    json.dumps({"tilewright_tuning": 99, "records": [record().to_dict()]}),
    json.dumps({"tilewright_tuning": 1, "records": [{**record().to_dict(), "key": "../../x"}]}),
    json.dumps({"tilewright_tuning": 1, "records": [{**record().to_dict(), "seconds": "1"}]}),
    json.dumps({"tilewright_tuning": 1, "records": [{**record().to_dict(), "seconds": -1}]}),
    json.dumps({"tilewright_tuning": 1, "records": [{**record().to_dict(), "tried": 1.5}]}),
    '{"tilewright_tuning": 1, "records": [{"seconds": NaN}]}',
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_broken_documents_are_ignored(text: str) -> None:
    records = Records(ENVIRONMENT)
    assert records.load_json(text) == 0
    assert len(records) == 0


def test_valid_records_beside_broken_ones_are_kept() -> None:
    document = json.loads(Records(ENVIRONMENT, [record()]).to_json())
    document["records"].insert(0, {"key": 3})
    records = Records(ENVIRONMENT)
    assert records.load_json(json.dumps(document)) == 1
    assert records.choice(matvec, SHAPE, HERE) == matvec.QuadTuning(8, 1)


async def test_records_survive_a_reload(tmp_path: Path) -> None:
    store = Store(FolderStorage(tmp_path), HERE, ENVIRONMENT)
    await store.save(Records(ENVIRONMENT, [record()]))
    again = await Store(FolderStorage(tmp_path), HERE, ENVIRONMENT).load()
    assert again.choice(matvec, SHAPE, HERE) == matvec.QuadTuning(8, 1)
    assert not list(tmp_path.glob("*.tmp"))
    other = await Store(FolderStorage(tmp_path), replace(HERE, key="other"), ENVIRONMENT).load()
    assert len(other) == 0


async def test_a_corrupt_file_is_no_error(tmp_path: Path) -> None:
    store = Store(FolderStorage(tmp_path), HERE, ENVIRONMENT)
    await store.save(Records(ENVIRONMENT, [record()]))
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xff\xfe\x00 not json")
    assert len(await store.load()) == 0


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(FolderStorage(tmp_path / "file"), HERE, ENVIRONMENT)
    assert len(await store.load()) == 0
    with pytest.raises(SourceError, match="TILEWRIGHT_CACHE"):
        await store.save(Records(ENVIRONMENT, [record()]))


def test_the_default_folder_is_the_cache_of_the_settings(tmp_path: Path) -> None:
    with settings.scope(cache=str(tmp_path)):
        assert FolderStorage()._folder == tmp_path / "tuning"


def test_choices_are_printed_at_debug_3(capsys: pytest.CaptureFixture[str]) -> None:
    with settings.scope(debug=3):
        Records(ENVIRONMENT, [record()]).choose(matvec, SHAPE, HERE)
        Records(ENVIRONMENT).choose(matvec, SHAPE, HERE)
    printed = capsys.readouterr().out
    assert "QuadTuning(workgroup=8" in printed
    assert "(tuned)" in printed
    assert "(default)" in printed
