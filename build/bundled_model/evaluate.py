"""Evaluation of a finished file on held-out templates, names and values.

Calls, stories, questions about stories, sums, and what quantization costs.  Everything is done by
Tilewright itself, from the file: greedy answers on the CPU path, perplexity by its command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import re
from pathlib import Path
from typing import Any

from tilewright.engine.sampling import SamplingParams
from tilewright.serve.chat import ChatModel, LoadOptions
from tilewright.serve.cli import main as tilewright
from tilewright.serve.openai.service import OpenAIService

from .chat_format import call_text, content_of, render
from .requests import NO_TOOL
from .stories import ASK, make_story, story_chat, story_request
from .talk import arithmetic
from .tool_chats import tool_chat
from .words import EVALUATION_SEED, Words

STORY_TOKENS = 150
TEXT_STORIES = 12
"""In the text for the perplexity."""
_CALL = re.compile(r"\A<tool_call>\n(.*)\n</tool_call>\Z", re.DOTALL)


class Writer:
    """Answers conversations with a loaded model, greedily."""

    def __init__(self, model: ChatModel) -> None:
        self.model = model
        self.service = OpenAIService(model)

    async def answer(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], limit: int = 200
    ) -> tuple[str, int]:
        """(text, tokens); tokens == limit means that it did not end.  Nothing constrains it."""
        text, tokens = "", 0
        sampling = SamplingParams(temperature=0.0, max_tokens=limit)
        async for delta in self.model.complete(messages, sampling, tools=tools or None):
            text += delta.text
            tokens = delta.usage.completion_tokens if delta.usage else tokens
        return text, tokens

    async def strict(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The answer through the API with strict tools: a call, if any, keeps to its schema."""
        functions = [{**tool["function"], "strict": True} for tool in tools]
        asked = {
            "messages": messages,
            "tools": [{"type": "function", "function": function} for function in functions],
            "temperature": 0,
            "max_tokens": 120,
        }
        reply = await self.service.handle("POST", "/v1/chat/completions", asked)
        if reply.status != 200:
            raise ValueError(f"The engine refused a request: {reply.body}")
        message = reply.body["choices"][0]["message"]
        made = [call["function"] for call in message.get("tool_calls", ())]
        written = [call_text(call["name"], json.loads(call["arguments"])) for call in made]
        return "\n".join([message["content"] or "", *written]).strip()


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


