"""The corpus: same seed same text, a clean split, calls that fit their schemas and requests."""

from __future__ import annotations

import json
import random
import re
from itertools import islice, pairwise
from pathlib import Path

import pytest
from bundled_model import chat_format, corpus, requests, stories, tool_chats, wording
from bundled_model.intents import held_out_names, intents
from bundled_model.plain import phrase, vocabulary
from bundled_model.tokenizer import SPACE, SPECIALS, Tokenizer, train
from bundled_model.words import Words, held_out_words, is_held_out, pools
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = Path(corpus.__file__).parent


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(FOLDER / "tokenizer.json")


def texts(seed: int, amount: int, held_out: bool = False) -> list[str]:
    return [chat_format.render(*c) for _, c in islice(corpus.stream(seed, held_out), amount)]


def test_same_seed_same_corpus() -> None:
    assert texts(3, 40) == texts(3, 40)
    assert texts(3, 40) != texts(4, 40)


def test_nearly_every_conversation_is_new() -> None:
    found = texts(1, 600)
    assert len(set(found)) > 0.97 * len(found)


@pytest.mark.parametrize("held_out", [False, True])
def test_calls_fit_their_schema_and_copy_from_the_request(held_out: bool) -> None:
    words = Words(random.Random(11), held_out)
    calls = 0
    for _ in range(300):
        messages, tools = tool_chats.tool_chat(words)
        schemas = {t["function"]["name"]: t["function"]["parameters"] for t in tools}
        assert len(schemas) == len(tools)
        for before, message in pairwise(messages):
            for call in message.get("tool_calls", ()):
                calls += 1
                schema = schemas[call["function"]["name"]]
                arguments = call["function"]["arguments"]
                assert set(schema["required"]) <= set(arguments) <= set(schema["properties"])
                for name, value in arguments.items():
                    kind = schema["properties"][name]
                    assert value in kind.get("enum", [value])
                    if kind["type"] == "string":
                        assert value.lower() in before["content"].lower()
    assert calls > 300


def test_training_never_uses_held_out_values_or_phrasings() -> None:
    words = Words(random.Random(5))
    cities = {words.pick("city") for _ in range(2000)}
    assert cities
    assert not any(is_held_out(city) for city in cities)
    held = {
        words_held.pick("city")
        for words_held in [Words(random.Random(6), True)]
        for _ in range(500)
    }
    assert held
    assert not held & cities
    for intent in intents():
        assert not set(intent.ask) & set(intent.held_ask)
        assert not set(intent.names) & set(intent.held_names)
        assert intent.novel or (intent.ask and intent.names and intent.about)
        assert bool(intent.held_ask) != intent.extra
        assert len(intent.ask) == len(set(intent.ask))


def test_plain_words_are_many_and_none_is_held_out() -> None:
    held = {value for values in pools().values() for value in values if is_held_out(value)}
    for kind, least in (("noun", 1000), ("verb", 400), ("adjective", 300), ("measure", 150)):
        words = vocabulary()[kind]
        assert len(set(words)) == len(words) > least
        assert not held & set(words)
        assert not held_out_names() & set(words)
    source = Words(random.Random(4))
    made = {phrase(source, kind) for kind in ("task", "message", "dish") for _ in range(300)}
    assert len(made) > 850
    assert not any(re.search(r"\b[NAP]\b|\bns?\b|\bv\b", text) for text in made)


def test_novel_intents_never_reach_training() -> None:
    novel = {name for intent in intents() if intent.novel for name in intent.names}
    for kind, (_, tools) in islice(corpus.stream(8), 400):
        assert kind
        assert not novel & {t["function"]["name"] for t in tools}


def test_extra_intents_never_reach_the_evaluation() -> None:
    extra = {intent.key for intent in intents() if intent.extra}
    assert len(extra) > 30
    for held_out in (False, True):
        words = Words(random.Random(12), held_out)
        drawn = {d.intent for _ in range(150) for d in tool_chats.toolbox(words, 3)}
        assert bool(drawn & extra) != held_out


def test_no_request_of_the_training_means_two_tools_of_a_box() -> None:
    """So which call is right, and whether one is, can be told from the text."""
    words = Words(random.Random(14))
    refused = called = 0
    for _ in range(400):
        box = tool_chats.toolbox(words, 3)
        groups = [group for group in tool_chats.ALIKE for d in box if d.intent in group]
        assert len(groups) == len(set(groups))
        drawn = tool_chats.clear_request(words, box[0], box)
        nouns = [other.noun for other in box[1:] if drawn.noun]
        if drawn.noun in nouns:
            assert drawn.says_verb()
            called += 1
        asked, answer = tool_chats.misfit(words, box)
        if answer["content"] == requests.NO_TOOL:
            refused += 1
            for known in box:
                hidden = re.search(rf"\b{known.noun}\b", asked["content"]) if known.noun else None
                assert not hidden or known.family not in asked["content"]
    assert refused > 200
    assert called > 5


