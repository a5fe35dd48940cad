"""Evaluation of a finished file on held-out templates, names and values.

Calls, stories, questions about stories, and sums.

Everything is generated greedily from the dequantized weights, so it says what the file does, not
what training hoped.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from .batches import IGNORED, collate
from .chat_format import content_of, render
from .export import load
from .model import Model
from .requests import NO_TOOL
from .scoring import EVALUATION_SEED, Row, held_out_chats, score
from .stories import make_story, story_chat, story_request
from .talk import arithmetic
from .tokenizer import Tokenizer
from .tool_chats import tool_chat
from .words import Words

STORY_TOKENS = 150
_CALL = re.compile(r"\A<tool_call>\n(.*)\n</tool_call>\Z", re.DOTALL)


class Writer:
    """Answers conversations with a model."""

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.stop = {tokenizer.ids["<|im_end|>"], tokenizer.ids["<|endoftext|>"]}

    def answer(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], limit: int = 200
    ) -> tuple[str, int]:
        """(text, tokens); tokens == limit means that it did not end."""
        prompt = self.tokenizer.encode(render(messages, tools, generate=True), special=True)
        ids = self.model.generate(prompt, self.stop, limit)
        return self.tokenizer.decode(ids), len(ids)


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """(name, arguments) of a well-formed call, or None."""
    match = _CALL.match(text)
    try:
        call = json.loads(match[1]) if match else None
    except json.JSONDecodeError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("arguments"), dict):
        return None
    return str(call.get("name")), call["arguments"]


def calls(writer: Writer, amount: int, kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Numbers and samples for ``amount`` single requests: kind "held_out", "known" or "novel"."""
    words = Words(random.Random(EVALUATION_SEED + 7), held_out=kind != "known")
    counts = dict.fromkeys(
        ("calls", "exact", "valid", "begun", "tool", "refused_wrongly", "misfits", "misfits_right"),
        0,
    )
    samples: list[dict[str, Any]] = []
    for _ in range(amount):
        messages, tools = tool_chat(words, novel=kind == "novel", turns=1)
        expected = content_of(messages[-1])
        text, _ = writer.answer(messages[:-1], tools)
        wanted = parse_call(expected)
        right = text == expected
        if wanted is None:
            counts["misfits"] += 1
            counts["misfits_right"] += right
        else:
            got = parse_call(text)
            right = got == wanted
            counts["calls"] += 1
            counts["exact"] += right
            counts["begun"] += "<tool_call>" in text
            counts["valid"] += got is not None
            counts["tool"] += got is not None and got[0] == wanted[0]
            counts["refused_wrongly"] += text == NO_TOOL
        samples.append(
            {
                "right": right,
                "prompt": render(messages[:-1], tools),
                "expected": expected,
                "answer": text,
            }
        )
    total, misfits = max(counts["calls"], 1), max(counts["misfits"], 1)
    return {
        "requests": counts["calls"],
        "exact_percent": round(100 * counts["exact"] / total, 1),
        "valid_json_percent": round(100 * counts["valid"] / max(counts["begun"], 1), 1),
        "right_tool_percent": round(100 * counts["tool"] / total, 1),
        "wrongly_refused_percent": round(100 * counts["refused_wrongly"] / total, 1),
        "misfit_requests": counts["misfits"],
        "misfits_refused_percent": round(100 * counts["misfits_right"] / misfits, 1),
    }, samples


def strangers(text: str, known: set[str]) -> set[str]:
    """Names in a story that were neither asked for nor introduced as "named X" or "called X"."""
    introduced = known | set(re.findall(r"\b(?:named|called) (\w+)", text))
    inside = re.findall(r"(?<![.!?\"”] )(?<!\A)(?<!\")\b([A-Z]\w+)", text)
    return {
        word for word in inside if word not in introduced and word not in ("Sunday", "Everybody")
    }