async def calls(
    writer: Writer, amount: int, kind: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Numbers and samples for ``amount`` single requests: kind "held_out", "known" or "novel"."""
    words = Words(random.Random(EVALUATION_SEED + 7), held_out=kind != "known")
    counts = dict.fromkeys(
        (
            "calls",
            "exact",
            "strict",
            "valid",
            "begun",
            "tool",
            "refused_wrongly",
            "misfits",
            "misfits_right",
            "talk",
            "talk_right",
        ),
        0,
    )
    samples: list[dict[str, Any]] = []
    for _ in range(amount):
        messages, tools = tool_chat(words, novel=kind == "novel", turns=1)
        expected = content_of(messages[-1])
        text, _ = await writer.answer(messages[:-1], tools)
        wanted = parse_call(expected)
        right = text == expected
        if wanted is None:
            sort = "misfits" if expected == NO_TOOL else "talk"
            counts[sort] += 1
            counts[f"{sort}_right"] += right
        else:
            got = parse_call(text)
            right = got == wanted
            counts["strict"] += parse_call(await writer.strict(messages[:-1], tools)) == wanted
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
    total = counts["calls"]
    return {
        "requests": total,
        "exact_percent": percent(counts["exact"], total),
        "exact_with_strict_tools_percent": percent(counts["strict"], total),
        "valid_json_percent": percent(counts["valid"], counts["begun"]),
        "right_tool_percent": percent(counts["tool"], total),
        "wrongly_refused_percent": percent(counts["refused_wrongly"], total),
        "misfit_requests": counts["misfits"],
        "misfits_refused_percent": percent(counts["misfits_right"], counts["misfits"]),
        "small_talk_requests": counts["talk"],
        "small_talk_exact_percent": percent(counts["talk_right"], counts["talk"]),
    }, samples


def percent(part: float, whole: float) -> float:
    """Part of a whole in percent; 0 of an empty one."""
    return round(100 * part / whole, 1) if whole else 0.0


def strangers(text: str, known: set[str]) -> set[str]:
    """Names in a story that were neither asked for nor introduced as "named X" or "called X"."""
    introduced = known | set(re.findall(r"\b(?:named|called) (\w+)", text))
    inside = re.findall(r"(?<![.!?\"”] )(?<!\A)(?<!\")\b([A-Z]\w+)", text)
    return {
        word for word in inside if word not in introduced and word not in ("Sunday", "Everybody")
    }


async def stories(writer: Writer, amount: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How many stories end within 150 tokens and keep to the characters asked for."""
    words = Words(random.Random(EVALUATION_SEED + 8), held_out=True)
    counts = dict.fromkeys(("end", "keep", "hero", "good"), 0)
    lengths = []
    samples = []
    for _ in range(amount):
        story = make_story(words)
        request = story_request(words, story)
        text, length = await writer.answer([{"role": "user", "content": request}], [])
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


async def questions(writer: Writer, amount: int) -> dict[str, Any]:
    """Exact answers to questions about given stories, and to sums."""
    words = Words(random.Random(EVALUATION_SEED + 9), held_out=True)
    asked = right = sums = sums_right = 0
    for _ in range(amount):
        messages = story_chat(words)
        if len(messages) >= 4:
            asked += 1
            text, _ = await writer.answer(messages[:3], [], 60)
            right += text == messages[3]["content"]
        question, answer = arithmetic(words)
        sums += 1
        number = re.findall(r"\d+", answer)[-1:] or [answer]
        got, _ = await writer.answer([{"role": "user", "content": question}], [], 60)
        sums_right += (re.findall(r"\d+", got)[-1:] or [got]) == number
    return {
        "story_questions": asked,
        "story_questions_exact_percent": round(100 * right / max(asked, 1), 1),
        "number_questions": sums,
        "number_questions_right_percent": round(100 * sums_right / max(sums, 1), 1),
    }


async def _answers(path: Path, requests: int) -> dict[str, Any]:
    model = await ChatModel.load(path, options=LoadOptions(backend="wasm"))
    try:
        writer = Writer(model)
        held_out, call_samples = await calls(writer, requests, "held_out")
        known, _ = await calls(writer, requests // 4, "known")
        novel, novel_samples = await calls(writer, requests // 5, "novel")
        told, story_samples = await stories(writer, max(requests // 8, 10))
        answered = await questions(writer, max(requests // 4, 10))
    finally:
        await model.close()
    return {
        "calls_held_out": held_out,
        "calls_known_templates": known,
        "calls_novel_intents": novel,
        "stories": told,
        "questions": answered,
        "samples": [
            *_mixed(call_samples, 8),
            *_mixed(novel_samples, 4),
            *_mixed(story_samples, 8),
        ],
    }


def evaluate(path: Path, requests: int, formats: list[Path], folder: Path) -> dict[str, Any]:
    """All numbers of one file, with 20 samples, good and bad ones as far as there are any.

    ``formats`` are files of the same weights, whose perplexity on a held-out text (written into
    ``folder``) tells what quantization costs.
    """
    text = folder / "held_out.txt"
    text.write_text(held_out_text(), encoding="utf-8")
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "perplexity": {each.stem: perplexity(each, text) for each in formats},
        **asyncio.run(_answers(path, requests)),
    }


def held_out_text() -> str:
    """Stories of held-out characters as the chat template writes them."""
    words = Words(random.Random(EVALUATION_SEED + 10), held_out=True)
    asked = {"role": "user", "content": ASK[0]}
    told = [make_story(words).text for _ in range(TEXT_STORIES)]
    return "".join(render([asked, {"role": "assistant", "content": text}], []) for text in told)


def perplexity(path: Path, text: Path) -> float:
    """What ``tilewright perplexity`` says on the CPU path, per token in windows of 256."""
    said = io.StringIO()
    options = ["--special", "--window", "256", "--backend", "wasm"]
    with contextlib.redirect_stdout(said):
        status = tilewright(["perplexity", str(path), str(text), *options])
    if status:
        raise ValueError(f"tilewright perplexity failed on {path}: {said.getvalue()}")
    return round(float(json.loads(said.getvalue())["perplexity"]), 4)


def _mixed(samples: list[dict[str, Any]], amount: int) -> list[dict[str, Any]]:
    """Half wrong ones (if there are so many), the rest right."""
    wrong = [s for s in samples if not s["right"]][: amount // 2]
    return [*wrong, *[s for s in samples if s["right"]][: amount - len(wrong)]]
