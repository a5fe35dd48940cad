"""Pools of values for the corpus, their held-out part, and made-up words.

Knows nothing of conversations: it answers "give me a city" and keeps what training may use
apart from what only the evaluation may use.
"""

from __future__ import annotations

import random
import re
import zlib
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
HELD_OUT_SHARE = 8
"""One value in this many (by hash) is kept for the evaluation."""

EVALUATION_SEED = 20_261_121
"""What the evaluation's conversations are drawn with."""

_ONSETS = tuple(
    re.findall(
        r"\w+",
        "b br c ch cl d dr f fl g gl gr h j k kl l m n p pl pr r s sh sk sl st t tr v w y z",
    )
)
_VOWELS = tuple(re.findall(r"\w+", "a a a e e e i i o o u ai ea ee io oo"))
_CODAS = tuple(re.findall(r"\w+", "b d f g k l ll m n nd nk nt p r rn rk s sh st t th v x z"))


def _lists(name: str) -> dict[str, tuple[str, ...]]:
    """The lines "key: value, value" of a data file."""
    found: dict[str, tuple[str, ...]] = {}
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            kind, _, values = line.partition(":")
            found[kind.strip()] = tuple(value.strip() for value in values.split(","))
    return found


@cache
def pools() -> dict[str, tuple[str, ...]]:
    """All lists of values.txt and story_fills.txt by kind."""
    return _lists("values.txt") | _lists("story_fills.txt")


def extra_files() -> list[Path]:
    """The files of intents that are for training only, with pools of their own."""
    return sorted((DATA / "extra").glob("*.txt"))


@cache
def extra_pools() -> dict[str, tuple[str, ...]]:
    """Pools of the training alone: the lines "values kind: value, value" of those files."""
    found: dict[str, tuple[str, ...]] = {}
    for file in extra_files():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("values "):
                kind, _, values = line.removeprefix("values ").partition(":")
                found[kind] = tuple(value.strip() for value in values.split(","))
    return found


@cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Other ways to say a verb."""
    return _lists("synonyms.txt")


def is_held_out(text: str) -> bool:
    """Whether a value belongs to the evaluation only; stable between runs and machines."""
    return zlib.crc32(("held:" + text.lower()).encode()) % HELD_OUT_SHARE == 0


def held_out_words() -> frozenset[str]:
    """First words of held-out values, but for articles and other short ones."""
    values = (value for values in pools().values() for value in values if is_held_out(value))
    return frozenset(
        word for value in values if len(word := value.split()[0]) > 2 and word != "the"
    )


@cache
def _split_pool(kind: str, held_out: bool) -> tuple[str, ...]:
    chosen = tuple(value for value in pools()[kind] if is_held_out(value) == held_out)
    return chosen or pools()[kind]


class Words:
    """A seeded source of values; ``held_out`` selects which side of the split it draws from."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = held_out

    def pick(self, kind: str) -> str:
        """One value of a pool, from this source's side of the split."""
        if kind in extra_pools():
            return self.rng.choice(extra_pools()[kind])
        return self.rng.choice(_split_pool(kind, self.held_out))

    def any(self, kind: str) -> str:
        """One value of a pool that is not split (closed sets, story fillings)."""
        return self.rng.choice(pools()[kind])

    def invented(self, capital: bool = False) -> str:
        """A pronounceable word that is in no list, such as "Brantel"."""
        while True:
            parts: list[str] = []
            for _ in range(self.rng.choice((1, 2, 2, 2, 3))):
                parts += [self.rng.choice(_ONSETS), self.rng.choice(_VOWELS)]
                if self.rng.random() < 0.4:
                    parts.append(self.rng.choice(_CODAS))
            word = "".join(parts)
            if len(word) >= 4 and is_held_out(word) == self.held_out:
                return word.capitalize() if capital else word

    def letters(self) -> str:
        """A code such as "QX-41" or "b7f2": nothing in it can be guessed."""
        rng = self.rng
        while True:
            if rng.random() < 0.5:
                head = "".join(
                    rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3))
                )
                code = f"{head}{rng.choice(('-', '', '_'))}{rng.randint(1, 999)}"
            else:
                code = "".join(
                    rng.choice("abcdefghkmnpqrstuvwxyz23456789") for _ in range(rng.randint(3, 6))
                )
                if not any(c.isalpha() for c in code):
                    continue
            if is_held_out(code) == self.held_out:
                return code

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]; above 20 from this source's side of the split."""
        for _ in range(50):
            value = self.rng.randint(low, high)
            if value <= 20 or is_held_out(str(value)) == self.held_out:
                return value
        return value

    def person(self) -> tuple[str, str]:
        """(name, "girl" or "boy"); one in four is invented, in training four in ten."""
        kind = self.rng.choice(("girl", "boy"))
        invented = 0.25 if self.held_out else 0.4
        name = self.invented(True) if self.rng.random() < invented else self.pick(kind)
        return name, kind
