r"""Split patterns by the name a GGUF file gives in ``tokenizer.ggml.pre``; data only.

The truth here is what llama.cpp does (src/llama-vocab.cpp and src/unicode.cpp of ggml 0.25.3), not
what each model's own tokenizer.json says, because GGUF files are used with that. Where llama.cpp
approximates (it knows no letter case beyond ASCII, for one), the pattern here is the approximation.
``\s`` is the White_Space property. Stages run one after the other, each on the pieces of the last.
"""

from __future__ import annotations

from dataclasses import dataclass

_CONTRACTION = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[A-Z\p{L}&&[^a-z]]"
_LOWER = r"[a-z\p{L}&&[^A-Z]]"
_CJK = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_CJK_DEEPSEEK = r"[\u0800-\u9fa5\uac00-\ud7ff&&\S]+"
_ASCII_PUNCTUATED = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_POEM = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"

_GPT2 = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_BLANKS}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SYMBOLS}|{_BLANKS}"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}"
)
_DEEPSEEK3 = (
    rf"{_ASCII_PUNCTUATED}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}"
)
_HAN = (
    r"\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    r"\U0002b820-\U0002ceaf\U0002ceb0-\U0002ebef\uf900-\ufaff\U0002f800-\U0002fa1f"
)
_NOT_HAN = rf"[\p{{L}}&&[^{_HAN}]]"
_LETTERS_DEEPSEEK = (
    r"A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    r"\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    r"\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
    r"\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    r"\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    r"\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    r"\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    r"\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-"
    r"\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
    r"\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-"
    r"\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    r"\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)


def _cased(upper: str, lower: str, contraction: str, digits: str) -> str:
    """Return the o200k family's pattern: capitals then small letters, or capitals alone."""
    lead = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{lead}{upper}*{lower}+{contraction}|{lead}{upper}+{lower}*{contraction}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
    )


_GPT4O = _cased(_UPPER, _LOWER, f"(?:{_CONTRACTION})?", r"\p{N}{1,3}")
_UNCASED = _cased(r"[\p{L}\p{M}]", r"[\p{L}\p{M}]", f"(?:{_CONTRACTION})?", r"\p{N}{1,3}")

DIGITS_FROM_LEFT = "<digits: cut behind every group of three counted from the right>"
DIGITS_FROM_RIGHT = "<digits: cut before every group of three counted from the right>"
"""Stages that are no regular expressions; ``pretokenize`` implements them."""

