"""Variants of the reference vocabularies: other pre-tokenizers, flags, models and tokenizer.json.

Used by the tests and by ``make_references.py``, which asks llama.cpp and Hugging Face's tokenizers
about exactly the same variants and texts.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tilewright.formats.gguf import read_gguf
from tilewright.formats.source import FileSource

Metadata = dict[str, Any]
PREFIX = "tokenizer.ggml."

WORDS = [
    "Hello",
    "world",
    "it's",
    "I'M",
    "WE'LL",
    "they've",
    "'s",
    "foo_bar",
    "camelCase",
    "HTMLParser",
    "IPhone",
    "ABCdef",
    "1",
    "12",
    "1234567",
    "3.14",
    "½",
    "²",
    "Ⅷ",
    "١٢٣",
    "naïve",
    "é",
    "à́b",
    "日本語",
    "カタカナ",
    "한국어",
    "Привет",
    "ПРИВЕТ",
    "Ωω",
    "עברית",
    "हिन्दी",
    "ไทย123",
    "'ſ",
    "ǅ",
    "ª",
    "。",
    "、",
    "！",
    "…",
    "“q”",
    "—",
    "〿",
    "︰",
    "ㄅㄆ",
    "ㄱㄴ",
    "ꩠ",
    "ｱ",
    "豈",
    "豈",
    "𠀀",
    "\U0002fa1e",
    "😀",
    "👨\u200d👩\u200d👧",
    "©",
    "$",
    "€",
    "<=",
    "!=",
    "//",
    "/*",
    "{}",
    "\\",
    "@",
    "--",
    "/path",
    "<|im_end|>",
    "</s>",
    "<unk>",
    "<|endoftext|>",
    "IMGIMGABCZ",
    "\u1680",
    "\u3000",
    "\xa0",
    "\x85",
    "\u2028",
    "\u200b",
    "\ufeff",
    "\ue000",
    "�",
    "\x00",
    "\x1c",
    "def",
    "x):",
    "▁",
    "Ġ",
]
GAPS = [" ", "  ", "", "\n", "\n\n", "\r\n", " \n", "\t", "\u3000", "\r", "\x0b", " " * 9]


def texts(count: int, seed: int = 1) -> list[str]:
    """Return texts in which words, scripts, numbers and white space meet at random."""
    choose = random.Random(seed)
    lengths = [1, 2, 3, 5, 8, 12]
    return [
        "".join(choose.choice(WORDS) + choose.choice(GAPS) for _ in range(choose.choice(lengths)))
        for _ in range(count)
    ]


async def read_metadata(path: Path) -> Metadata:
    """Read the metadata of a GGUF file."""
    source = FileSource(path)
    try:
        return dict((await read_gguf(source)).metadata)
    finally:
        source.close()


def with_pre_tokenizer(base: Metadata, name: str) -> Metadata:
    """Return ``base`` (a byte-level vocabulary) with another ``tokenizer.ggml.pre``."""
    changed = {**base, PREFIX + "pre": name}
    if name == "whitespace":
        changed[PREFIX + "model"] = "whitespace"
    return changed


FLAGS: dict[str, tuple[str, str, Metadata]] = {
    "spm no prefix": ("llama-spm", "llama", {"add_space_prefix": False}),
    "spm eos": ("llama-spm", "llama", {"add_bos_token": False, "add_eos_token": True}),
    "spm joined marks": ("llama-spm", "joined", {}),
    "gemma4": ("llama-spm", "gemma4", {}),
    "unigram": ("llama-spm", "t5", {"add_space_prefix": True, "remove_extra_whitespaces": True}),
    "unigram spaces": (
        "llama-spm",
        "t5",
        {"add_space_prefix": True, "remove_extra_whitespaces": False},
    ),
    "unigram bare": (
        "llama-spm",
        "t5",
        {"add_space_prefix": False, "remove_extra_whitespaces": False, "add_bos_token": True},
    ),
    "bert cased": ("bert-bge", "bert", {"normalizer.lowercase": False}),
    "bert accents": ("bert-bge", "bert", {"normalizer.strip_accents": False}),
    "bert stripped": (
        "bert-bge",
        "bert",
        {"normalizer.lowercase": False, "normalizer.strip_accents": True},
    ),
}
"""Name to (vocabulary, model, changed metadata)."""


def with_flags(base: Metadata, model: str, flags: Metadata) -> Metadata:
    """Return ``base`` (a SentencePiece or BERT vocabulary) as another model and with flags."""
    changed = dict(base)
    tokens = list(base[PREFIX + "tokens"])
    if model == "joined":
        # Marks inside tokens: words are no longer independent of each other.
        for i, token in enumerate(["a▁b", "x▁", "s▁", "▁\n", "\n▁", "e▁a", "\n\n", "  ", "<b>"]):
            tokens[20_000 + i] = token
        changed[PREFIX + "tokens"] = tokens
        types = list(base[PREFIX + "token_type"])
        types[20_006:20_009] = [4, 4, 4]
        changed[PREFIX + "token_type"] = types
    elif model == "gemma4":
        known = set(tokens)
        changed[PREFIX + "model"] = "gemma4"
        changed[PREFIX + "merges"] = [
            f"{token[:cut]} {token[cut:]}"
            for token in tokens[259:]
            for cut in range(1, len(token))
            if token[:cut] in known and token[cut:] in known
        ]
    elif model == "t5":
        changed[PREFIX + "model"] = "t5"
        changed[PREFIX + "token_type"] = [3 if t == 6 else t for t in base[PREFIX + "token_type"]]
        spread = random.Random(3)
        changed[PREFIX + "scores"] = [float(-spread.randint(8, 120)) / 8 for _ in tokens]
        changed |= {PREFIX + "eos_token_id": 2, PREFIX + "unknown_token_id": 0}
    return changed | {PREFIX + key: value for key, value in flags.items()}


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KIMI = (
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
    r"|\s+(?!\S)|\s+"
)
RIGHT_DIGITS = r"\d{1,3}(?=(?:\d{3})*\b)"

BYTE_LEVEL: Metadata = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
RAW_BYTES: Metadata = {**BYTE_LEVEL, "use_regex": False}


def _split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> Metadata:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": behavior,
        "invert": invert,
    }


def _sequence(*steps: Metadata) -> Metadata:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _metaspace(scheme: str, split: bool) -> Metadata:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


_PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
_TIDY = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "NFKC"},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "Lowercase"},
    ],
}
_BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}

JSON_VARIANTS: dict[str, tuple[str, Metadata]] = {
    "byte level": ("gpt-2", {"pre_tokenizer": BYTE_LEVEL}),
    "byte level prefix": ("gpt-2", {"pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}}),
    "llama3": ("gpt-2", {"pre_tokenizer": _sequence(_split(LLAMA3), RAW_BYTES)}),
    "o200k": ("gpt-2", {"pre_tokenizer": _sequence(_split(O200K), RAW_BYTES)}),
    "kimi": ("gpt-2", {"pre_tokenizer": _sequence(_split(KIMI), RAW_BYTES)}),
    "bailing": ("gpt-2", {"pre_tokenizer": _sequence(_split(BAILING), RAW_BYTES)}),
    "right digits": ("gpt-2", {"pre_tokenizer": _sequence(_split(RIGHT_DIGITS), BYTE_LEVEL)}),
    "digits": (
        "gpt-2",
        {"pre_tokenizer": _sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL)},
    ),
    "punctuation": (
        "gpt-2",
        {"pre_tokenizer": _sequence({"type": "Punctuation", "behavior": "Contiguous"}, RAW_BYTES)},
    ),
    "merged previous": (
        "gpt-2",
        {"pre_tokenizer": _sequence(_split(r"[a-m]+|\s", "MergedWithPrevious"), RAW_BYTES)},
    ),
    "merged next": (
        "gpt-2",
        {"pre_tokenizer": _sequence(_split(r"[a-m]+|\s", "MergedWithNext", True), RAW_BYTES)},
    ),
    "tidy": ("gpt-2", {"normalizer": _TIDY, "pre_tokenizer": BYTE_LEVEL}),
    "spm bpe": ("llama-spm", {"normalizer": _PREPEND, "byte_fallback": True}),
    "spm metaspace": ("llama-spm", {"pre_tokenizer": _metaspace("first", False)}),
    "unigram": ("llama-spm", {"pre_tokenizer": _metaspace("always", True), "unigram": True}),
    "bert": ("bert-bge", {"normalizer": {**_BERT, "strip_accents": None, "lowercase": True}}),
    "bert cased": (
        "bert-bge",
        {"normalizer": {**_BERT, "strip_accents": None, "lowercase": False}},
    ),
}
"""Name to (vocabulary, parts of the tokenizer.json)."""


def tokenizer_json(base: Metadata, parts: Metadata) -> Metadata:
    """Return the tokenizer.json that spells the vocabulary ``base`` in Hugging Face's form."""
    tokens = base[PREFIX + "tokens"]
    types = base[PREFIX + "token_type"]
    model: Metadata
    pre_tokenizer = parts.get("pre_tokenizer")
    if base[PREFIX + "model"] == "bert":
        tokens = [
            token if code == 3 else token[1:] if token.startswith("▁") else "##" + token
            for token, code in zip(tokens, types, strict=True)
        ]
        model = {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: i for i, token in enumerate(tokens)},
        }
        pre_tokenizer = {"type": "BertPreTokenizer"}
    elif parts.get("unigram"):
        spread = random.Random(5)
        model = {
            "type": "Unigram",
            "unk_id": 0,
            "byte_fallback": False,
            "vocab": [[token, -1 - 10 * spread.random()] for token in tokens],
        }
    else:
        merges = base.get(PREFIX + "merges") or with_flags(base, "gemma4", {})[PREFIX + "merges"]
        fallback = bool(parts.get("byte_fallback"))
        model = {
            "type": "BPE",
            "unk_token": "<unk>" if fallback else None,
            "fuse_unk": fallback,
            "byte_fallback": fallback,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        }
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, (token, code) in enumerate(zip(tokens, types, strict=True))
        if code == 3
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": parts.get("normalizer"),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
