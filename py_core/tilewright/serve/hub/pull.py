"""Fetches a model into the Hub's cache: in parallel, resumable, checked.

A file is fetched in pieces by several connections into ``blobs/OID.tilewright.part``; which bytes
are there is kept beside it, so that a later run goes on where this one stopped. The blob gets its
name only when it is whole and its sha256, where the hub gives one, is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import SourceError
from ...webgpu.memory import Progress
from .cache import Repository, cached, default_folder, default_token, room_for
from .client import Client, default_hub
from .reference import Chosen, HubFile, choose, parse_reference

CONNECTIONS = 4
PIECE = 8 << 20
"""Bytes per request."""
_HASHED = 8 << 20

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Pulled:
    """A model that is on this machine."""

    path: Path
    """Of the file to open."""
    label: str
    commit: str
    files: tuple[str, ...]
    fetched: int
    """Bytes that came over the network now."""


async def pull(
    text: str,
    *,
    client: Client | None = None,
    folder: Path | None = None,
    budget: int | None = None,
    on_progress: OnProgress | None = None,
) -> Pulled:
    """Fetch what a reference stands for, unless it is there. Raises SourceError.

    ``budget``: bytes of weights that fit the device; the choice of a file prefers what does.
    """
    reference = parse_reference(text)
    client = client or Client(default_hub(), default_token())
    folder = folder or default_folder()
    repository = Repository(folder, reference.repository)
    commit = await asyncio.to_thread(client.commit, reference)
    files = await asyncio.to_thread(client.files, reference, commit)
    chosen = choose(reference, files, budget)
    missing = [f for f in chosen.files if not repository.snapshot(commit, f.path).exists()]
    absent = [f for f in missing if not repository.blob(f.oid).exists()]
    total = sum(file.size for file in absent)
    room_for(folder, total)
    counter = _Counter(total, on_progress)
    for file in absent:
        url = client.address(reference, commit, file.path)
        await _Download(client, url, file, repository.blob(file.oid), counter).run()
    paths = [repository.link(commit, file.path, file.oid) for file in chosen.files]
    repository.keep_commit(reference.revision, commit)
    names = tuple(file.path for file in chosen.files)
    return Pulled(paths[0], chosen.label, commit, names, counter.fetched)


async def on_this_machine(text: str, on_progress: OnProgress | None = None) -> Path:
    """Return where a reference's model lies here; it is fetched where it does not."""
    return already_here(text) or (await pull(text, on_progress=on_progress)).path


def already_here(text: str, folder: Path | None = None) -> Path | None:
    """Return the model of a reference if a former pull left all of it; asks no network."""
    reference = parse_reference(text)
    repository, commit = cached(folder or default_folder(), reference)
    if commit is None:
        return None
    here = repository.files(commit)
    files = [HubFile(name, path.stat().st_size, "", None) for name, path in here.items()]
    try:
        chosen = choose(reference, files)
    except SourceError:
        return None
    return here[chosen.files[0].path] if _whole(chosen, here) else None


def _whole(chosen: Chosen, here: dict[str, Path]) -> bool:
    """Whether no shard of a safetensors model is missing; GGUF sets are whole when chosen."""
    main = chosen.files[0].path
    if not main.endswith(".index.json"):
        return True
    folder = main[: main.rfind("/") + 1]
    try:
        table = json.loads(here[main].read_bytes())["weight_map"]
        return all(folder + name in here for name in table.values())
    except (ValueError, KeyError, AttributeError):
        return False