def test_a_loosened_phrasing_keeps_its_slots_and_telling_words() -> None:
    words = Words(random.Random(15))
    changed = 0
    for intent in intents():
        for ask in intent.ask:
            other = wording.loosened(words, ask)
            changed += other != ask
            assert re.findall(r"[\[{].*?[\]}]", other) == re.findall(r"[\[{].*?[\]}]", ask)
            lost = set(re.findall(r"\w+", ask.lower())) - set(re.findall(r"\w+", other.lower()))
            assert len(lost) <= 1
    assert changed > 1000


def test_stories_name_their_characters_and_end() -> None:
    words = Words(random.Random(2))
    for _ in range(200):
        story = stories.make_story(words)
        assert "{" not in story.text
        assert story.text.count(story.hero) >= 2
        assert story.helper in story.text
        assert story.text[-1] in '.!"'
        for question, answer in story.questions:
            assert question.endswith("?")
            assert "{" not in question + answer


def test_every_slot_of_the_plots_has_a_pool() -> None:
    assert len(stories.plots()) >= 10
    assert all(len(plot.sentences) >= 7 for plot in stories.plots())
    assert {"spot", "glue", "trap"} <= set(pools())


def test_no_kind_of_value_is_defined_twice() -> None:
    lines = [
        line.partition(":")[0]
        for name in ("values.txt", "story_fills.txt")
        for line in (FOLDER / "data" / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert len(lines) == len(set(lines)) == len(pools())


def test_template_renders_what_training_saw() -> None:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((FOLDER / "chat_template.jinja").read_text(encoding="utf-8"))
    for held_out in (False, True):
        for _, (messages, tools) in islice(corpus.stream(21, held_out), 150):
            for generate in (False, True):
                rendered = template.render(
                    messages=messages, tools=tools or None, add_generation_prompt=generate
                )
                assert rendered == chat_format.render(messages, tools, generate)


def test_tokens_decode_to_the_text(tokenizer: Tokenizer) -> None:
    for text in [*texts(31, 60), "Ünïcode – 漢字 🎈\n\n  x", ""]:
        assert tokenizer.decode(tokenizer.encode(text, special=True)) == text


def test_text_cannot_forge_special_tokens(tokenizer: Tokenizer) -> None:
    forged = tokenizer.encode("<|im_end|><tool_call>")
    assert not set(forged) & {tokenizer.ids[name] for name in SPECIALS}


def test_unseen_names_are_cut_alike_in_sentence_and_call(tokenizer: Tokenizer) -> None:
    words = Words(random.Random(77), held_out=True)
    alike = 0
    for _ in range(200):
        name = words.invented(capital=True)
        plain = tokenizer.encode(name)
        alike += tokenizer.encode(" " + name) == [tokenizer.ids["Ġ"], *plain]
    assert alike >= 190


def test_digits_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("20417")) == 5


def test_loss_is_on_the_assistants_words_only(tokenizer: Tokenizer) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
    ]
    ids, learn = chat_format.encode_chat(tokenizer, messages, [])
    assert (
        tokenizer.decode(i for i, wanted in zip(ids, learn, strict=True) if wanted)
        == "Hello!<|im_end|>"
    )


def test_tokenizer_training_learns_the_commonest_pair_first() -> None:
    merges = train(["abab abab abab 11 11 11"] * 3, size=256 + len(SPECIALS) + 3, spaced=1)
    assert merges[0] == ("a", "b")
    assert merges[1] == ("ab", "ab")
    assert merges[2] == ("Ġ", "abab")


def test_no_training_phrasing_is_a_held_out_one_in_other_order() -> None:
    """Nor with other small words around the same telling ones."""
    small = set(re.findall(r"\w+", "the a an to i my me please in of on for at is it you can want"))

    def telling(template: str) -> frozenset[str]:
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", template.lower())
        return frozenset(re.findall(r"[a-z]+", bare)) - small

    for intent in intents():
        for held in intent.held_ask:
            for ask in intent.ask:
                assert sorted(held.lower().split()) != sorted(ask.lower().split())
                if len(telling(held)) > 2:
                    assert telling(ask) != telling(held), (ask, held)


def test_loose_requests_name_no_parameter_but_hold_the_values() -> None:
    words = Words(random.Random(9))
    named = 0
    for _ in range(400):
        drawn = requests.draw_composed(words)
        for value in drawn.arguments.values():
            if isinstance(value, str):
                assert value in drawn.request
        keys = [key.replace("_", " ") for key in drawn.arguments]
        named += all(key in drawn.request for key in keys)
    assert 0.4 < named / 400 < 0.9


def test_held_out_words_have_no_token_with_a_space(tokenizer: Tokenizer) -> None:
    held = held_out_words()
    assert len(held) > 100
    spaced = {right for left, right in tokenizer.merges if left == SPACE}
    assert len(spaced) > 300
    assert not spaced & held
    learned = train([" snow snow" * 50], size=270, spaced=3, never_spaced={"snow"})
    assert (SPACE, "snow") not in learned
    assert (SPACE, "snow") in train([" snow snow" * 50], size=270, spaced=3)
