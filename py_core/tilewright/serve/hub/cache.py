"""The Hub's own cache folder: files that other programs fetched are used, and ours by them.

``models--org--repo/`` holds ``blobs/`` (contents, named by their oid), ``refs/NAME`` (the commit of
a branch) and ``snapshots/COMMIT/path`` (links to blobs). The folder is ``HF_HUB_CACHE``, else
``HF_HOME/hub``, else ``~/.cache/huggingface/hub``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import SourceError
from .reference import Reference


def default_folder() -> Path:
    """Return where the Hub's cache is on this machine."""
    given = os.environ.get("HF_HUB_CACHE")
    if given:
        return Path(given)
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home) / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "huggingface" / "hub"


def default_token() -> str | None:
    """Return the user's token: ``HF_TOKEN``, else the file that the Hub's own tools write."""
    given = os.environ.get("HF_TOKEN")
    if given:
        return given.strip()
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    path = Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


@dataclass(frozen=True)
class LocalModel:
    """A model file in the cache."""

    reference: str
    path: Path
    nbytes: int


class Repository:
    """One repository's folder in the cache."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder / f"models--{name.replace('/', '--')}"

    def commit(self, revision: str) -> str | None:
        """Return the commit that ``revision`` meant when it was last asked, if known."""
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        path = self.folder / "refs" / revision
        return path.read_text().strip() if path.is_file() else None

    def keep_commit(self, revision: str, commit: str) -> None:
        """Remember what a branch or tag means."""
        if revision == commit:
            return
        path = self.folder / "refs" / revision
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)

    def blob(self, oid: str) -> Path:
        """Return where the content with this oid lies, or will."""
        return self.folder / "blobs" / oid

    def snapshot(self, commit: str, path: str) -> Path:
        """Return the place of a file in a snapshot."""
        return self.folder / "snapshots" / commit / path

    def link(self, commit: str, path: str, oid: str) -> Path:
        """Make the file of a snapshot that stands for a blob."""
        target, blob = self.snapshot(commit, path), self.blob(oid)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a link to a blob that is gone
            try:
                target.symlink_to(os.path.relpath(blob, target.parent))
            except OSError:  # no links on this file system: the file itself, as the Hub does
                shutil.move(blob, target)
        return target

    def files(self, commit: str) -> dict[str, Path]:
        """Return the files of a snapshot that are there, by their path in the repository."""
        root = self.folder / "snapshots" / commit
        found = {}
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            if path.is_file():
                found[path.relative_to(root).as_posix()] = path
        return found


def local_models(folder: Path) -> Iterator[LocalModel]:
    """Yield the model files that are in the cache, of any snapshot."""
    for repository in sorted(folder.glob("models--*--*")):
        name = repository.name.removeprefix("models--").replace("--", "/", 1)
        for snapshot in sorted((repository / "snapshots").glob("*")):
            for path in sorted(snapshot.rglob("*")):
                if path.suffix in (".gguf", ".safetensors") and path.is_file():
                    inside = path.relative_to(snapshot).as_posix()
                    yield LocalModel(f"hf:{name}/{inside}", path, path.stat().st_size)


def room_for(folder: Path, nbytes: int) -> None:
    """Raise SourceError where the disk has no room for ``nbytes`` more."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise SourceError(
            f"{folder} has room for {free / 1e6:.0f} MB, but {nbytes / 1e6:.0f} MB are needed: "
            "free some, or set HF_HUB_CACHE to another disk.",
            free=free,
            needed=nbytes,
        )


def cached(folder: Path, reference: Reference) -> tuple[Repository, str | None]:
    """Return a reference's repository and the commit it stands for here, if known."""
    repository = Repository(folder, reference.repository)
    return repository, repository.commit(reference.revision)