def stories(writer: Writer, amount: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How many stories end within 150 tokens and keep to the characters asked for."""
    words = Words(random.Random(EVALUATION_SEED + 8), held_out=True)
    counts = dict.fromkeys(("end", "keep", "hero", "good"), 0)
    lengths = []
    samples = []
    for _ in range(amount):
        story = make_story(words)
        request = story_request(words, story)
        text, length = writer.answer([{"role": "user", "content": request}], [])
        asked = {name for name in (story.hero, story.helper) if name in request}
        ends = length <= STORY_TOKENS and text.endswith((".", "!", '"', "?"))
        keeps = not strangers(text, asked)
        present = all(len(re.findall(rf"\b{re.escape(name)}\b", text)) >= 2 for name in asked)
        counts["end"] += ends
        counts["keep"] += keeps
        counts["hero"] += present
        counts["good"] += ends and keeps and present
        lengths.append(length)
        samples.append({"right": ends and keeps and present, "prompt": request, "answer": text})
    return {
        "stories": amount,
        "end_within_150_tokens_percent": round(100 * counts["end"] / amount, 1),
        "no_stranger_percent": round(100 * counts["keep"] / amount, 1),
        "asked_characters_stay_percent": round(100 * counts["hero"] / amount, 1),
        "all_three_percent": round(100 * counts["good"] / amount, 1),
        "mean_tokens": round(sum(lengths) / amount, 1),
    }, samples


def questions(writer: Writer, amount: int) -> dict[str, Any]:
    """Exact answers to questions about given stories, and to sums."""
    words = Words(random.Random(EVALUATION_SEED + 9), held_out=True)
    asked = right = sums = sums_right = 0
    for _ in range(amount):
        messages = story_chat(words)
        if len(messages) >= 4:
            asked += 1
            right += writer.answer(messages[:3], [], 60)[0] == messages[3]["content"]
        question, answer = arithmetic(words)
        sums += 1
        number = re.findall(r"\d+", answer)[-1:] or [answer]
        got, _ = writer.answer([{"role": "user", "content": question}], [], 60)
        sums_right += (re.findall(r"\d+", got)[-1:] or [got]) == number
    return {
        "story_questions": asked,
        "story_questions_exact_percent": round(100 * right / max(asked, 1), 1),
        "number_questions": sums,
        "number_questions_right_percent": round(100 * sums_right / max(sums, 1), 1),
    }


def evaluate(path: Path, requests: int) -> dict[str, Any]:
    """All numbers of one file, with 20 samples, good and bad ones as far as there are any."""
    torch.set_num_threads(2)
    model, tokenizer = load(path)
    writer = Writer(model, tokenizer)
    held_out, call_samples = calls(writer, requests, "held_out")
    novel, novel_samples = calls(writer, requests // 5, "novel")
    told, story_samples = stories(writer, max(requests // 8, 10))
    samples = [
        *_mixed(call_samples, 8),
        *_mixed(novel_samples, 4),
        *_mixed(story_samples, 8),
    ]
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out_loss": score(
            model, held_out_chats(tokenizer, 160), torch.device("cpu"), exact_arithmetic=True
        ),
        "calls_held_out": held_out,
        "calls_known_templates": calls(writer, requests // 4, "known")[0],
        "calls_novel_intents": novel,
        "stories": told,
        "questions": questions(writer, max(requests // 4, 10)),
        "perplexity_by_file": perplexities(sorted(path.parent.glob("tiny-*.gguf"))),
        "samples": samples,
    }


def perplexities(paths: list[Path]) -> dict[str, float]:
    """Perplexity per learned token (the assistant's) of held-out conversations, by file."""
    found = {}
    for path in paths:
        model, tokenizer = load(path)
        rows = held_out_chats(tokenizer, 24)
        total = count = 0.0
        for scores in score_rows(model, rows):
            total, count = total + sum(scores), count + len(scores)
        found[path.stem] = round(math.exp(total / count), 4)
    return found


def score_rows(model: Model, rows: list[Row]) -> Iterator[list[float]]:
    """The losses of each conversation's tokens, in f32."""
    for _, ids, learn in rows:
        inputs, targets = collate([(ids, learn)])
        with torch.no_grad():
            logits = model.logits(model(inputs))[0]
        wanted = targets[0] != IGNORED
        yield functional.cross_entropy(
            logits[wanted], targets[0][wanted], reduction="none"
        ).tolist()


def _mixed(samples: list[dict[str, Any]], amount: int) -> list[dict[str, Any]]:
    """Half wrong ones (if there are so many), the rest right."""
    wrong = [s for s in samples if not s["right"]][: amount // 2]
    return [*wrong, *[s for s in samples if s["right"]][: amount - len(wrong)]]
