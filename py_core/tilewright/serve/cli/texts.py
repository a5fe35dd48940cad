"""``tilewright tokenize``, ``detokenize`` and ``render``: text without a GPU."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import InvalidRequestError, TemplateError
from ...formats.open import open_model
from ...text.chat_template import ChatTemplate
from ...text.tokenizer import Tokenizer
from ..chat import load_template, load_tokenizer
from . import options


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    tokenize = commands.add_parser("tokenize", help="text on standard input -> JSON ids")
    tokenize.add_argument("model", metavar="MODEL")
    tokenize.add_argument(
        "--special", action="store_true", help="recognise special tokens in the text"
    )
    tokenize.add_argument(
        "--add-special", action="store_true", help="add BOS/EOS as the model does"
    )
    tokenize.add_argument(
        "--jsonl",
        action="store_true",
        help='one {"text", "parse_special"} a line in, one {"ids"} a line out',
    )
    tokenize.set_defaults(run=_tokenize)
    detokenize = commands.add_parser("detokenize", help="JSON ids on standard input -> text")
    detokenize.add_argument("model", metavar="MODEL")
    detokenize.add_argument("--jsonl", action="store_true", help="one list of ids a line")
    detokenize.set_defaults(run=_detokenize)
    render = commands.add_parser("render", help="messages -> the prompt of a chat template")
    render.add_argument("model", metavar="MODEL|TEMPLATE", help="a model, or a .jinja file")
    render.add_argument("--messages", metavar="FILE", help="JSON list of messages; - for stdin")
    render.add_argument("--tools", metavar="FILE", help="JSON list of tool schemas")
    render.add_argument(
        "--jsonl", action="store_true", help="one case a line on standard input, one result a line"
    )
    render.set_defaults(run=_render)


async def _tokenizer(path: str) -> Tokenizer:
    file = await open_model(await options.local_path(path))
    try:
        return load_tokenizer(file)
    finally:
        file.close()


async def _tokenize(arguments: argparse.Namespace) -> None:
    from . import print_json

    tokenizer = await _tokenizer(arguments.model)
    if not arguments.jsonl:
        print_json(
            tokenizer.encode(
                sys.stdin.buffer.read(),
                parse_special=arguments.special,
                add_special=arguments.add_special,
            )
        )
        return
    for case in _lines():
        text = case["text"] if isinstance(case, dict) else case
        special = case.get("parse_special", arguments.special) if isinstance(case, dict) else False
        ids = tokenizer.encode(text, parse_special=bool(special), add_special=arguments.add_special)
        print_json({"ids": ids})


async def _detokenize(arguments: argparse.Namespace) -> None:
    from . import print_json

    tokenizer = await _tokenizer(arguments.model)
    if arguments.jsonl:
        for case in _lines():
            print_json({"text": tokenizer.decode(case["ids"] if isinstance(case, dict) else case)})
        return
    ids = _parse(sys.stdin.read(), "standard input")
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise InvalidRequestError("Standard input must be a JSON list of token ids.")
    sys.stdout.buffer.write(tokenizer.decode_bytes(ids))
    sys.stdout.buffer.flush()


async def _render(arguments: argparse.Namespace) -> None:
    if arguments.jsonl:
        await _render_lines(arguments)
        return
    if not arguments.messages:
        raise InvalidRequestError("Give --messages FILE (or --jsonl with cases on standard input).")
    messages = _parse(options.read_text(arguments.messages), arguments.messages)
    tools = _parse(options.read_text(arguments.tools), arguments.tools) if arguments.tools else None
    template = await _template(arguments.model, {})
    print(template.render(messages, tools=tools), end="", flush=True)


async def _render_lines(arguments: argparse.Namespace) -> None:
    """Render cases of the reference data's form; a failure is a result, not the end."""
    from . import print_json

    loaded: dict[tuple[str, str, str], ChatTemplate] = {}
    for case in _lines():
        path = Path(arguments.model)
        if path.is_dir() and "template" in case:
            path = path / str(case["template"])
        key = (str(path), str(case.get("bos_token", "")), str(case.get("eos_token", "")))
        try:
            if key not in loaded:
                loaded[key] = await _template(key[0], case)
            now = case.get("strftime_now")
            rendered = loaded[key].render(
                case["messages"],
                tools=case.get("tools"),
                add_generation_prompt=bool(case.get("add_generation_prompt", True)),
                now=datetime.fromisoformat(now) if isinstance(now, str) else None,
                **(case.get("extra_kwargs") or {}),
            )
        except TemplateError as error:
            print_json({"error": error.message, "code": error.code})
        else:
            print_json({"rendered": rendered})


async def _template(path: str, case: dict[str, Any]) -> ChatTemplate:
    if path.endswith((".jinja", ".jinja2", ".txt")):
        return ChatTemplate(
            options.read_text(path),
            bos_token=str(case.get("bos_token") or ""),
            eos_token=str(case.get("eos_token") or ""),
        )
    file = await open_model(await options.local_path(path))
    try:
        template = load_template(file, load_tokenizer(file))
    finally:
        file.close()
    if template is None:
        raise TemplateError(f"{path} has no chat template.")
    return template


def _lines() -> Any:
    for number, line in enumerate(sys.stdin.buffer, 1):
        if line.strip():
            yield _parse(line.decode("utf-8", errors="surrogatepass"), f"line {number}")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{where} is not JSON: {error}.") from error
