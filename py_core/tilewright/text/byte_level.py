"""GPT-2's spelling of bytes as printable characters; knows nothing of vocabularies.

Source: the byte-to-unicode table of OpenAI's GPT-2 release (encoder.py): bytes that are printable
in Latin-1 stand for themselves, the others for U+0100 and up, in order.
"""

from __future__ import annotations

import re

_STRAY = re.compile("[\udc80-\udcff]")
_PRINTABLE = frozenset([*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)])
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

BYTE_TO_CHAR = {byte: chr(0x100 + i) for i, byte in enumerate(_OTHERS)}
"""For ``str.translate`` of Latin-1 text: bytes that do not stand for themselves."""

CHAR_TO_BYTE = {ord(char): byte for byte, char in BYTE_TO_CHAR.items()} | {
    byte: byte for byte in _PRINTABLE
}
"""Byte of each code point of the spelling."""


def spell(text: str) -> str:
    """Return the UTF-8 bytes of ``text`` in printable characters."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1").translate(BYTE_TO_CHAR)


def unspell(token: str) -> bytes:
    """Return the bytes that ``token`` spells; a character outside the spelling gives its UTF-8."""
    try:
        return bytes([CHAR_TO_BYTE[ord(char)] for char in token])
    except KeyError:
        return b"".join(
            bytes([CHAR_TO_BYTE[ord(c)]])
            if ord(c) in CHAR_TO_BYTE
            else c.encode("utf-8", "surrogatepass")
            for c in token
        )


def decode_lenient(data: bytes) -> str:
    """Decode UTF-8 as llama.cpp does: U+FFFD for each byte that starts no whole sequence.

    Overlong forms and surrogates pass (src/unicode.cpp, unicode_cpt_from_utf8); what lies beyond
    U+10FFFF becomes U+FFFD.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    out: list[str] = []
    at = 0
    while at < len(data):
        lead = data[at]
        length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        tail = data[at + 1 : at + length]
        whole = len(tail) == length - 1 and all(byte & 0xC0 == 0x80 for byte in tail)
        if 0x80 <= lead < 0xC0 or lead >= 0xF8 or not whole:
            out.append("\ufffd")
            at += 1
            continue
        code = lead if length == 1 else lead & (0xFF >> (length + 1))
        for byte in tail:
            code = code << 6 | byte & 0x3F
        out.append(chr(code) if code < 0x110000 else "\ufffd")
        at += length
    return "".join(out)


def has_stray_bytes(text: str) -> bool:
    """Tell whether ``text`` holds bytes that were not UTF-8, as surrogate escapes."""
    return not text.isascii() and _STRAY.search(text) is not None


def utf8_units(text: str) -> list[str]:
    """Cut text that may hold stray bytes (as surrogate escapes) where llama.cpp would.

    It trusts the first byte of each character for its length, so stray bytes swallow their
    neighbours (src/unicode.cpp, unicode_len_utf8).
    """
    data = text.encode("utf-8", "surrogateescape")
    units: list[str] = []
    at = 0
    while at < len(data):
        lead = data[at]
        end = at + (1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4)
        units.append(data[at:end].decode("utf-8", "surrogateescape"))
        at = end
    return units
