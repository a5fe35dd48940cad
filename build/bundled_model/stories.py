"""Short stories from plots.txt, and questions about them.

A story has characters, a place, a problem, a cause and an ending.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from .words import DATA, Words, pools

ASK = (
    "Tell me a story.",
    "Tell me a short story",
    "Write a story.",
    "A story, please",
    "I want to hear a story.",
    "Can you tell me a story?",
    "Please tell me a bedtime story.",
)
ASK_ABOUT = (
    "Tell me a story about {}.",
    "Write a short story about {}.",
    "Can you tell a story about {}?",
    "A story about {}, please.",
    "I want to hear a story about {}.",
    "Make up a story with {}",
    "story about {}",
    "Please write a story with {}.",
    "Tell a tale about {}",
)
HELD_ASK_ABOUT = (
    "Invent a story about {}.",
    "Could I have a short tale with {}?",
    "Please tell me something about {}, a story.",
)
_PRONOUNS = {"girl": ("she", "her", "her"), "boy": ("he", "him", "his")}
_FILLS = re.findall(
    r"\w+",
    "spot calm cake ing both care plant light pl2 glue gift skill obstacle tool alone trap",
)


@dataclass
class Plot:
    """One block of plots.txt: variants for each sentence, and questions with their answers."""

    name: str
    sentences: list[list[str]] = field(default_factory=list)
    questions: list[tuple[list[str], str]] = field(default_factory=list)


@dataclass
class Story:
    """A finished story: text, the names and things in it, and questions with answers."""

    text: str
    hero: str
    helper: str
    hero_intro: str
    helper_intro: str
    thing: str
    place: str
    questions: list[tuple[str, str]]


@cache
def plots() -> tuple[Plot, ...]:
    """All plots of plots.txt."""
    found: list[Plot] = []
    for line in (DATA / "plots.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("plot "):
            found.append(Plot(line[5:].strip()))
        elif line.startswith("= "):
            found[-1].sentences.append([variant.strip() for variant in line[2:].split("|")])
        elif line.startswith("q "):
            asked, _, answer = line[2:].partition("=>")
            found[-1].questions.append(([q.strip() for q in asked.split("|")], answer.strip()))
    return tuple(found)


def with_article(noun: str) -> str:
    """The noun with its article: a fox, an owl."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _articles(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])(?!one\b|unicorn)", r"\1n ", text)


def _character(words: Words) -> tuple[str, str, str, tuple[str, str, str]]:
    """(name, kind as a noun, introduction, pronouns)."""
    rng = words.rng
    trait = words.any("trait") + " " if rng.random() < 0.6 else ""
    if rng.random() < 0.5:
        name, kind = words.person()
        noun, pronouns = kind, _PRONOUNS[kind]
    else:
        noun = words.any("creature")
        gender = rng.choice(("girl", "boy"))
        name = words.pick("petname" if rng.random() < 0.5 else gender)
        if rng.random() < 0.2:
            name = words.invented(True)
        pronouns = _PRONOUNS[gender]
    joiner = rng.choice(("named", "named", "called"))
    return name, noun, _articles(f"a {trait}{noun} {joiner} {name}"), pronouns


def make_story(words: Words) -> Story:
    """One story with everything a question about it needs."""
    rng = words.rng
    plot = rng.choice(plots())
    hero, hero_kind, hero_intro, (he, him, his) = _character(words)
    while True:
        helper, helper_kind, helper_intro, (hhe, hhim, hhis) = _character(words)
        if helper != hero and helper_kind != hero_kind:
            break
    fills = {
        "A": hero_intro,
        "N": hero,
        "B": helper_intro,
        "H": helper,
        "K": hero_kind,
        "J": helper_kind,
        "he": he,
        "him": him,
        "his": his,
        "hhe": hhe,
        "hhim": hhim,
        "hhis": hhis,
        "A0": with_article(hero_kind),
        "o": words.any("object"),
        "f": words.any("food"),
        "pl": words.any("place"),
    }
    fills |= {kind: words.any(kind) for kind in _FILLS} | {"day": words.any("daytime")}

    def fill(template: str) -> str:
        def value(match: re.Match[str]) -> str:
            key = match[1]
            if key in fills:
                return fills[key]
            text = fills[key[0].lower() + key[1:]]
            return text[0].upper() + text[1:]

        text = _articles(re.sub(r"\{(\w+)\}", value, template))
        return re.sub(r'^("?)([a-z])', lambda m: m[1] + m[2].upper(), text)

    text = " ".join(fill(rng.choice(variants)) for variants in plot.sentences)
    asked = []
    for forms, answer in plot.questions:
        if plot.name == "storm" and answer.startswith("They saw"):
            answer = (
                "They saw a rainbow."
                if "rainbow" in text
                else "The sun came out."
                if "sun" in text
                else "The air smelled fresh."
            )
        asked.append((fill(rng.choice(forms)), fill(answer)))
    generic = [
        (
            "Who is the story about?",
            f"The story is about {hero} the {hero_kind} and {helper} the {helper_kind}.",
        ),
        (f"What kind of creature is {hero}?", f"{hero} is {with_article(hero_kind)}."),
        (f"Who is {helper}?", f"{helper} is {with_article(helper_kind)}."),
    ]
    if fills["pl"] in text or fills["pl"][0].upper() + fills["pl"][1:] in text:
        generic.append(("Where did the story take place?", f"It took place {fills['pl']}."))
    asked.append(rng.choice(generic))
    thing = fills["o"] if fills["o"] in text else ""
    return Story(text, hero, helper, hero_intro, helper_intro, thing, fills["pl"], asked)


def story_request(words: Words, story: Story) -> str:
    """A request that this story answers: open, or naming characters, a thing, or the place."""
    rng = words.rng
    if rng.random() < 0.12:
        return rng.choice(ASK)
    subjects = [story.hero_intro]
    if rng.random() < 0.35:
        subjects[0] = story.hero
    kind = rng.random()
    if kind < 0.35:
        subjects.append(rng.choice((story.helper_intro, story.helper)))
    elif kind < 0.55 and story.thing:
        subjects.append(with_article(story.thing))
    about = " and ".join(subjects)
    if rng.random() < 0.15 and (
        story.place in story.text or story.place.capitalize() in story.text
    ):
        about += " " + story.place
    template = rng.choice(HELD_ASK_ABOUT if words.held_out and rng.random() < 0.5 else ASK_ABOUT)
    return template.format(about)


def story_chat(words: Words) -> list[dict[str, str]]:
    """A story on request, then up to four questions about it."""
    rng = words.rng
    story = make_story(words)
    messages = [
        {"role": "user", "content": story_request(words, story)},
        {"role": "assistant", "content": story.text},
    ]
    for question, answer in rng.sample(story.questions, rng.choice((0, 1, 2, 3, 4))):
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    if rng.random() < 0.05:
        messages += [
            {"role": "user", "content": "Thank you!"},
            {"role": "assistant", "content": "You are welcome!"},
        ]
    return messages


def all_names() -> frozenset[str]:
    """Every first name that training or evaluation may use (to spot a stranger in a story)."""
    return frozenset(pools()["girl"] + pools()["boy"] + pools()["petname"])
