"""Conversations with tools: requests, calls, results, and requests that no tool fits."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from .intents import Intent, intents
from .requests import (
    NO_TOOL,
    Drawn,
    draw_composed,
    draw_intent,
    is_tool_word,
    tool_word,
)
from .talk import small_talk
from .words import Words, pools, synonyms

Message = dict[str, Any]

SYSTEM_PROMPTS = (
    "",
    "",
    "You are a helpful assistant.",
    "You call functions.",
    "Use the tools.",
    "Be brief.",
)


MISFITS = 0.25
"""Share of requests that no tool fits, where the caller does not say."""
SIZES = (1, 2, 3, 3, 4, 4)
"""Numbers of tools in a box, drawn evenly."""
NEAR, NEAR_IN_TRAINING = 0.4, 0.3
"""Share of the misfits that have a verb or a noun with one of the tools in common."""
COMPOSED = 0.45
COMPOSED_IN_TRAINING = 0.4
"""Share of composed tools."""
EXTRA = 0.5
"""Share of the training's everyday tools whose intents the evaluation does not have."""


@cache
def _kinds_of_intents(novel: bool, extra: bool) -> list[Intent]:
    return [i for i in intents() if i.novel == novel and i.extra == extra]


def _fresh(words: Words, novel: bool = False) -> Drawn:
    """A tool with a request: an intent, a composed tool, or (evaluation only) a novel intent."""
    share = COMPOSED if words.held_out else COMPOSED_IN_TRAINING
    if words.rng.random() < share and not novel:
        return draw_composed(words)
    extra = not words.held_out and words.rng.random() < EXTRA
    return draw_intent(words, words.rng.choice(_kinds_of_intents(novel, extra)))


def _near_miss(words: Words, drawn: Drawn) -> Drawn | None:
    """A composed tool with the verb or the noun of ``drawn``, so that both must be read."""
    parts = drawn.tool["function"]["name"].split("_")
    if len(parts) != 2 or drawn.family != drawn.tool["function"]["name"]:
        return None
    verb, noun = parts
    if not is_tool_word(verb, "verb") or not is_tool_word(noun, "noun"):
        return None
    if words.rng.random() < 0.5:
        return draw_composed(words, verb=verb, noun=tool_word(words, "noun"))
    return draw_composed(words, verb=tool_word(words, "verb"), noun=noun)


def _name(drawn: Drawn) -> str:
    return str(drawn.tool["function"]["name"])


def toolbox(words: Words, size: int, novel: bool = False) -> list[Drawn]:
    """``size`` tools with different names and of different families."""
    box: list[Drawn] = []
    while len(box) < size:
        drawn = _fresh(words, novel and not box)
        if box and words.rng.random() < 0.3:
            drawn = _near_miss(words, words.rng.choice(box)) or drawn
        taken = {_name(other) for other in box} | {other.family for other in box}
        alike = not words.held_out and any(_alike(drawn, other) for other in box)
        if not alike and _name(drawn) not in taken and drawn.family not in taken:
            box.append(drawn)
    return box


def call_message(drawn: Drawn) -> Message:
    """The assistant's call of this tool, in the OpenAI form."""
    function = {"name": _name(drawn), "arguments": drawn.arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": function}],
    }


def _result(words: Words) -> tuple[str, str]:
    """(what a tool answers, what the assistant says then)."""
    rng = words.rng
    form = rng.random()
    if form < 0.4:
        return rng.choice(("ok", "done", '{"ok": true}', '{"status": "ok"}', "true")), "Done."
    if form < 0.5:
        reason = rng.choice(
            ("no network", "not found", "timeout", "busy", "not allowed", words.invented())
        )
        return json.dumps({"error": reason}), f"That did not work: {reason}."
    pairs: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 2))):
        key = rng.choice((*pools()["toolparam_int"], "result", "answer", "sky", "state"))
        pairs[key] = rng.choice(
            (rng.randint(0, 200), words.pick("adjective"), words.pick("color"), words.invented())
        )
    said = " and ".join(f"the {key} is {value}" for key, value in pairs.items())
    return json.dumps(pairs), said[0].upper() + said[1:] + "."


ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "shopping cart order_food price budget recipe remove_item",
        "open_page open_app open_file search print",
        "fill_field filter_table press_button setting login",
        "player device_power stopwatch timer",
        "translate define rhyme language",
        "note todo reminder send_message say comment",
        "calendar doctor restaurant agenda days invite",
        "search news fact define",
        "volume screen light_level zoom blinds font_size",
        "play_song play_genre movie",
        "robot_move scroll drone",
        "call block voicemail add_contact",
        "train_ticket bus taxi flight route",
        "robot_grab gripper draw",
        "thermostat seat weather",
        "score game workout quiz",
        "set_color light_color set_theme",
        "convert_unit convert_money calculate",
        "send_message email share_file invite",
        "delete_file remove_item hide_column go_back",
        "coupon define delivery",
        "done_task note",
    )
)
"""Intents that people ask for in like words, though their families differ."""


