"""Names of the files that together make one model: ``x-00001-of-00003.gguf`` and its siblings.

Knows names only, not what is in the files.
"""

from __future__ import annotations

import re

_NUMBERED = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


def file_name(name: str) -> str:
    """Return the last component of a path or URL, without a URL's query and fragment."""
    return re.split(r"[/\\]", re.split(r"[?#]", name, maxsplit=1)[0])[-1]


def sibling_names(name: str) -> list[str]:
    """Return the file names of the set that ``name`` belongs to, in order, itself included.

    A name that is not numbered stands alone.
    """
    base = file_name(name)
    match = _NUMBERED.fullmatch(base)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return [base]
    count = int(match["count"])
    return [
        f"{match['stem']}-{number:05d}-of-{count:05d}{match['suffix']}"
        for number in range(1, count + 1)
    ]


def is_plain(name: str) -> bool:
    """Whether ``name`` is a mere file name, as one that comes from a file must be."""
    return re.fullmatch(r"\w[\w.+-]{0,254}", name) is not None