class _Counter:
    """Adds up what several connections have fetched."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total, self.done, self.fetched = total, 0, 0
        self._on_progress = on_progress
        self._begun = time.perf_counter()

    def add(self, nbytes: int, *, fetched: bool = True) -> None:
        self.done += nbytes
        self.fetched += nbytes if fetched else 0
        if self._on_progress is not None:
            seconds = time.perf_counter() - self._begun
            self._on_progress(Progress("download", self.done, self.total, seconds))


class _Download:
    """One file."""

    def __init__(
        self, client: Client, url: str, file: HubFile, blob: Path, counter: _Counter
    ) -> None:
        self._client, self._url, self._file = client, url, file
        self._blob, self._counter = blob, counter
        self._part = blob.with_name(blob.name + ".tilewright.part")
        self._marks = blob.with_name(blob.name + ".tilewright.json")
        self._got: dict[int, int] = {}
        """Start of a piece -> bytes of it that are in the part."""
        self._stop = False

    async def run(self) -> None:
        self._blob.parent.mkdir(parents=True, exist_ok=True)
        try:
            with await asyncio.to_thread(_lock, self._part):
                if self._blob.exists():  # another process was faster
                    return
                await self._fetch()
        except OSError as error:
            raise SourceError(f"{self._part} cannot be written ({error.strerror}).") from error

    async def _fetch(self) -> None:
        self._recall()
        self._counter.add(sum(self._got.values()), fetched=False)
        starts = iter([s for s in range(0, self._file.size, PIECE) if self._left(s)])
        with self._part.open("r+b") as stream:
            workers = [
                asyncio.create_task(self._work(starts, stream.fileno())) for _ in range(CONNECTIONS)
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                self._stop = True
                await asyncio.gather(*workers, return_exceptions=True)
                self._remember()
            os.fsync(stream.fileno())
        await asyncio.to_thread(self._check)
        self._part.replace(self._blob)
        self._marks.unlink(missing_ok=True)

    async def _work(self, starts: Iterator[int], handle: int) -> None:
        for start in starts:
            thread = asyncio.ensure_future(asyncio.to_thread(self._piece, start, handle))
            try:
                await asyncio.shield(thread)
            except asyncio.CancelledError:
                self._stop = True  # the thread must let go of the file before it is closed
                await asyncio.wait([thread])
                raise
            self._remember()

    def _stopped(self) -> bool:
        return self._stop

    def _left(self, start: int) -> int:
        return min(PIECE, self._file.size - start) - self._got.get(start, 0)

    def _piece(self, start: int, handle: int) -> None:
        """Fetch what is left of one piece; a server that ignores ranges is read on and on."""
        attempt = 0
        while self._left(start) and not self._stopped():
            first = start + self._got.get(start, 0)
            before = self._counter.fetched
            try:
                end = min(start + PIECE, self._file.size)
                for at, data in self._client.range(self._url, first, end, self._file.size):
                    self._keep(at, data, handle)
                    if self._stopped():
                        return
            except (SourceError, OSError) as error:
                if self._counter.fetched > before:
                    attempt = 0  # it moves
                self._client.wait_or_raise(error, attempt, self._url)
                attempt += 1

    def _keep(self, at: int, data: bytes, handle: int) -> None:
        """Write bytes where they belong; count those that were not there."""
        while data:
            start = at // PIECE * PIECE
            count = min(len(data), start + PIECE - at)
            had = self._got.get(start, 0)
            if at <= start + had < at + count:
                self._write(handle, data[:count], at)
                self._got[start] = at + count - start
                self._counter.add(at + count - start - had)
            at, data = at + count, data[count:]

    def _write(self, handle: int, data: bytes, at: int) -> None:
        try:
            while data:
                count = os.pwrite(handle, data, at)
                data, at = data[count:], at + count
        except OSError as error:  # not the network's, which would be tried again
            raise SourceError(
                f"{self._part} cannot be written ({error.strerror}): make room or set "
                "HF_HUB_CACHE, then go on with the same command.",
                reason="disk",
            ) from error

    def _recall(self) -> None:
        """Read which bytes a former run left; nothing where the file is another one."""
        with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
            told = json.loads(self._marks.read_bytes())
            if told["oid"] == self._file.oid and self._part.stat().st_size == self._file.size:
                self._got = {
                    int(start): int(got)
                    for start, got in told["got"].items()
                    if int(start) % PIECE == 0 and 0 <= int(got) <= PIECE
                }
                return
        with self._part.open("wb") as stream:
            stream.truncate(self._file.size)

    def _remember(self) -> None:
        text = json.dumps({"oid": self._file.oid, "got": dict(self._got)})
        made = self._marks.with_suffix(".new")
        made.write_text(text)
        made.replace(self._marks)

    def _check(self) -> None:
        """Hold the part against its checksum: sha256 of large files, git's of small ones."""
        large = self._file.sha256 is not None
        digest = hashlib.sha256() if large else hashlib.sha1(usedforsecurity=False)
        if not large:
            digest.update(f"blob {self._file.size}\0".encode())
        with self._part.open("rb") as stream:
            while data := stream.read(_HASHED):
                digest.update(data)
        if digest.hexdigest() != self._file.oid:
            self._part.unlink()
            self._marks.unlink(missing_ok=True)
            raise SourceError(
                f"{self._file.path} arrived damaged (its checksum is {digest.hexdigest()[:12]}..., "
                f"not {self._file.oid[:12]}...) and was thrown away: pull it again.",
                file=self._file.path,
                reason="checksum",
            )


@contextmanager
def _held(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


def _lock(part: Path) -> contextlib.AbstractContextManager[None]:
    """Wait until no other process fetches this file; where the system has locks."""
    handle = os.open(part, os.O_CREAT | os.O_RDWR)
    with contextlib.suppress(ImportError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
    return _held(handle)
