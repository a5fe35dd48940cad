"""Reads Hugging Face's tokenizer.json and tokenizer_config.json into the parts of a Tokenizer.

Knows the files' fields; the steps and models are made elsewhere. Ids equal those of Hugging Face's
tokenizers with added tokens parsed; as everywhere here, control tokens ("special": true) are found
in text only where the caller allows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.errors import TilewrightError, TokenizerError
from tilewright.text.encoders import Encoder, WordCache
from tilewright.text.json_models import JsonModel
from tilewright.text.json_steps import cutters, normalizer, prepend_scheme
from tilewright.text.unigram import SPACE_MARK
from tilewright.text.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    assign_roles,
)

_MAX_ID = 4_000_000
_ROLE_FIELDS = ("bos", "eos", "unk", "pad", "sep", "mask")


@dataclass
class JsonTokenizer:
    """What ``Tokenizer`` is made of."""

    vocabulary: Vocabulary
    encoder: Encoder
    byte_encoded: bool
    add_bos: bool
    add_eos: bool
    add_sep: bool
    add_space_prefix: bool


class JsonEncoder:
    """Normalizes, cuts and encodes text without added tokens."""

    keeps_stray_bytes = False

    def __init__(self, spec: Mapping[str, Any], model: JsonModel) -> None:
        self._normalize = normalizer(spec.get("normalizer"))
        self._cutters = cutters(spec.get("pre_tokenizer"))
        self._subwords = model.subwords
        self._cache = WordCache(model.encode_piece)

    def encode(self, text: str, *, at_start: bool, first: bool = False) -> list[int]:
        """Encode ``text``; ``first`` tells that it begins the whole text."""
        if self._normalize is not None:
            text = self._normalize(text)
        pieces = [text] if text else []
        for cut in self._cutters:
            pieces = [q for i, p in enumerate(pieces) for q in cut(p, first and i == 0) if q]
        if self._subwords is not None:
            pieces = [q for p in pieces for q in self._subwords(p)]
        return self._cache.encode(pieces)


def read_tokenizer_json(spec: Mapping[str, Any], config: Mapping[str, Any]) -> JsonTokenizer:
    """Read a parsed tokenizer.json and tokenizer_config.json.

    Raises:
        TokenizerError: fields are missing or of the wrong kind.
        UnsupportedModelError: a component is not known here.

    """
    try:
        return _read(spec, config)
    except TilewrightError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise TokenizerError(
            f"The tokenizer.json is damaged or not one ({type(error).__name__}: {error}); "
            "fetch it again."
        ) from None


def _read(spec: Mapping[str, Any], config: Mapping[str, Any]) -> JsonTokenizer:
    model = JsonModel(spec["model"])
    steps = _kinds(spec)
    byte_encoded = "ByteLevel" in steps
    added = list(spec.get("added_tokens") or [])
    vocabulary = _vocabulary(model, added, word_piece=spec["model"].get("type") == "WordPiece")
    ids = vocabulary.ids
    roles = {}
    for role in _ROLE_FIELDS:
        token = config.get(f"{role}_token")
        text = token.get("content") if isinstance(token, Mapping) else token
        if text in ids:
            roles[role] = ids[text]
    if model.unknown is not None:
        roles.setdefault("unk", model.unknown)
    front, back = _surroundings(spec.get("post_processor"), ids)
    if front is not None:
        roles["bos"] = front
    add_bos = bool(config.get("add_bos_token", front is not None))
    add_eos = bool(config.get("add_eos_token", back is not None and back == roles.get("eos")))
    add_sep = back is not None and back != roles.get("eos")
    if add_sep and back is not None:
        roles["sep"] = back
    assign_roles(vocabulary, {}, roles)
    vocabulary.strip_left = frozenset(ids[t["content"]] for t in added if t.get("lstrip"))
    vocabulary.strip_right = frozenset(ids[t["content"]] for t in added if t.get("rstrip"))
    return JsonTokenizer(
        vocabulary,
        JsonEncoder(spec, model),
        byte_encoded,
        add_bos,
        add_eos,
        add_sep,
        add_space_prefix=_adds_space(spec),
    )


def _parts(spec: Any) -> list[Mapping[str, Any]]:
    """Return a component and those inside it."""
    if not isinstance(spec, Mapping):
        return []
    inner = [*spec.get("normalizers", ()), *spec.get("pretokenizers", ())]
    inner += spec.get("processors", ())
    return [spec, *(part for item in inner for part in _parts(item))]


def _kinds(spec: Mapping[str, Any]) -> set[str]:
    components = [*_parts(spec.get("normalizer")), *_parts(spec.get("pre_tokenizer"))]
    return {str(part.get("type")) for part in components}


def _adds_space(spec: Mapping[str, Any]) -> bool:
    for part in (*_parts(spec.get("normalizer")), *_parts(spec.get("pre_tokenizer"))):
        kind = part.get("type")
        if kind == "Prepend" and part.get("prepend") == SPACE_MARK:
            return True
        if kind == "Metaspace" and prepend_scheme(part) != "never":
            return True
        if kind == "ByteLevel" and part.get("add_prefix_space"):
            return True
    return False


def _vocabulary(model: JsonModel, added: list[Mapping[str, Any]], word_piece: bool) -> Vocabulary:
    ids = dict(model.ids)
    ids |= {str(token["content"]): int(token["id"]) for token in added}
    if min(ids.values()) < 0 or max(ids.values()) > _MAX_ID:
        raise TokenizerError("A token id of the tokenizer.json is out of range.")
    size = max(ids.values()) + 1
    tokens = [f"[UNUSED_{i}]" for i in range(size)]
    types = [UNUSED] * size
    for token, i in ids.items():
        tokens[i] = token
        types[i] = NORMAL
        if model.byte_fallback and re.fullmatch("<0x[0-9A-F]{2}>", token):
            types[i] = BYTE
    for entry in added:
        types[int(entry["id"])] = CONTROL if entry.get("special") else USER_DEFINED
    if word_piece:  # spelled as in GGUF files, so that decoding is the same
        for i, token in enumerate(tokens):
            if types[i] == NORMAL:
                tokens[i] = token[2:] if token.startswith("##") else SPACE_MARK + token
    return Vocabulary(tokens, types, model.scores, ids)


def _surroundings(
    processor: Mapping[str, Any] | None, ids: Mapping[str, int]
) -> tuple[int | None, int | None]:
    """Return the ids that the post-processor puts before and behind one text."""
    front: int | None = None
    back: int | None = None
    for part in _parts(processor):
        kind = part.get("type")
        if kind in ("BertProcessing", "RobertaProcessing"):
            front, back = int(part["cls"][1]), int(part["sep"][1])
        elif kind == "TemplateProcessing":
            seen_text = False
            for item in part["single"]:
                if "Sequence" in item:
                    seen_text = True
                    continue
                token = ids.get(str(item["SpecialToken"]["id"]))
                front, back = (front, token) if seen_text else (token, back)
    return front, back
