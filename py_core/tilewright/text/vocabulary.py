"""The token table and the special tokens, as llama.cpp derives them from GGUF metadata.

Knows the ``tokenizer.ggml.*`` keys and the table of names by which tokens are recognised as
ends of generation; does not know how text is cut into tokens. The behaviour reproduced is that of
llama.cpp's src/llama-vocab.cpp (ggml 0.25.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import ne
from typing import Any

from tilewright.errors import TokenizerError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Values of ``tokenizer.ggml.token_type``."""

_END_OF_TURN_NAMES = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>",
)  # fmt: skip
_END_NAMES = (
    *_END_OF_TURN_NAMES, "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<|eom_id|>",
    "[EOS]", "<eos>", "<turn|>", "<|tool_response>", "[e~[",
)  # fmt: skip
_FILL_IN_NAMES = {
    "fim_pre": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
        "<|code_prefix|>", "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
        "<|code_suffix|>", "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
        "<|code_middle|>", "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}  # fmt: skip
_ALWAYS_VISIBLE = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")

_ID_KEYS = {
    "bos": ("bos_token_id",),
    "eos": ("eos_token_id",),
    "eot": ("eot_token_id",),
    "eom": ("eom_token_id",),
    "unk": ("unknown_token_id",),
    "sep": ("seperator_token_id",),  # the key is misspelled in the GGUF specification
    "pad": ("padding_token_id",),
    "mask": ("mask_token_id",),
    "fim_pre": ("fim_pre_token_id", "prefix_token_id"),
    "fim_suf": ("fim_suf_token_id", "suffix_token_id"),
    "fim_mid": ("fim_mid_token_id", "middle_token_id"),
    "fim_pad": ("fim_pad_token_id",),
    "fim_rep": ("fim_rep_token_id",),
    "fim_sep": ("fim_sep_token_id",),
}
_MAX_TOKENS = 4_000_000


@dataclass
class Vocabulary:
    """Token texts, their types and the roles of special ones.

    Attributes:
        tokens: text of each id, as the file spells it.
        types: type code of each id (NORMAL ... BYTE).
        scores: log probability or merge priority of each id; empty where the file has none.
        ids: id of each text (the last one where texts repeat).
        roles: id of each role: bos, eos, eot, eom, unk, sep, pad, mask, fim_...; absent roles
            have no entry.
        end_ids: ids that end generation.
        specials: ids that are found in text before it is cut (control, user-defined, unknown),
            longest text first.
        hidden: ids among them that are found only where the caller allows special tokens.
        control_ids: ids that untrusted text must never become: all the hidden ones, and those that
            the file calls control tokens and llama.cpp nevertheless finds in any text.
        strip_left: special ids that swallow the white space before them.
        strip_right: special ids that swallow the white space after them.

    """

    tokens: list[str]
    types: list[int]
    scores: Sequence[float]
    ids: dict[str, int]
    roles: dict[str, int] = field(default_factory=dict)
    end_ids: frozenset[int] = frozenset()
    specials: tuple[int, ...] = ()
    hidden: frozenset[int] = frozenset()
    control_ids: frozenset[int] = frozenset()
    strip_left: frozenset[int] = frozenset()
    strip_right: frozenset[int] = frozenset()

    def control_text(self) -> frozenset[str]:
        """Return the texts of ``control_ids``."""
        return frozenset(self.tokens[i] for i in self.control_ids)


def _as_text(token: object) -> str:
    if isinstance(token, bytes | bytearray):
        return token.decode("utf-8", "surrogateescape")
    if isinstance(token, str):
        return token
    raise TokenizerError("The vocabulary holds something that is not text; the file is damaged.")


def _list(metadata: Mapping[str, Any], key: str) -> list[Any] | None:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if value is None:
        return None
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TokenizerError(f"tokenizer.ggml.{key} is not a list; the file is damaged.")
    return list(value)


def _numbers(metadata: Mapping[str, Any], key: str, count: int) -> list[float] | None:
    """Return the first ``count`` numbers of a list, or None where the file has no such list."""
    values = _list(metadata, key)
    if not values:
        return None
    if len(values) < count:
        raise TokenizerError(
            f"tokenizer.ggml.{key} has {len(values)} entries for {count} tokens; "
            "the file is damaged."
        )
    if not set(map(type, values)) <= {int, float, bool} or any(map(ne, values, values)):
        raise TokenizerError(f"tokenizer.ggml.{key} holds values that are not numbers.")
    return values[:count]


def read_tokens(metadata: Mapping[str, Any]) -> Vocabulary:
    """Read tokens, types and scores from GGUF metadata; roles are not yet set.

    Raises:
        TokenizerError: lists are missing, of the wrong kind, or too short.

    """
    raw = _list(metadata, "tokens")
    if not raw:
        raise TokenizerError("The file has no vocabulary (tokenizer.ggml.tokens); choose another.")
    if len(raw) > _MAX_TOKENS:
        raise TokenizerError(
            f"The vocabulary has {len(raw)} tokens; at most {_MAX_TOKENS} are read."
        )
    # Vocabularies have a quarter of a million entries, so checks run in C where they can.
    tokens = raw if set(map(type, raw)) == {str} else list(map(_as_text, raw))
    if "" in tokens:
        tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
    types = _numbers(metadata, "token_type", len(tokens))
    scores = _numbers(metadata, "scores", len(tokens)) or []
    codes = [int(code) for code in types] if types else [NORMAL] * len(tokens)
    ids = {token: i for i, token in enumerate(tokens)}
    return Vocabulary(tokens, codes, scores, ids)


def assign_roles(
    vocabulary: Vocabulary, metadata: Mapping[str, Any], defaults: Mapping[str, int]
) -> None:
    """Set roles, ends of generation and the sets of special tokens.

    Args:
        vocabulary: changed in place.
        metadata: GGUF metadata.
        defaults: role to id where the metadata names none.

    """
    size = len(vocabulary.tokens)
    types = vocabulary.types
    unusual = [(i, code) for i, code in enumerate(types) if code != NORMAL]
    declared_control = [i for i, code in unusual if code in (CONTROL, UNKNOWN)]
    control = {i for i, code in unusual if code == CONTROL}
    roles = {role: i for role, i in defaults.items() if 0 <= i < size}
    for role, keys in _ID_KEYS.items():
        for key in keys:
            value = metadata.get(f"tokenizer.ggml.{key}")
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size:
                roles[role] = value

    def find(role: str, names: Collection[str]) -> None:
        if role not in roles:
            found = next((vocabulary.ids[n] for n in names if n in vocabulary.ids), None)
            if found is not None:
                roles[role] = found
                control.add(found)

    find("eot", _END_OF_TURN_NAMES)
    find("eom", ("<|eom_id|>",))
    for role, names in _FILL_IN_NAMES.items():
        find(role, names)
    named_ends = {vocabulary.ids[n] for n in _END_NAMES if n in vocabulary.ids}
    control |= named_ends
    ends = named_ends | {
        roles[r] for r in ("fim_pad", "fim_rep", "fim_sep", "eos", "eot", "eom") if r in roles
    }
    visible = {vocabulary.ids[n] for n in _ALWAYS_VISIBLE if n in vocabulary.ids}
    plain: set[int] = set()
    texts = {vocabulary.tokens[i]: i for i in ends}
    calls = "<|call|>" in texts or "<|calls|>" in texts
    if "<|end|>" in texts and calls and ("<|return|>" in texts or "<|flush|>" in texts):
        visible.add(texts["<|end|>"])  # harmony: ends a message, not the generation
    if "</s>" in texts and ("<|tool_response>" in texts or "<|plamo:eos|>" in texts):
        plain.add(texts["</s>"])
    ends -= {texts[n] for n in ("<|end|>", "</s>") if n in texts and texts[n] in visible | plain}

    user_defined = {i for i, code in unusual if code == USER_DEFINED} - plain | visible
    hidden = (control | {i for i, code in unusual if code == UNKNOWN}) - visible - plain
    specials = user_defined | hidden
    vocabulary.roles = roles
    vocabulary.end_ids = frozenset(ends)
    vocabulary.hidden = frozenset(hidden)
    vocabulary.control_ids = frozenset(hidden | (set(declared_control) - plain))
    vocabulary.specials = tuple(
        sorted(specials, key=lambda i: -len(vocabulary.tokens[i].encode("utf-8", "surrogatepass")))
    )
    for i in control - visible - plain:
        if types[i] not in (UNKNOWN, USER_DEFINED):
            types[i] = CONTROL
    for i in visible:
        types[i] = USER_DEFINED
    for i in plain:
        types[i] = NORMAL
    _assign_stripping(vocabulary, metadata)


def _assign_stripping(vocabulary: Vocabulary, metadata: Mapping[str, Any]) -> None:
    """Set which special tokens swallow white space: GGUF has no field for it, so by model name."""
    ids = vocabulary.ids
    pre = str(metadata.get("tokenizer.ggml.pre", ""))
    name = str(metadata.get("general.name", "")).lower()
    architecture = str(metadata.get("general.architecture", ""))
    if any(part in pre for part in ("jina-v2-de", "jina-v2-es", "jina-v2-code")) or any(
        part in architecture for part in ("nomic-bert-moe", "jina-bert-v3")
    ):
        vocabulary.strip_left = frozenset(ids[t] for t in ("<mask>",) if t in ids)
    elif "phi-3" in name or "phi3" in name:
        right = {*vocabulary.specials, *(ids[t] for t in ("</s>",) if t in ids)}
        right -= {ids[t] for t in ("<unk>", "<s>", "<|endoftext|>") if t in ids}
        vocabulary.strip_right = frozenset(right)
    elif "modern-bert" in name:
        vocabulary.strip_left = frozenset(ids[t] for t in ("[MASK]",) if t in ids)
