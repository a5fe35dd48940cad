"""Small talk about itself, counting and arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from .values import NUMBER_WORDS
from .words import DATA, Words, pools

Exchange = tuple[list[str], list[str]]


@cache
def exchanges() -> tuple[list[Exchange], list[Exchange]]:
    """(about itself, facts) of talk.txt: questions with the same meaning, and their answers."""
    groups: tuple[list[Exchange], list[Exchange]] = ([], [])
    group = groups[0]
    for line in (DATA / "talk.txt").read_text(encoding="utf-8").splitlines():
        if line == "facts":
            group = groups[1]
        elif not line.startswith("#"):
            questions, _, answers = line.partition(" => ")
            group.append((questions.split(" | "), answers.split(" | ")))
    return groups


def small_talk(words: Words) -> tuple[str, str]:
    """A question about itself (or a simple fact) and the answer."""
    rng = words.rng
    if rng.random() < 0.12:
        questions, answers = rng.choice(exchanges()[1])
        return rng.choice(questions), rng.choice(answers)
    questions, answers = rng.choice(exchanges()[0])
    question = rng.choice(questions)
    if rng.random() < 0.25:
        question = question.rstrip("?").lower() + rng.choice(("?", "", "!"))
    elif question[-1] not in "?." and rng.random() < 0.5:
        question += rng.choice((".", "!"))
    return question, rng.choice(answers)


def _sum(words: Words) -> tuple[str, str]:
    rng = words.rng
    while True:
        a, b = (
            (rng.randint(0, 20), rng.randint(0, 20))
            if rng.random() < 0.85
            else (rng.randint(1, 99), rng.randint(1, 99))
        )
        sign, name = rng.choice((("+", "plus"), ("-", "minus")))
        if sign == "-" and b > a:
            a, b = b, a
        if (a * 7 + b * 3) % 8 == 0 and a > 9 and not words.held_out:
            continue
        total = a + b if sign == "+" else a - b
        asked = rng.choice(
            ("What is {}?", "{}", "{} = ?", "How much is {}?", "Calculate {}.")
        ).format(f"{a} {rng.choice((sign, name))} {b}")
        return asked, rng.choice((f"{a} {sign} {b} = {total}", f"{a} {name} {b} is {total}."))


def _product(words: Words) -> tuple[str, str]:
    a, b = words.rng.randint(1, 10), words.rng.randint(1, 10)
    sign = words.rng.choice(("times", "x", "*"))
    return f"What is {a} {sign} {b}?", f"{a} times {b} is {a * b}."


def _count(words: Words) -> tuple[str, str]:
    rng = words.rng
    low = rng.randint(0, 30)
    high = low + rng.randint(2, 12)
    if rng.random() < 0.3:
        return f"Count backwards from {high} to {low}.", ", ".join(
            str(n) for n in range(high, low - 1, -1)
        ) + "."
    step = rng.choice((1, 1, 1, 2, 5, 10))
    if step == 1:
        asked = rng.choice(
            ("Count from {} to {}.", "Please count from {} to {}", "count {} to {}")
        ).format(low, high)
        return asked, ", ".join(str(n) for n in range(low, high + 1)) + "."
    high = low + step * rng.randint(2, 8)
    return f"Count from {low} to {high} in steps of {step}.", ", ".join(
        str(n) for n in range(low, high + 1, step)
    ) + "."


_GAINS = (
    "{n} has {a} {t} and gets {b} more. How many {t} does {h} have?",
    "{n} had {a} {t}. Then {h} found {b} more. How many are there now?",
)
_LOSSES = (
    "{n} has {a} {t} and gives away {b}. How many {t} are left?",
    "{n} had {a} {t} but lost {b}. How many does {h} have?",
)
_THINGS = ("apples", "coins", "books", "balls", "nuts", "pears", "cards", "shells", "stamps")


def _word_problem(words: Words) -> tuple[str, str]:
    rng = words.rng
    name, kind = words.person()
    he = "she" if kind == "girl" else "he"
    thing = rng.choice(_THINGS)
    a, b = rng.randint(2, 20), rng.randint(1, 12)
    gains = rng.random() < 0.5
    if not gains:
        b = min(a, b)
    asked = rng.choice(_GAINS if gains else _LOSSES).format(n=name, a=a, b=b, t=thing, h=he)
    result = a + b if gains else a - b
    said = f"{a} {'plus' if gains else 'minus'} {b} is {result}."
    return asked, f"{said} {name} has {result} {thing}."


def _compare(words: Words) -> tuple[str, str]:
    a, b = words.rng.sample(range(1, 200), 2)
    if words.rng.random() < 0.5:
        return f"Which is bigger, {a} or {b}?", f"{max(a, b)} is bigger than {min(a, b)}."
    return f"Which number is smaller, {a} or {b}?", f"{min(a, b)} is smaller than {max(a, b)}."


def _next(words: Words) -> tuple[str, str]:
    rng = words.rng
    if rng.random() < 0.4:
        days = pools()["day"][:7]
        index = rng.randrange(7)
        if rng.random() < 0.5:
            return (
                f"Which day comes after {days[index]}?",
                f"After {days[index]} comes {days[(index + 1) % 7]}.",
            )
        return (
            f"Which day comes before {days[index]}?",
            f"Before {days[index]} comes {days[index - 1]}.",
        )
    if rng.random() < 0.5:
        number = rng.randint(0, 200)
        return f"Which number comes after {number}?", f"After {number} comes {number + 1}."
    number = rng.randrange(len(NUMBER_WORDS))
    return f"Write {number} as a word.", f"{number} is {NUMBER_WORDS[number]}."


def arithmetic(words: Words) -> tuple[str, str]:
    """One question about numbers or days with its answer."""
    makers: tuple[Callable[[Words], tuple[str, str]], ...] = (
        _sum,
        _sum,
        _sum,
        _product,
        _count,
        _count,
        _word_problem,
        _word_problem,
        _compare,
        _next,
    )
    return words.rng.choice(makers)(words)
