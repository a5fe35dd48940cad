"""Tuning records: what was chosen for which kernel on which device, kept between visits.

``Records`` is the set in memory and the lowering's ``choose``; ``Store`` reads and writes it as one
JSON document per environment through a ``Storage`` (a folder natively, IndexedDB in the browser).
Whatever cannot be read, has another version or names an unknown candidate is ignored: a record can
only ever make things faster. Knows no GPU handle and no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import settings
from ..errors import SourceError
from ..webgpu.kernels.kernel import Capabilities
from ..webgpu.profile import Ceilings
from . import space

_MOST_RECORDS = 20_000
_MOST_TEXT = 32 << 20
"""Characters of a document: more is not ours."""
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Record:
    """The outcome of tuning one kernel."""

    key: str
    module: str
    label: str
    """What it computes, for people."""
    tuning: str
    """The chosen candidate, as ``space.name`` writes it."""
    seconds: float
    """Of one dispatch."""
    default_seconds: float
    naive_seconds: float
    tried: int
    """Candidates that were timed; 0: too small a part of the step to be worth it."""
    candidates: int
    adapter: str

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, value: object) -> Record | None:
        """Return the record in a JSON value, or None where it is none."""
        if not isinstance(value, dict):
            return None
        kinds: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float)}
        found: dict[str, Any] = {}
        for field, kind in cls.__annotations__.items():
            item = value.get(field)
            if isinstance(item, bool) or not isinstance(item, kinds[kind]):
                return None
            if isinstance(item, int | float) and not (math.isfinite(item) and item >= 0):
                return None
            found[field] = item
        if len(found["key"]) != 32 or not set(found["key"]) <= _HEX:
            return None
        return cls(**found)


class Records:
    """The records of one device, and the choices that follow from them."""

    def __init__(self, environment: str = "", records: Iterable[Record] = ()) -> None:
        self.environment = environment
        """What the key covers besides the adapter: browser or GPU library."""
        self.ceilings: Ceilings | None = None
        """What the device can do at most, where it was measured."""
        self._records = {record.key: record for record in records}
        self._keys: dict[tuple[str, Any], str] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Any:
        return iter(self._records.values())

    def _key(self, module: Any, structure: Any, capabilities: Capabilities) -> str:
        place = (space.module_name(module), space.canonical(structure))
        if place not in self._keys:
            self._keys[place] = space.key(module, structure, capabilities, self.environment)
        return self._keys[place]

    def key(self, module: Any, structure: Any, capabilities: Capabilities) -> str:
        """Return the key under which a kernel's record is kept."""
        return self._key(module, structure, capabilities)

    def find(self, module: Any, structure: Any, capabilities: Capabilities) -> Record | None:
        """Return the record of a kernel on this device, or None."""
        if not self._records:
            return None
        return self._records.get(self._key(module, structure, capabilities))

    def put(self, record: Record) -> None:
        """Add or replace a record."""
        self._records[record.key] = record

    def choice(self, module: Any, structure: Any, capabilities: Capabilities) -> Any | None:
        """Return the recorded Tuning, or None where nothing usable is recorded."""
        record = self.find(module, structure, capabilities)
        if record is None:
            return None
        return space.named(record.tuning, module, structure, capabilities)

    def choose(self, module: Any, structure: Any, capabilities: Capabilities) -> Any:
        """Choose for the lowering: the recorded Tuning, or the default."""
        found = self.choice(module, structure, capabilities)
        chosen = module.default(structure, capabilities) if found is None else found
        if settings.current().debug >= 3:
            source = "default" if found is None else "tuned"
            kernel = module.kernel(structure, chosen, capabilities).label
            print(f"tuning: {kernel}: {space.name(chosen)} ({source})")
        return chosen

    def to_json(self) -> str:
        """Return all records as a document that ``load_json`` reads."""
        records = sorted(self._records.values(), key=lambda record: (record.label, record.key))
        document: dict[str, Any] = {"tilewright_tuning": space.RECORD_VERSION}
        if self.ceilings is not None:
            document["ceilings"] = asdict(self.ceilings)
        document["records"] = [record.to_dict() for record in records]
        return json.dumps(document, indent=1)

    def load_json(self, text: str) -> int:
        """Take over the valid records of a document; return how many there were."""
        try:
            document = json.loads(text) if len(text) <= _MOST_TEXT else None
        except (ValueError, RecursionError):
            return 0
        if not isinstance(document, Mapping):
            return 0
        listed = document.get("records")
        if document.get("tilewright_tuning") != space.RECORD_VERSION or not isinstance(
            listed, list
        ):
            return 0
        count = 0
        for value in listed[:_MOST_RECORDS]:
            record = Record.parse(value)
            if record is not None:
                self.put(record)
                count += 1
        self.ceilings = _ceilings(document.get("ceilings")) or self.ceilings
        return count


def _ceilings(value: object) -> Ceilings | None:
    """Return the ceilings in a JSON value, or None where it holds none."""
    if not isinstance(value, Mapping):
        return None
    found = [value.get(name) for name in ("bytes_per_s", "flops_per_s")]
    numbers = [float(x) for x in found if isinstance(x, int | float) and 0 < x < math.inf]
    return Ceilings(*numbers) if len(numbers) == len(found) else None


class Storage(Protocol):
    """Keeps named texts: natively files of a folder, in the browser entries of IndexedDB."""

    async def read(self, name: str) -> str | None:
        """Return the text of that name; None where there is none or it cannot be read."""
        ...

    async def write(self, name: str, text: str) -> None:
        """Keep ``text`` whole or not at all; SourceError where that fails."""
        ...


class FolderStorage:
    """Files ``NAME.json`` of a folder, written beside their place and then moved there."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """``folder``: default is ``tuning`` in the cache folder of the settings."""
        self._folder = Path(folder or Path(settings.current().cache) / "tuning")

    async def read(self, name: str) -> str | None:
        """Return a file's text."""
        path = self._folder / f"{name}.json"
        try:
            if path.stat().st_size > _MOST_TEXT:
                return None
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    async def write(self, name: str, text: str) -> None:
        """Replace a file atomically."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(temporary, self._folder / f"{name}.json")
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise SourceError(
                f"The tuning records cannot be kept in {self._folder} ({error.strerror}): choose "
                "another folder with TILEWRIGHT_CACHE."
            ) from error


class Store:
    """The records of one environment in a storage."""

    def __init__(self, storage: Storage, capabilities: Capabilities, environment: str = "") -> None:
        self._storage = storage
        self._environment = environment
        place = hashlib.sha256(f"{capabilities.key}|{environment}".encode())
        self._name = place.hexdigest()[:16]

    async def load(self, shipped: str = "") -> Records:
        """Return what is kept; empty where nothing (or nothing readable) is.

        ``shipped``: a document from elsewhere, for what is not kept.
        """
        records = Records(self._environment)
        if shipped:
            records.load_json(shipped)
        text = await self._storage.read(self._name)
        if text is not None:
            records.load_json(text)
        return records

    async def save(self, records: Records) -> None:
        """Keep ``records`` in place of what was kept; SourceError where that fails."""
        await self._storage.write(self._name, records.to_json())
