"""Streaming never splits a character and ends with the text that decoding gives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.text.stream import StreamDecoder


@given(st.text(max_size=40), st.data())
@settings(max_examples=300, deadline=None)
def test_any_cut_of_the_bytes(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", "replace")
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=20).map(sorted))
    bounds = [0, *cuts, len(raw)]
    pieces = [raw[a:b] for a, b in pairwise(bounds)]
    decoder = StreamDecoder(pieces.__getitem__)
    shown = [decoder.push(i) for i in range(len(pieces))]
    assert "".join(shown) == raw.decode()
    assert decoder.flush() == ""


@given(st.binary(max_size=60), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_text(raw: bytes, width: int) -> None:
    pieces = [raw[at : at + width] for at in range(0, len(raw), width)]
    decoder = StreamDecoder(pieces.__getitem__)
    text = decoder.push_all(range(len(pieces))) + decoder.flush()
    assert text == raw.decode("utf-8", "replace")


def test_a_character_of_several_tokens(tokenizer: Callable[[str], Any]) -> None:
    made = tokenizer("gpt-2")
    ids = made.encode("日本 👨‍👩‍👧!")
    decoder = made.stream_decoder()
    shown = [decoder.push(i) for i in ids]
    assert "".join(shown) == "日本 👨‍👩‍👧!"
    assert "\ufffd" not in "".join(shown)
    assert "" in shown  # at least one token ends inside a character


def test_unfinished_text_is_flushed(tokenizer: Callable[[str], Any]) -> None:
    made = tokenizer("gpt-2")
    decoder = made.stream_decoder()
    first, *_ = made.encode("👨")
    assert decoder.push(first) == ""
    assert decoder.flush() == "\ufffd"
    assert decoder.push(made.encode("a")[0]) == "a"


def test_spaces_at_the_start(tokenizer: Callable[[str], Any]) -> None:
    made = tokenizer("llama-spm")
    ids = made.encode("hello world")
    assert made.stream_decoder().push_all(ids) == " hello world"
    assert made.stream_decoder(at_start=True).push_all(ids) == "hello world"
    assert made.decode(ids) == "hello world"
    assert made.decode(ids, continuation=True) == " hello world"


def test_stray_bytes_survive(tokenizer: Callable[[str], Any]) -> None:
    made = tokenizer("llama-spm")
    stray = b"a\x80 b\xbf"
    assert made.decode_bytes(made.encode(stray)) == stray
    assert tokenizer("gpt-2").encode(b"\xff") == tokenizer("gpt-2").encode("\ufffd")


def test_hidden_control_tokens(tokenizer: Callable[[str], Any]) -> None:
    made = tokenizer("llama-bpe")
    ids = made.encode("a<|eot_id|>b", parse_special=True)
    assert made.decode(ids) == "a<|eot_id|>b"
    assert made.decode(ids, special=False) == "ab"
    assert made.stream_decoder(special=False).push_all(ids) == "ab"