def _alike(one: Drawn, other: Drawn) -> bool:
    """Whether a request for one everyday tool may well mean the other."""
    return any(one.intent in group and other.intent in group for group in ALIKE)


def _ambiguous(drawn: Drawn, box: list[Drawn]) -> bool:
    """Whether a composed tool's request could as well mean another tool of the box.

    So it is where the noun is the same and the request does not say the verb, or says one that
    means the same.
    """
    if not drawn.noun:
        return False
    for other in box:
        if other is drawn or other.noun != drawn.noun or other.family == drawn.family:
            continue
        meant = {other.verb, *synonyms().get(other.verb, ())}
        if not drawn.says_verb() or meant & {drawn.verb, *synonyms().get(drawn.verb, ())}:
            return True
    return False


def clear_request(words: Words, drawn: Drawn, box: list[Drawn]) -> Drawn:
    """Another request for ``drawn``; in training one that means no other tool of the box."""
    asked = drawn.again()
    for _ in range(0 if words.held_out else 20):
        if not _ambiguous(asked, box):
            break
        asked = drawn.again()
    return asked


def tool_chat(
    words: Words,
    novel: bool = False,
    turns: int | None = None,
    misfits: float = MISFITS,
    sizes: tuple[int, ...] = SIZES,
) -> tuple[list[Message], list[dict[str, Any]]]:
    """One conversation over a toolbox of one to four tools.

    Returns (messages, tools).  A share of ``misfits`` of the requests fits no tool.
    """
    rng = words.rng
    size = rng.choice(sizes)
    box = toolbox(words, size, novel)
    tools = [drawn.tool for drawn in box]
    order = list(range(size))
    rng.shuffle(order)
    tools = [tools[index] for index in order]
    messages: list[Message] = []
    system = rng.choice(SYSTEM_PROMPTS)
    if system:
        messages.append({"role": "system", "content": system})
    for _ in range(turns or rng.choice((2, 3, 4, 5))):
        drawn = clear_request(words, box[0] if novel else rng.choice(box), box)
        if not novel and rng.random() < misfits:
            messages += misfit(words, box)
            continue
        messages += [{"role": "user", "content": drawn.request}, call_message(drawn)]
        if rng.random() < 0.15 and turns is None:
            answer, comment = _result(words)
            messages += [
                {"role": "tool", "content": answer},
                {"role": "assistant", "content": comment},
            ]
    return messages, tools


def misfit(words: Words, box: list[Drawn]) -> list[Message]:
    """A request that none of these tools fits, or a little talk among the calls."""
    if words.rng.random() < 0.2:
        question, answer = small_talk(words)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    families = {drawn.family for drawn in box} | {_name(drawn) for drawn in box}
    while True:
        near = words.rng.random() < (NEAR if words.held_out else NEAR_IN_TRAINING)
        other = _near_miss(words, words.rng.choice(box)) if near else None
        other = other or _fresh(words)
        unclear = _ambiguous(other, box) or any(_alike(other, drawn) for drawn in box)
        if unclear and not words.held_out:
            continue
        if other.family not in families and _name(other) not in families:
            return [
                {"role": "user", "content": other.request},
                {"role": "assistant", "content": NO_TOOL},
            ]


def copy_chat(words: Words) -> tuple[list[Message], list[dict[str, Any]]]:
    """Copying in its purest form: repeat, and find one of many (for early training)."""
    rng = words.rng
    messages: list[Message] = []
    for _ in range(rng.randint(2, 4)):
        form = rng.random()
        if form < 0.5:
            parts = [
                rng.choice(
                    (
                        words.invented,
                        words.letters,
                        lambda: words.invented(True),
                        lambda: words.person()[0],
                        lambda: str(rng.randint(0, 9999)),
                        lambda: words.pick("task"),
                    )
                )()
                for _ in range(rng.randint(1, 5))
            ]
            text = " ".join(parts)
            question = rng.choice(
                ("Repeat: {}", "Say {}", 'Please say "{}".', "Write {}", "Copy this: {}")
            ).format(text)
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": text},
            ]
            continue
        pairs = {
            words.invented(): rng.choice(
                (words.invented, words.letters, lambda: str(rng.randint(0, 999)))
            )()
            for _ in range(rng.randint(2, 5))
        }
        key = rng.choice(list(pairs))
        listing = ", ".join(f"{k} is {v}" for k, v in pairs.items())
        question = f"{listing}. What is {key}?"
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": pairs[key]},
        ]
    return messages, []
