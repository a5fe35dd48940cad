"""Normalizers and pre-tokenizers of tokenizer.json, each a function made from its JSON object.

Behaves as Hugging Face's tokenizers 0.23 does; knows the objects' fields, not vocabularies. Unknown
components are refused by name, because guessing would give wrong ids silently.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from tilewright.errors import TokenizerError, UnsupportedModelError
from tilewright.text.byte_level import spell
from tilewright.text.pretokenize import splitter_for
from tilewright.text.regex import RegexSet
from tilewright.text.unicode_data import WHITESPACE, category
from tilewright.text.unigram import SPACE_MARK, CharacterMap
from tilewright.text.wordpiece import is_ideograph

Normalizer = Callable[[str], str]
Cutter = Callable[[str, bool], list[str]]
"""Cuts a piece; the flag tells that it begins the whole text."""

_MAX_STEPS = 64


def unknown_component(kind: str, name: object) -> UnsupportedModelError:
    """Return the error for a component that is not known here."""
    return UnsupportedModelError(
        f"The tokenizer.json uses the {kind} {name!r}, which is not known here; use a GGUF file of "
        "the model instead.",
        component=str(name),
    )


def normalizer(spec: Mapping[str, Any] | None, depth: int = 0) -> Normalizer | None:
    """Return the function of a normalizer object, or None where there is nothing to do."""
    if spec is None:
        return None
    if depth > _MAX_STEPS:
        raise TokenizerError("The normalizers of the tokenizer.json are nested too deeply.")
    kind = spec["type"]
    if kind == "Sequence":
        steps = [normalizer(part, depth + 1) for part in spec["normalizers"]]
        found = [step for step in steps if step is not None]

        def run_all(text: str) -> str:
            for step in found:
                text = step(text)
            return text

        return run_all
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return lambda text: unicodedata.normalize(kind, text)
    if kind == "Lowercase":
        return str.lower
    if kind == "Strip":
        left, right = spec.get("strip_left", True), spec.get("strip_right", True)
        return lambda text: _strip(text, left, right)
    if kind == "StripAccents":
        return lambda text: strip_marks(text, "M")
    if kind == "Prepend":
        prefix = str(spec["prepend"])
        return lambda text: prefix + text if text else text
    if kind == "Replace":
        return _replacer(spec["pattern"], str(spec["content"]))
    if kind == "Precompiled":
        blob = base64.b64decode(spec.get("precompiled_charsmap") or "")
        return CharacterMap(blob).normalize if blob else None
    if kind == "BertNormalizer":
        return _bert_normalizer(spec)
    if kind == "ByteLevel":
        return spell
    raise unknown_component("normalizer", kind)


def strip_marks(text: str, kind: str) -> str:
    """Drop characters whose category begins with ``kind``."""
    return "".join(c for c in text if c.isascii() or not category(ord(c)).startswith(kind))


def _strip(text: str, left: bool, right: bool) -> str:
    blanks = "".join(map(chr, WHITESPACE))
    text = text.lstrip(blanks) if left else text
    return text.rstrip(blanks) if right else text


def _pattern(pattern: Mapping[str, Any]) -> str:
    """Return the expression of a {"String": ...} or {"Regex": ...} object."""
    if "String" in pattern:
        return re.sub(r"([^\w\s])", r"\\\1", str(pattern["String"]), flags=re.ASCII)
    return str(pattern["Regex"])


def _replacer(pattern: Mapping[str, Any], content: str) -> Normalizer:
    if "String" in pattern:
        old = str(pattern["String"])
        return lambda text: text.replace(old, content)
    regex = RegexSet([_pattern(pattern)])

    def replace(text: str) -> str:
        out: list[str] = []
        end = 0
        for match in regex.patterns[0].finditer(regex.translate(text)):
            out += (text[end : match.start()], content)
            end = match.end()
        return "".join(out) + text[end:]

    return replace


def _bert_normalizer(spec: Mapping[str, Any]) -> Normalizer:
    clean = spec.get("clean_text", True)
    spaced = spec.get("handle_chinese_chars", True)
    lower = spec.get("lowercase", True)
    accents = spec.get("strip_accents")
    strips = lower if accents is None else accents

    def tidy(char: str) -> str:
        code = ord(char)
        if (
            clean
            and char not in "\t\n\r"
            and (code == 0xFFFD or category(code) in ("Cc", "Cf", "Co", "Cs"))
        ):
            return ""
        if clean and code in WHITESPACE:
            return " "
        return f" {char} " if spaced and is_ideograph(code) else char

    def normalize(text: str) -> str:
        text = "".join(map(tidy, text))
        if strips:
            text = strip_marks(unicodedata.normalize("NFD", text), "Mn")
        return text.lower() if lower else text

    return normalize


def cutters(spec: Mapping[str, Any] | None, depth: int = 0) -> list[Cutter]:
    """Return the functions of a pre-tokenizer object, in order."""
    if spec is None:
        return []
    if depth > _MAX_STEPS:
        raise TokenizerError("The pre-tokenizers of the tokenizer.json are nested too deeply.")
    kind = spec["type"]
    if kind == "Sequence":
        return [cut for part in spec["pretokenizers"] for cut in cutters(part, depth + 1)]
    if kind == "ByteLevel":
        return _byte_level(spec)
    if kind == "Split":
        invert = bool(spec.get("invert", False))
        return [_splitting(_pattern(spec["pattern"]), str(spec["behavior"]), invert)]
    if kind == "Digits":
        alone = bool(spec.get("individual_digits", False))
        return [_splitting(r"\p{N}", "Isolated" if alone else "Contiguous", False)]
    if kind == "Whitespace":
        return [_splitting(r"\w+|[^\w\s]+", "Removed", True)]
    if kind == "WhitespaceSplit":
        return [_splitting(r"\s", "Removed", False)]
    if kind == "Punctuation":
        return [_splitting(r"[\p{P}!-/:-@\[-`{-~]", str(spec.get("behavior", "Isolated")), False)]
    if kind == "BertPreTokenizer":
        return [
            _splitting(r"\s", "Removed", False),
            _splitting(r"[\p{P}!-/:-@\[-`{-~]", "Isolated", False),
        ]
    if kind == "CharDelimiterSplit":
        return [_splitting(_pattern({"String": spec["delimiter"]}), "Removed", False)]
    if kind == "Metaspace":
        return [_metaspace(spec)]
    raise unknown_component("pre-tokenizer", kind)


def _byte_level(spec: Mapping[str, Any]) -> list[Cutter]:
    steps: list[Cutter] = []
    if spec.get("add_prefix_space", False):
        steps.append(lambda text, first: [text if text.startswith(" ") else " " + text])
    if spec.get("use_regex", True):
        split = splitter_for("gpt-2").split
        steps.append(lambda text, first: split(text))
    steps.append(lambda text, first: [spell(text)])
    return steps


def _splitting(pattern: str, behavior: str, invert: bool) -> Cutter:
    known = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
    if behavior not in known:
        raise unknown_component("split behavior", behavior)
    regex = RegexSet([pattern])

    def cut(text: str, first: bool) -> list[str]:
        spans: list[tuple[str, bool]] = []
        end = 0
        for match in regex.patterns[0].finditer(regex.translate(text)):
            if match.start() > end:
                spans.append((text[end : match.start()], invert))
            if match.end() > match.start():
                spans.append((match_text(text, match), not invert))
            end = match.end()
        if end < len(text):
            spans.append((text[end:], invert))
        return merge_spans(spans, behavior)

    return cut


def match_text(text: str, match: re.Match[str]) -> str:
    """Return the part of ``text`` at the place of a match in its translation."""
    return text[match.start() : match.end()]


def merge_spans(spans: list[tuple[str, bool]], behavior: str) -> list[str]:
    """Apply a split behavior to pieces, each marked as delimiter or not."""
    if behavior == "Isolated":
        return [text for text, _ in spans]
    if behavior == "Removed":
        return [text for text, delimiter in spans if not delimiter]
    pieces: list[str] = []
    before: bool | None = None
    for text, delimiter in spans:
        joins = {
            "MergedWithPrevious": delimiter and before is False,
            "MergedWithNext": before is True and not delimiter,
            "Contiguous": before == delimiter,
        }[behavior]
        if joins:
            pieces[-1] += text
        else:
            pieces.append(text)
        before = delimiter
    return pieces


def _metaspace(spec: Mapping[str, Any]) -> Cutter:
    mark = str(spec.get("replacement", SPACE_MARK))
    scheme = prepend_scheme(spec)
    word = re.compile(f"{re.escape(mark)}?[^{re.escape(mark)}]+|{re.escape(mark)}")
    splits = bool(spec.get("split", True))

    def cut(text: str, first: bool) -> list[str]:
        text = text.replace(" ", mark)
        wanted = scheme == "always" or (scheme == "first" and first)
        if wanted and not text.startswith(mark):
            text = mark + text
        return word.findall(text) if splits else [text]

    return cut


def prepend_scheme(spec: Mapping[str, Any]) -> str:
    """Return when a Metaspace object puts a space in front: always, first or never."""
    default = "always" if spec.get("add_prefix_space", True) else "never"
    return str(spec.get("prepend_scheme", default))
