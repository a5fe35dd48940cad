"""Text to ids and back for one model, built from GGUF metadata or from a tokenizer.json.

Puts together vocabulary, special tokens and encoder; knows the metadata keys, not file formats. Ids
equal llama.cpp's (GGUF) or those of Hugging Face's tokenizers (tokenizer.json).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from tilewright.errors import TokenizerError, UnsupportedModelError
from tilewright.text.byte_level import decode_lenient, unspell
from tilewright.text.encoders import (
    BytePairEncoder,
    Encoder,
    SentencePieceEncoder,
    UnigramEncoder,
    WordPieceEncoder,
    piece_bytes,
)
from tilewright.text.pretokenize import splitter_for
from tilewright.text.prompt import Prompt
from tilewright.text.special_tokens import SpecialTokenFinder
from tilewright.text.split_patterns import PRE_TOKENIZERS, PreTokenizer
from tilewright.text.stream import StreamDecoder
from tilewright.text.vocabulary import CONTROL, UNKNOWN, Vocabulary, assign_roles, read_tokens

_PREFIX = "tokenizer.ggml."
_DEFAULT_ROLES: dict[str, dict[str, int]] = {
    "llama": {"bos": 1, "eos": 2, "unk": 0},
    "bert": {"bos": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103},
    "gpt2": {"bos": 11, "eos": 11},  # Falcon's; only used where token 11 is a control token
    "whitespace": {"bos": 11, "eos": 11},
    "t5": {"eos": 1, "unk": 2, "pad": 0},
    "gemma4": {},
}
"""Ids that llama.cpp assumes where the file names none (src/llama-vocab.cpp, load)."""


class Tokenizer:
    """Encodes and decodes; build one with ``from_gguf`` or ``from_tokenizer_json``.

    Attributes:
        vocabulary_size: number of ids.
        bos_id, eos_id, eot_id, pad_id, unk_id, sep_id: ids of these roles, or None.
        end_ids: every id that ends generation.
        special_ids: ids of control, unknown and user-defined tokens.
        control_tokens: texts that untrusted input must never become.
        add_bos, add_eos, add_sep: what ``add_special`` puts around the text.
        add_space_prefix: text at the start and after special tokens gets a space in front.

    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        encoder: Encoder,
        *,
        byte_encoded: bool,
        add_bos: bool = False,
        add_eos: bool = False,
        add_sep: bool = False,
        add_space_prefix: bool = False,
    ) -> None:
        self._vocabulary = vocabulary
        self._encoder = encoder
        self._finder = SpecialTokenFinder(vocabulary)
        self._unspell = unspell if byte_encoded else None
        self._bytes: dict[int, bytes] = {}
        roles = vocabulary.roles
        self.vocabulary_size = len(vocabulary.tokens)
        self.bos_id = roles.get("bos")
        self.eos_id = roles.get("eos")
        self.eot_id = roles.get("eot")
        self.pad_id = roles.get("pad")
        self.unk_id = roles.get("unk")
        self.sep_id = roles.get("sep")
        self.end_ids = vocabulary.end_ids
        self.special_ids = frozenset(vocabulary.specials)
        self.control_tokens = vocabulary.control_text()
        self.add_bos = add_bos and self.bos_id is not None
        self.add_eos = add_eos and self.eos_id is not None
        self.add_sep = add_sep and self.sep_id is not None
        self.add_space_prefix = add_space_prefix

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Build from a ``ModelFile``'s metadata, whichever format the model came in.

        Raises:
            TokenizerError: the vocabulary is missing or damaged.
            UnsupportedModelError: its kind is not known here.

        """
        spec = _parsed(metadata.get("tilewright.tokenizer_json"))
        if isinstance(spec, Mapping):
            config = _parsed(metadata.get("tilewright.tokenizer_config"))
            return cls.from_tokenizer_json(spec, config if isinstance(config, Mapping) else None)
        return cls.from_gguf(metadata)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Self:
        """Build from the metadata of a GGUF file (all of it: some names outside matter too).

        Raises:
            TokenizerError: the vocabulary is missing or damaged.
            UnsupportedModelError: its kind is not known here.

        """
        model = metadata.get(_PREFIX + "model")
        if model in (None, "no_vocab", "none"):
            raise TokenizerError(
                "The file has no tokenizer (tokenizer.ggml.model); use a GGUF file that has one."
            )
        if model not in _DEFAULT_ROLES:
            raise UnsupportedModelError(
                f"The tokenizer model {model!r} is not known; known are {sorted(_DEFAULT_ROLES)}.",
                tokenizer=str(model),
            )
        vocabulary = read_tokens(metadata)
        defaults = dict(_DEFAULT_ROLES[model])
        if model in ("gpt2", "whitespace", "gemma4"):
            return cls._byte_pair(metadata, vocabulary, str(model), defaults)
        return cls._pieces(metadata, vocabulary, str(model), defaults)

    @classmethod
    def _byte_pair(
        cls, metadata: Mapping[str, Any], vocabulary: Vocabulary, model: str, roles: dict[str, int]
    ) -> Self:
        pre = pre_tokenizer(metadata, model)
        merges = metadata.get(_PREFIX + "merges")
        if merges is None and pre.stages == "kimi-k2":
            merges = []
        if not isinstance(merges, Sequence) or isinstance(merges, str | bytes):
            raise TokenizerError(
                "The byte-pair vocabulary has no merges (tokenizer.ggml.merges); use a GGUF file "
                "that has them."
            )
        if not set(map(type, merges)) <= {str}:
            raise TokenizerError("tokenizer.ggml.merges holds something that is not text.")
        if pre.no_default_bos or not _is_control(vocabulary, 11):
            roles.pop("bos", None)
        if not _is_control(vocabulary, 11):
            roles.pop("eos", None)
        assign_roles(vocabulary, metadata, roles)
        lowercase = _flag(metadata, "normalizer.lowercase", pre.stages != "whitespace")
        encoder = BytePairEncoder(
            vocabulary,
            list(merges),
            splitter_for(pre.stages),
            byte_encoded=pre.byte_encoded,
            ignore_merges=pre.ignore_merges,
            escape_spaces=pre.escape_spaces,
            lowercase_words=lowercase if model == "whitespace" else None,
        )
        forced_bos = pre.stages == "gemma4" and pre.add_bos
        return cls(
            vocabulary,
            encoder,
            byte_encoded=not pre.escape_spaces,
            add_bos=forced_bos or _flag(metadata, "add_bos_token", pre.add_bos),
            add_eos=_flag(metadata, "add_eos_token", False),
        )

    @classmethod
    def _pieces(
        cls, metadata: Mapping[str, Any], vocabulary: Vocabulary, model: str, roles: dict[str, int]
    ) -> Self:
        assign_roles(vocabulary, metadata, roles)
        prefix = _flag(metadata, "add_space_prefix", model == "llama")
        encoder: Encoder
        if model == "llama":
            encoder = SentencePieceEncoder(vocabulary, add_space_prefix=prefix)
        elif model == "t5":
            encoder = UnigramEncoder(
                vocabulary,
                character_map=_blob(metadata, "precompiled_charsmap"),
                add_space_prefix=prefix,
                space_as_suffix=False,
                merge_spaces=_flag(metadata, "remove_extra_whitespaces", False),
            )
        else:
            lowercase = _flag(metadata, "normalizer.lowercase", True)
            encoder = WordPieceEncoder(
                vocabulary,
                lowercase=lowercase,
                strip_accents=_flag(metadata, "normalizer.strip_accents", lowercase),
            )
        bert = model == "bert"
        return cls(
            vocabulary,
            encoder,
            byte_encoded=False,
            add_bos=bert or _flag(metadata, "add_bos_token", model == "llama"),
            add_eos=not bert and _flag(metadata, "add_eos_token", model == "t5"),
            add_sep=bert,
            add_space_prefix=prefix and not bert,
        )

    @classmethod
    def from_tokenizer_json(
        cls, tokenizer: Mapping[str, Any], config: Mapping[str, Any] | None = None
    ) -> Self:
        """Build from Hugging Face's tokenizer.json (and tokenizer_config.json).

        Raises:
            TokenizerError: the vocabulary is missing or damaged.
            UnsupportedModelError: it uses a component that is not known here.

        """
        from tilewright.text.tokenizer_json import read_tokenizer_json

        parts = read_tokenizer_json(tokenizer, config or {})
        return cls(
            parts.vocabulary,
            parts.encoder,
            byte_encoded=parts.byte_encoded,
            add_bos=parts.add_bos,
            add_eos=parts.add_eos,
            add_sep=parts.add_sep,
            add_space_prefix=parts.add_space_prefix,
        )

    def encode(
        self, text: str | bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Return the ids of ``text``.

        Args:
            text: text, or UTF-8 (stray bytes are kept or become U+FFFD, as the model has it).
            add_special: put the beginning and end tokens around it that the model wants.
            parse_special: find control tokens in the text. Never set it for untrusted text.

        """
        if isinstance(text, bytes):
            stray = self._encoder.keeps_stray_bytes
            text = text.decode("utf-8", "surrogateescape") if stray else decode_lenient(text)
        fragments = self._finder.partition(text, parse_special=parse_special)
        ids = self._encode_fragments(fragments)
        return self._surround(ids) if add_special else ids

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Return the ids of a rendered chat prompt; only the template's own text gives controls.

        The beginning token is put in front where the model wants one and the template wrote none.
        """
        vocabulary = self._vocabulary
        fragments: list[str | int] = []
        for fragment in self._finder.partition(prompt.marked, parse_special=True):
            if isinstance(fragment, int) or prompt.sentinel not in fragment:
                fragments.append(fragment)
            else:
                fragments += self._finder.partition(
                    prompt.unmark(fragment), parse_special=False, forbidden=vocabulary.control_ids
                )
        ids = self._encode_fragments(fragments)
        if self.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def _encode_fragments(self, fragments: list[str | int]) -> list[int]:
        ids: list[int] = []
        at_start = True
        for i, fragment in enumerate(fragments):
            if isinstance(fragment, int):
                ids.append(fragment)
                at_start = True
            else:
                ids += self._encoder.encode(fragment, at_start=at_start, first=i == 0)
                at_start = False
        return ids

    def _surround(self, ids: list[int]) -> list[int]:
        front = [self.bos_id] if self.add_bos else []
        back = [self.sep_id] if self.add_sep else [self.eos_id] if self.add_eos else []
        return [i for i in (*front, *ids, *back) if i is not None]

    def decode(
        self, ids: Iterable[int], *, special: bool = True, continuation: bool = False
    ) -> str:
        """Return the text of ``ids``; ``decode(encode(x)) == x`` where the model is lossless.

        Args:
            ids: token ids.
            special: show control tokens by their text, else leave them out.
            continuation: the ids go on after others, so a space at their start is text.

        Raises:
            TokenizerError: an id is outside the vocabulary.

        """
        data = self.decode_bytes(ids, special=special, continuation=continuation)
        return data.decode("utf-8", "replace")

    def decode_bytes(
        self, ids: Iterable[int], *, special: bool = True, continuation: bool = False
    ) -> bytes:
        """Return what ``decode`` returns as the bytes it is, which need not be UTF-8."""
        vocabulary = self._vocabulary
        strip = self.add_space_prefix and not continuation
        out: list[bytes] = []
        for token_id in ids:
            piece = self.token_bytes(token_id)
            if token_id in self.special_ids:
                strip = self.add_space_prefix
                if special or token_id not in vocabulary.hidden:
                    out.append(piece)
            elif piece:
                out.append(piece.removeprefix(b" ") if strip else piece)
                strip = False
        return b"".join(out)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that ``token_id`` contributes to text (control tokens: their text).

        Raises:
            TokenizerError: the id is outside the vocabulary.

        """
        found = self._bytes.get(token_id)
        if found is None:
            vocabulary = self._vocabulary
            if not 0 <= token_id < self.vocabulary_size:
                raise TokenizerError(
                    f"Token id {token_id} is outside the vocabulary of {self.vocabulary_size}.",
                    id=token_id,
                )
            found = self._bytes[token_id] = piece_bytes(
                vocabulary.tokens[token_id],
                vocabulary.types[token_id],
                byte_encoded=self._unspell,
            )
        return found

    @property
    def bos_token(self) -> str:
        """Text of the beginning-of-sequence token, for chat templates ("" where there is none)."""
        return "" if self.bos_id is None else self.token_text(self.bos_id)

    @property
    def eos_token(self) -> str:
        """Text of the end-of-sequence token, for chat templates ("" where there is none)."""
        return "" if self.eos_id is None else self.token_text(self.eos_id)

    def token_text(self, token_id: int) -> str:
        """Return the text of ``token_id``, with U+FFFD for parts of characters."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def token_id(self, text: str) -> int | None:
        """Return the id of the token that is spelled ``text`` in the vocabulary."""
        return self._vocabulary.ids.get(text)

    def stream_decoder(self, *, special: bool = True, at_start: bool = False) -> StreamDecoder:
        """Return a decoder for ids that come one by one.

        Args:
            special: show control tokens by their text, else leave them out.
            at_start: the ids start a text, so the space that encoding put in front is dropped.

        """
        hidden = self._vocabulary.hidden

        def visible_bytes(token_id: int) -> bytes:
            piece = self.token_bytes(token_id)
            return piece if special or token_id not in hidden else b""

        strip = at_start and self.add_space_prefix
        return StreamDecoder(visible_bytes, strip_first_space=strip)


def pre_tokenizer(metadata: Mapping[str, Any], model: str) -> PreTokenizer:
    """Return how text is cut for ``tokenizer.ggml.pre`` (files without it: the default way)."""
    name = "gemma4" if model == "gemma4" else metadata.get(_PREFIX + "pre") or "default"
    known = PRE_TOKENIZERS.get(str(name))
    if known is None:
        raise UnsupportedModelError(
            f"The pre-tokenizer {name!r} is not known; use the model's tokenizer.json with its "
            "safetensors files instead.",
            pre_tokenizer=str(name),
        )
    return known


def _is_control(vocabulary: Vocabulary, token_id: int) -> bool:
    types = vocabulary.types
    return token_id < len(types) and types[token_id] in (CONTROL, UNKNOWN)


def _parsed(value: Any) -> Any:
    """Return a file's content: parsed already, or text where it was written into a GGUF file."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise TokenizerError("The model's tokenizer is not valid JSON.") from error


def _flag(metadata: Mapping[str, Any], key: str, default: bool) -> bool:
    value = metadata.get(_PREFIX + key)
    return default if value is None else bool(value)


def _blob(metadata: Mapping[str, Any], key: str) -> bytes:
    value = metadata.get(_PREFIX + key)
    if value is None:
        return b""
    try:
        return value if isinstance(value, bytes) else bytes(int(v) & 0xFF for v in value)
    except (TypeError, ValueError):
        raise TokenizerError(f"{_PREFIX + key} is not a list of bytes.") from None
