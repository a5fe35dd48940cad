"""Conversations as token ids: the plain-Python twin of chat_template.jinja, with a loss mask.

A test renders both and compares, so that training and use see the same characters.
"""

from __future__ import annotations

import json
from typing import Any

from .tokenizer import Tokenizer


def signature(tool: dict[str, Any]) -> str:
    """A tool in one line, as in ``name(a: string, b?: on|off) What it does``."""
    function = tool["function"]
    required = function["parameters"].get("required", [])
    params = []
    for name, schema in function["parameters"].get("properties", {}).items():
        kind = "|".join(schema["enum"]) if schema.get("enum") else schema.get("type", "string")
        params.append(f"{name}{'' if name in required else '?'}: {kind}")
    described = function.get("description")
    return f"{function['name']}({', '.join(params)}){' ' + described if described else ''}"


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """A call as the assistant writes it."""
    written = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {written}}}\n</tool_call>'


def content_of(message: dict[str, Any]) -> str:
    """What stands between a message's header and <|im_end|>."""
    parts = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls", ()):
        parts.append(call_text(call["function"]["name"], call["function"]["arguments"]))
    return "\n".join(parts)


def segments(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces: (text, whether the model must learn to write it)."""
    pieces: list[tuple[str, bool]] = []
    rest = messages
    system = ""
    if messages and messages[0]["role"] == "system":
        system, rest = messages[0]["content"], messages[1:]
    if system or tools:
        listing = "Tools:" + "".join("\n" + signature(tool) for tool in tools) if tools else ""
        joined = "\n".join(part for part in (system, listing) if part)
        pieces.append((f"<|im_start|>system\n{joined}<|im_end|>\n", False))
    for message in rest:
        pieces.append((f"<|im_start|>{message['role']}\n", False))
        learn = message["role"] == "assistant"
        pieces.append((content_of(message) + "<|im_end|>", learn))
        pieces.append(("\n", False))
    return pieces


def render(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], generate: bool = False
) -> str:
    """The whole prompt text; with ``generate`` the assistant's header is added."""
    text = "".join(piece for piece, _ in segments(messages, tools))
    return text + ("<|im_start|>assistant\n" if generate else "")


def encode_chat(
    tokenizer: Tokenizer, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> tuple[list[int], list[bool]]:
    """(ids, learn): one flag per token, true where the assistant wrote it."""
    ids: list[int] = []
    learn: list[bool] = []
    for piece, wanted in segments(messages, tools):
        piece_ids = tokenizer.encode(piece, special=True)
        ids += piece_ids
        learn += [wanted] * len(piece_ids)
    return ids, learn