STAGES: dict[str, tuple[str, ...]] = {
    "default": (
        r"[\p{P}\$\+<=>\^~\|]+",
        _GPT2,
        r"\p{N}+",
        "[0-9][0-9][0-9]",
    ),
    "gpt-2": (_GPT2,),
    "llama3": (_LLAMA3,),
    "jais-2": (
        rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|\s*[\r\n]+"
        r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)"
        r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
    ),
    "deepseek-llm": (
        r"[\r\n]",
        rf"\s?[{_LETTERS_DEEPSEEK}]+",
        r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001-\u3002]+",
        r"\s+\z",
        _CJK_DEEPSEEK,
        r"\p{N}+",
    ),
    "deepseek-v3": (r"\p{N}{1,3}", _CJK, _DEEPSEEK3),
    "spark2_5": (
        r"\p{N}{1,3}",
        _CJK,
        rf"{_ASCII_PUNCTUATED}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+"
        r"|[\r\n]|\s+(?!\S)|\s+",
        r"\p{N}",
    ),
    "youtu": (
        r"[\uac00-\ud7a3\u3131-\u318e]+|[\u3105-\u312f]+"
        r"|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|"
        + _CJK,
        _cased(r"[\p{L}\p{M}]", r"[\p{L}\p{M}]", f"(?:{_CONTRACTION})?", r"\p{N}"),
    ),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_DEEPSEEK, r"\p{N}"),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"),
    "starcoder": (r"\p{N}", _GPT2),
    "qwen2": (_QWEN2,),
    "qwen35": (_QWEN35,),
    "poro-chat": (_POEM,),
    "viking": (_POEM, r"\p{N}"),
    "tekken": (_cased(_UPPER, _LOWER, "", r"\p{N}"),),
    "chameleon": (
        "<sentinel:[0-9]+>",
        "IMGIMG[A-I]{1,4}Z",
        r"[\t\n]|    |  ",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        _GPT2,
    ),
    "gpt-4o": (_GPT4O,),
    "granite-embed-multi-97m": (
        _cased(
            r"[\p{L}\p{M}&&[^a-z]]",
            r"[\p{L}\p{M}&&[^A-Z]]",
            f"(?:{_CONTRACTION})?",
            r"\p{N}{1,3}",
        ),
    ),
    "tiny_aya": (DIGITS_FROM_LEFT, _UNCASED),
    "kimi-k2": (
        rf"[{_HAN}]+|[^\r\n\p{{L}}\p{{N}}]?{_NOT_HAN}+(?:{_CONTRACTION})?|\p{{N}}{{1,3}}"
        rf"|{_SYMBOLS}|{_BLANKS}",
    ),
    "superbpe": (r"\p{N}+", DIGITS_FROM_RIGHT),
    "bailingmoe": (
        rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{_WORD}|\p{{N}}|{_SYMBOLS}"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
    "seed-coder": (rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BLANKS}",),
    "ufakzeka": (rf"{_WORD}|\p{{N}}|{_SYMBOLS}|{_BLANKS}",),
    "afmoe": (
        DIGITS_FROM_LEFT,
        r"[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
        r"\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f"
        r"\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+",
        _DEEPSEEK3,
    ),
    "laguna": (r"[^\n]+|[\n]+", _QWEN2),
    "exaone-moe": (
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
    "gemma4": (r"[^\n]+|[\n]+",),
    "minicpm5": (
        r"\p{N}{1,3}",
        rf"{_CONTRACTION}|{_WORD}|\p{{N}}+|{_SYMBOLS}|{_BLANKS}",
    ),
    "whitespace": (r"\S+",),
}
"""Expressions of each stage, by the name of the family's first member."""


@dataclass(frozen=True)
class PreTokenizer:
    """How files with one ``tokenizer.ggml.pre`` are treated.

    Attributes:
        stages: key into STAGES.
        ignore_merges: a piece that is itself in the vocabulary is not built by merges.
        add_bos: default where ``tokenizer.ggml.add_bos_token`` is absent.
        add_sep: default where ``tokenizer.ggml.add_sep_token`` is absent.
        escape_spaces: U+0020 is U+2581 in the vocabulary, and pieces are plain UTF-8.
        byte_encoded: pieces are spelled in GPT-2's printable characters for bytes.
        no_default_bos: no beginning-of-sequence token unless the file names one.

    """

    stages: str
    ignore_merges: bool = False
    add_bos: bool = False
    add_sep: bool = False
    escape_spaces: bool = False
    byte_encoded: bool = True
    no_default_bos: bool = False


_LLAMA3_FLAGS = PreTokenizer("llama3", ignore_merges=True, add_bos=True)
_GEMMA4_FLAGS = PreTokenizer("gemma4", add_bos=True, escape_spaces=True, byte_encoded=False)

_FAMILIES: tuple[tuple[str, PreTokenizer], ...] = (
    ("default", PreTokenizer("default")),
    ("minicpm5", PreTokenizer("minicpm5", ignore_merges=True)),
    (
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        _LLAMA3_FLAGS,
    ),
    ("deepseek-llm", PreTokenizer("deepseek-llm")),
    ("deepseek-coder", PreTokenizer("deepseek-coder")),
    ("deepseek-v3 hunyuan-dense hy_v4 joyai-llm", PreTokenizer("deepseek-v3")),
    ("spark2_5", PreTokenizer("spark2_5")),
    ("youtu", PreTokenizer("youtu", ignore_merges=True)),
    ("falcon", PreTokenizer("falcon")),
    (
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
        PreTokenizer("starcoder"),
    ),
    (
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
        "mpt olmo jais trillion granite-docling exaone4",
        PreTokenizer("gpt-2"),
    ),
    ("jina-v1-en jina-v2-code roberta-bpe", PreTokenizer("gpt-2", add_sep=True)),
    ("jais-2", PreTokenizer("jais-2")),
    ("gemma4 granite-embed-multi-311m", _GEMMA4_FLAGS),
    ("sarvam-moe", PreTokenizer("gemma4", escape_spaces=True, byte_encoded=False)),
    ("whitespace", PreTokenizer("whitespace", byte_encoded=False)),
    (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2",
        PreTokenizer("qwen2"),
    ),
    ("qwen35", PreTokenizer("qwen35")),
    ("dbrx smaug-bpe", PreTokenizer("llama3")),
    ("poro-chat bloom gpt3-finnish", PreTokenizer("poro-chat")),
    ("chatglm-bpe", PreTokenizer("llama3", no_default_bos=True)),
    ("glm4 glm5", PreTokenizer("llama3", ignore_merges=True, no_default_bos=True)),
    ("viking", PreTokenizer("viking")),
    ("tekken", PreTokenizer("tekken", ignore_merges=True, add_bos=True)),
    ("exaone-moe", PreTokenizer("exaone-moe")),
    ("chameleon", PreTokenizer("chameleon", add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", PreTokenizer("gpt-4o")),
    (
        "granite-embed-multi-97m",
        PreTokenizer("granite-embed-multi-97m", ignore_merges=True),
    ),
    ("tiny_aya cohere2moe", PreTokenizer("tiny_aya")),
    ("superbpe", PreTokenizer("superbpe")),
    ("bailingmoe bailingmoe2 llada-moe", PreTokenizer("bailingmoe")),
    ("seed-coder", PreTokenizer("seed-coder")),
    ("kimi-k2", PreTokenizer("kimi-k2")),
    ("ufakzeka", PreTokenizer("ufakzeka")),
    ("afmoe", PreTokenizer("afmoe")),
    ("laguna", PreTokenizer("laguna")),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    name: flags for names, flags in _FAMILIES for name in names.split()
}
"""Every value of ``tokenizer.ggml.pre`` that is known."""
