"""``hf:org/repo``, ``hf:org/repo:Q4_K_M``, ``hf:org/repo/file.gguf``, each with ``@revision``.

Parses references and chooses among the files of a repository. Knows no network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import InvalidRequestError, SourceError
from ...formats.shards import sibling_names

PREFIX = "hf:"
_PARTS = re.compile(
    r"hf:(?://)?(?P<repository>[\w.-]+/[\w.-]+?)(?::(?P<quantization>[\w.-]+))?"
    r"(?:@(?P<early>refs/[\w-]+/[\w.-]+|[^/@]+))?(?:/(?P<path>[^@]+?))?(?:@(?P<late>.+))?"
)
_QUANTIZATION = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d+(?:_[0-9A-Z]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|F32|FP16|FP32))"
    r"(?=[-._/]|$)",
    re.IGNORECASE,
)
_LIKED = (
    *("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q4_1", "IQ4_XS", "IQ4_NL", "MXFP4", "Q5_K_S", "Q8_0"),
)
"""The usual balance of size and quality first, then what is nearest to it."""
_HELPERS = re.compile(r"(^|[-._/])(mmproj|imatrix|adapter)([-._]|$)", re.IGNORECASE)
"""GGUF files that are no model of their own."""
BESIDE = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    *("chat_template.jinja", "1_Pooling/config.json"),
)
"""What a safetensors model needs besides its weights."""
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Reference:
    """A parsed reference."""

    repository: str
    revision: str = "main"
    path: str | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    path: str
    size: int
    oid: str
    """The name of its blob: sha256 of large files, git's sha1 of small ones."""
    sha256: str | None
    """Where the hub knows it."""


@dataclass(frozen=True)
class Chosen:
    """The files that make a model; the first is the one to open."""

    label: str
    files: tuple[HubFile, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def parse_reference(text: str) -> Reference:
    """Parse a reference; InvalidRequestError where it is none."""
    found = _PARTS.fullmatch(text.strip())
    path = found["path"] if found else None
    odd = path is not None and any(part in ("", ".", "..") for part in path.split("/"))
    if found is None or odd or (found["early"] and found["late"]):
        raise InvalidRequestError(
            f"{text[:200]} is no reference to a model: write hf:organisation/repository, with "
            ":Q4_K_M, /file.gguf or @revision after it where needed.",
            field="model",
        )
    revision = found["early"] or found["late"] or "main"
    if ".." in revision.split("/"):
        raise InvalidRequestError(f"{revision[:80]} is no revision.", field="model")
    return Reference(found["repository"], revision, path, found["quantization"])


def quantization_of(path: str) -> str:
    """Return the quantization that a file's name tells: ``Q4_K_M``; empty where it tells none."""
    name = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", path, flags=re.IGNORECASE)
    found = _QUANTIZATION.findall(name)
    return str(found[-1]).upper() if found else ""


def choices(files: Sequence[HubFile]) -> list[Chosen]:
    """Return the GGUF models of a repository, each with all its parts; the largest first."""
    by_path = {file.path: file for file in files}
    found = []
    for path in by_path:
        if not path.lower().endswith(".gguf") or _HELPERS.search(path):
            continue
        folder = path[: path.rfind("/") + 1]
        names = [folder + name for name in sibling_names(path)]
        if names[0] != path or not all(name in by_path for name in names):
            continue
        parts = tuple(by_path[name] for name in names)
        found.append(Chosen(quantization_of(path) or path, parts))
    return sorted(found, key=lambda choice: -choice.nbytes)


def choose(reference: Reference, files: Sequence[HubFile], budget: int | None = None) -> Chosen:
    """Return the files that a reference stands for.

    ``budget``: bytes of weights that fit; the choice prefers what does. SourceError, with what
    there is, where nothing answers to the reference.
    """
    if reference.path is not None:
        return _named(reference, reference.path, files)
    found = choices(files)
    wanted = reference.quantization
    if not found or (wanted is not None and wanted.lower() == "safetensors"):
        return _safetensors(reference, files)
    if wanted is not None:
        for prefix in ("", "UD-"):
            for choice in found:
                if choice.label.removeprefix(prefix) == wanted.upper():
                    return choice
        names = list(dict.fromkeys(choice.label for choice in found))
        raise SourceError(
            f"{reference.repository} has no {wanted}; it has {', '.join(names)}.", names=names
        )
    fitting = [choice for choice in found if budget is None or choice.nbytes <= budget]
    for name in _LIKED:
        for choice in fitting:
            if choice.label == name:
                return choice
    return fitting[0] if fitting else found[-1]


def _named(reference: Reference, path: str, files: Sequence[HubFile]) -> Chosen:
    by_path = {file.path: file for file in files}
    if path not in by_path:
        raise SourceError(
            f"{reference.repository} has no file {path} at {reference.revision}: check the name.",
            file=path,
        )
    if path.endswith((".safetensors", ".json")):
        return _safetensors(reference, files, path)
    folder = path[: path.rfind("/") + 1]
    names = [folder + name for name in sibling_names(path)]
    parts = tuple(by_path[name] for name in names if name in by_path)
    return Chosen(quantization_of(path) or path, parts)


def _safetensors(reference: Reference, files: Sequence[HubFile], path: str | None = None) -> Chosen:
    """Return a model of .safetensors files: those of one folder, and what belongs to them."""
    folder = path[: path.rfind("/") + 1] if path else ""
    here = {f.path.removeprefix(folder): f for f in files if f.path.startswith(folder)}
    weights = [name for name in here if "/" not in name and name.endswith(".safetensors")]
    if path and path.endswith(".safetensors"):
        first = path.removeprefix(folder)
        weights = [name for name in sibling_names(first) if name in here]
    main = [name for name in (_INDEX, "model.safetensors", *weights) if name in here][:1]
    if not main or "config.json" not in here or not weights:
        raise SourceError(
            f"{reference.repository} holds no model that can be loaded: a .gguf file is needed, or "
            "config.json and model.safetensors. Look for a repository of the model with GGUF in "
            "its name."
        )
    others = [name for name in (_INDEX, *weights, *BESIDE) if name in here]
    return Chosen("safetensors", tuple(here[name] for name in dict.fromkeys((*main, *others))))
