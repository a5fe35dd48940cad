"""The models of tokenizer.json (BPE, Unigram, WordPiece): one piece of text becomes ids.

Knows the fields of the model objects; does not know added tokens, normalizers or pre-tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tilewright.errors import TokenizerError
from tilewright.text.encoders import word_pattern
from tilewright.text.json_steps import unknown_component
from tilewright.text.merges import merge
from tilewright.text.unigram import SPACE_MARK, Lattice, unknown_score
from tilewright.text.wordpiece import cut_word

PieceEncoder = Callable[[str], list[int]]

_PAIR_JOINT = "\0"


class JsonModel:
    """Token table and piece encoder of one model object.

    Attributes:
        ids: id of each token text.
        scores: log probability of each id, where the model has them.
        byte_fallback: unknown characters become byte tokens.
        encode_piece: ids of a piece.
        subwords: cuts a piece into parts that cannot merge with each other, or None.

    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        kind = spec.get("type") or ("Unigram" if "unk_id" in spec else "BPE")
        self.byte_fallback = bool(spec.get("byte_fallback", False))
        self.scores: list[float] = []
        self.unknown: int | None = None
        self.subwords: Callable[[str], list[str]] | None = None
        if kind == "Unigram":
            self.ids = {str(token): i for i, (token, _) in enumerate(spec["vocab"])}
            self.encode_piece = self._unigram(spec)
        else:
            self.ids = {str(token): int(i) for token, i in spec["vocab"].items()}
            if spec.get("unk_token") is not None:
                self.unknown = self.ids.get(str(spec["unk_token"]))
            if kind == "BPE":
                self.encode_piece = self._byte_pair(spec)
            elif kind == "WordPiece":
                self.encode_piece = self._word_piece(spec)
            else:
                raise unknown_component("model", kind)
        if not self.ids:
            raise TokenizerError("The tokenizer.json has an empty vocabulary.")

    def _byte_pair(self, spec: Mapping[str, Any]) -> PieceEncoder:
        if spec.get("continuing_subword_prefix"):
            raise unknown_component("BPE option", "continuing_subword_prefix")
        merges = spec.get("merges")
        if merges is None:
            raise TokenizerError("The BPE model of the tokenizer.json has no merges.")
        suffix = str(spec.get("end_of_word_suffix") or "")
        ignore_merges = bool(spec.get("ignore_merges", False))
        pairs = [tuple(m) if isinstance(m, list | tuple) else tuple(m.split(" ")) for m in merges]
        if not all(len(pair) == 2 for pair in pairs):
            raise TokenizerError("A merge of the tokenizer.json is not a pair.")
        ranks = {
            f"{left}{_PAIR_JOINT}{right}": rank
            for rank, (left, right) in reversed(list(enumerate(pairs)))
        }
        if not ignore_merges and not suffix:
            before_mark = {a[-1] for a, b in pairs if b[:1] == SPACE_MARK and a[-1:] != SPACE_MARK}
            # Byte-level pieces hold no such mark, so the pattern takes them whole.
            words = word_pattern(before_mark)
            self.subwords = lambda piece: words.findall(self._without_unknown(piece))
        fuse = bool(spec.get("fuse_unk", False))

        def encode(piece: str) -> list[int]:
            if ignore_merges and piece in self.ids:
                return [self.ids[piece]]
            symbols = list(self._without_unknown(piece))
            if suffix and symbols:
                symbols[-1] += suffix
            ids: list[int] = []
            unknown_before = False
            for symbol in merge(symbols, ranks, _PAIR_JOINT):
                found = self._known(symbol)
                if found is not None:
                    ids += found
                elif self.unknown is not None and not (fuse and unknown_before):
                    ids.append(self.unknown)
                unknown_before = found is None
            return ids

        return encode

    def _without_unknown(self, piece: str) -> str:
        """Drop characters that nothing stands for, so that their neighbours may merge."""
        if self.unknown is not None or self.byte_fallback:
            return piece
        return "".join([char for char in piece if char in self.ids])

    def _known(self, symbol: str) -> list[int] | None:
        """Return the id of ``symbol`` or those of its bytes; None where it is unknown."""
        found = self.ids.get(symbol)
        if found is not None:
            return [found]
        if self.byte_fallback:
            data = symbol.encode("utf-8", "surrogatepass")
            ids = [self.ids.get(f"<0x{byte:02X}>") for byte in data]
            known = [i for i in ids if i is not None]
            if len(known) == len(ids):
                return known
        return None

    def _unigram(self, spec: Mapping[str, Any]) -> PieceEncoder:
        self.scores = [float(score) for _, score in spec["vocab"]]
        if spec.get("unk_id") is not None:
            self.unknown = int(spec["unk_id"])
        lattice = Lattice(self.ids, dict(enumerate(self.scores)), -1, unknown_score(self.scores))

        def encode(piece: str) -> list[int]:
            ids: list[int] = []
            run = ""
            for token_id, text in [*lattice.cut(piece), (-2, "")]:
                if token_id in (-1, self.unknown):
                    run += text
                    continue
                if run:
                    ids += self._unknown_run(run)
                    run = ""
                if token_id >= 0:
                    ids.append(token_id)
            return ids

        return encode

    def _unknown_run(self, text: str) -> list[int]:
        found = self._known(text)
        if found is not None:
            return found
        if self.unknown is None:
            raise TokenizerError(f"The vocabulary has no token for {text[:20]!r}.")
        return [self.unknown]

    def _word_piece(self, spec: Mapping[str, Any]) -> PieceEncoder:
        rest_mark = str(spec.get("continuing_subword_prefix", "##"))
        longest = max(map(len, self.ids), default=0)
        limit = int(spec.get("max_input_chars_per_word", 100))
        if self.unknown is None:
            raise TokenizerError("A WordPiece model needs an unknown token; it has none.")
        unknown = [self.unknown]

        def encode(piece: str) -> list[int]:
            if len(piece) > limit:
                return unknown
            ids = cut_word(piece, self.ids, longest, start_mark="", rest_mark=rest_mark)
            return unknown if ids is None else ids

        return encode
