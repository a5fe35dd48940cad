"""A small vocabulary of bytes and common pieces, for tests that need no real one."""

from __future__ import annotations

import pytest

from tilewright.text.grammar.vocabulary import TokenVocabulary

PIECES = (
    *('{"', '": ', '": "', '", "', '"}', '": {"', ", ", "[]", "[{", "}]", "true", "null", "false"),
    *("name", "id", "ab", "xy", "foo", "the ", " of", "größe", "é", "12", "100", "-1", "0.", '\\"'),
    *(
        "\n",
        "  ",
        "x-",
        "2024",
        "-01",
        "http",
        "://",
        ".com",
        "日本",
        "日",
        "😀",
        '"q',
        "kind",
        ":",
    ),
)
END = 0
CONTROL = 1


@pytest.fixture(scope="session")
def small_vocabulary() -> TokenVocabulary:
    """Id 0 ends, id 1 is a control token, then all bytes, then pieces."""
    spellings = [
        b"</s>",
        b"<tool>",
        *(bytes([b]) for b in range(256)),
        *(p.encode() for p in PIECES),
    ]
    return TokenVocabulary(spellings, control={END, CONTROL}, end_ids={END})
